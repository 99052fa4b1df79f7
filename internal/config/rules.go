package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

const maxRules = 200

// rules reads the list of rules. Each names a policy of the same file.
func (d *decoder) rules(at string, n *yaml.Node, policies map[string]policy.Policy) []trigger.Rule {
	var all []trigger.Rule
	if n = resolve(n); n == nil || isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.add(n.Line, at, "wants a list of rules, not %s", describe(n))
		return nil
	}
	if len(n.Content) > maxRules {
		d.add(n.Line, at, "%d rules; at most %d are taken", len(n.Content), maxRules)
		return nil
	}
	var earlier []placed
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", at, i)
		d.lines[at] = item.Line
		rules := d.rule(at, resolve(item), policies)
		d.shadowed(earlier, rules, at)
		for _, r := range rules {
			earlier = append(earlier, placed{r, item.Line})
		}
		all = append(all, rules...)
	}
	return all
}

// rule reads one rule. Those that resize or move without naming an alarm are one for each alarm that is made for it.
func (d *decoder) rule(at string, n *yaml.Node, policies map[string]policy.Policy) []trigger.Rule {
	before := len(d.problems)
	if n == nil || n.Kind != yaml.MappingNode {
		d.add(lineOf(n), at, "wants a rule: alarm, and what to do")
		return nil
	}
	w := written{at: at, line: n.Line, policies: policies}
	keys := fields{
		"alarm": func(key string, n *yaml.Node) {
			if !d.text(key, n, &w.alarm) {
				return
			}
			if err := trigger.CheckPattern(w.alarm); err != nil {
				d.add(n.Line, key, "%w", err)
			}
		},
		"event": func(key string, n *yaml.Node) { d.event(key, n, &w.event) },
	}
	for _, k := range ruleKinds {
		keys[string(k.kind)] = func(key string, n *yaml.Node) {
			w.does = append(w.does, string(k.kind))
			w.kind = k
			k.read(d, key, n, &w)
		}
	}
	d.mapping(at, n, keys)
	w.unread = len(d.problems) > before
	switch {
	case len(w.does) == 0 && !w.unread:
		d.add(w.line, at, "says nothing to do; give it one of %s", listed(trigger.Kinds()))
	case len(w.does) > 1:
		d.add(w.line, at, "does %s; a rule does one thing", strings.Join(w.does, " and "))
	case len(w.does) == 1:
		if rules := d.triggers(w); len(d.problems) == before {
			return rules
		}
	}
	return nil
}

// check notes what is impossible at the lines of its keys, but for keys that could not be read.
func (d *decoder) check(at string, err error) {
	for _, err := range split(err) {
		key, _, _ := strings.Cut(err.Error(), ": ")
		if !slices.ContainsFunc(d.problems, func(p problem) bool { return p.key == at+"."+key }) {
			d.impossible(at, err)
		}
	}
}

// some reads a number whose default is had by leaving the key out, not by 0.
func (d *decoder) some(key string, n *yaml.Node, to *int) {
	before := len(d.problems)
	if d.integer(key, n, to); *to == 0 && len(d.problems) == before {
		d.add(n.Line, key, "0 is not possible; leave it out for the default")
	}
}

// time reads a duration whose default is had by leaving the key out, not by 0.
func (d *decoder) time(key string, n *yaml.Node, to *clock.Duration) {
	before := len(d.problems)
	if d.duration(key, n, to); *to == 0 && len(d.problems) == before {
		d.add(n.Line, key, "0s is not possible; leave it out for the default")
	}
}

func lineOf(n *yaml.Node) int {
	if n == nil {
		return 0
	}
	return n.Line
}

func (d *decoder) replyTo(key string, n *yaml.Node, to *string) {
	if !d.text(key, n, to) {
		return
	}
	if err := checkReplyTo(*to); err != nil {
		d.add(n.Line, key, "%w", err)
	}
}

func (d *decoder) mode(key string, n *yaml.Node, to *string) {
	if d.text(key, n, to) && !slices.Contains([]string{policy.ModeAct, policy.ModeObserve}, *to) {
		d.add(n.Line, key, "%q is not one of %s, %s", *to, policy.ModeAct, policy.ModeObserve)
	}
}

// colour reads what a colour means: a criticality, or none.
func (d *decoder) colour(key string, n *yaml.Node, to *preemption.Criticality) {
	var s string
	if !d.text(key, n, &s) {
		return
	}
	c, err := trigger.ParseColour(s)
	if err != nil {
		d.add(n.Line, key, "%w", err)
		return
	}
	*to = c
}

func checkReplyTo(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is no http or https URL", shown.Redact(s))
	}
	return nil
}
