package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// contradicts notes where a limit of the same file would reject what a rule asks for, so that its alarm did nothing. Both
// lines are named.
func (d *decoder) contradicts(at string, p trigger.Preempt, l Limits) {
	if len(l.AllowedTags) > 0 && p.Tag != "" && !slices.Contains(l.AllowedTags, p.Tag) {
		d.add(d.lineOf(at+".tag", at), at+".tag", "%q is not among limits.allowedTags in line %d, so that the alarm would be rejected; allow the tag, or name another",
			p.Tag, d.lines["limits.allowedTags"])
	}
	for _, colour := range []string{"yellow", "red"} {
		c := p.Criticality(colour)
		if l.MaxCriticality == "" || c == trigger.None || c.Rank() <= l.MaxCriticality.Rank() {
			continue
		}
		key := at + ".criticality." + colour
		d.add(d.lineOf(key, at+".criticality", at), key,
			"%s means %s, which is above limits.maxCriticality %s in line %d, so that the alarm would be rejected; write criticality: {%s: %s}, or raise the limit",
			colour, c, l.MaxCriticality, d.lines["limits.maxCriticality"], colour, l.MaxCriticality)
	}
}

// lineOf is the line of the first of the keys that the file has.
func (d *decoder) lineOf(keys ...string) (line int) {
	for _, key := range keys {
		line = cmp.Or(line, d.lines[key])
	}
	return line
}

// shadowed warns of a rule that no alarm ever reaches, as an earlier one takes them all.
func (d *decoder) shadowed(earlier []placed, rules []trigger.Rule, at string) {
	by := placed{}
	for _, r := range rules {
		i := slices.IndexFunc(earlier, func(e placed) bool { return e.rule.Covers(r) })
		if i < 0 {
			return
		}
		by = earlier[i]
	}
	if len(rules) > 0 {
		d.warn(d.lines[at], at, "is never reached: rule %q in line %d comes first and is on all of its events; move it up, or remove it", by.rule.Name(), by.line)
	}
}

// placed is a rule and the line it begins in.
type placed struct {
	rule trigger.Rule
	line int
}

// almostDefault warns of a policy whose name is "default" but for its case: it is another one, and what names no policy
// has the default settings.
func (d *decoder) almostDefault(names map[string]int, at string) {
	for name, line := range names {
		if name != DefaultPolicy && strings.EqualFold(name, DefaultPolicy) {
			d.warn(line, at+"."+name, "is not the policy %q, which holds where nothing names another: names are told apart by case; call it %q", DefaultPolicy, DefaultPolicy)
		}
	}
}

// warn notes what is possible and hardly meant.
func (d *decoder) warn(line int, key, format string, args ...any) {
	d.warnings = append(d.warnings, fmt.Sprintf("%s:%d: %s: "+format, append([]any{d.name, line, quoteKey(key)}, args...)...))
}

// refusedByLimits says why the limits of the file reject what the rule of the environment asks for; nil where they take it.
func refusedByLimits(p trigger.Preempt, l Limits) error {
	switch {
	case len(l.AllowedTags) > 0 && !slices.Contains(l.AllowedTags, p.Tag):
		return fmt.Errorf("is %q, which is not among limits.allowedTags of the file, so that the alarm would be rejected", p.Tag)
	case l.MaxCriticality != "" && l.MaxCriticality.Rank() < preemption.CriticalityHigh.Rank():
		return fmt.Errorf("makes a rule in which red means HIGH, which is above limits.maxCriticality %s of the file, so that the alarm would be rejected; write the rule into the file", l.MaxCriticality)
	}
	return nil
}
