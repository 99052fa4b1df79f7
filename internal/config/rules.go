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
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

const maxRules = 200

// poweredOff is the class of events that a rule may be on, as package alarm has it, which this one may not import.
const poweredOff = "VmPoweredOffEvent"

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

// written is a rule as the file has it.
type written struct {
	at           string
	line         int
	alarm, event string
	does         []string // the keys of what it does
	preempt      trigger.Preempt
	resize       remedy.Resize
	reconfigure  remedy.Reconfigure
	move         remedy.Move
}

// The keys of what rules do.
const (
	doesPreempt     = "preempt"
	doesResize      = remedy.KindResize
	doesReconfigure = remedy.KindReconfigure
	doesMove        = remedy.KindMove
)

// rule reads one rule. Those that resize or move without naming an alarm are one for each alarm that is made for it.
func (d *decoder) rule(at string, n *yaml.Node, policies map[string]policy.Policy) []trigger.Rule {
	before := len(d.problems)
	if n == nil || n.Kind != yaml.MappingNode {
		d.add(lineOf(n), at, "wants a rule: alarm, and what to do")
		return nil
	}
	w := written{at: at, line: n.Line}
	does := func(what string, read func(key string, n *yaml.Node)) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) {
			w.does = append(w.does, what)
			read(key, n)
		}
	}
	d.mapping(at, n, fields{
		"alarm": func(key string, n *yaml.Node) {
			if !d.text(key, n, &w.alarm) {
				return
			}
			if err := trigger.CheckPattern(w.alarm); err != nil {
				d.add(n.Line, key, "%w", err)
			}
		},
		"event": func(key string, n *yaml.Node) {
			if d.text(key, n, &w.event) && w.event != poweredOff {
				d.add(n.Line, key, "%q is not %s, the one event that rules are on", w.event, poweredOff)
			}
		},
		doesPreempt:     does(doesPreempt, func(key string, n *yaml.Node) { w.preempt = d.preempt(key, n, policies) }),
		doesResize:      does(doesResize, func(key string, n *yaml.Node) { d.resize(key, n, &w.resize) }),
		doesReconfigure: does(doesReconfigure, func(key string, n *yaml.Node) { d.reconfigure(key, n, &w.reconfigure) }),
		doesMove:        does(doesMove, func(key string, n *yaml.Node) { d.move(key, n, &w.move) }),
	})
	unread := len(d.problems) > before
	switch {
	case len(w.does) == 0 && !unread:
		d.add(w.line, at, "says nothing to do; give it one of preempt, resize, reconfigure, move")
	case len(w.does) > 1:
		d.add(w.line, at, "does %s; a rule does one thing", strings.Join(w.does, " and "))
	case len(w.does) == 1:
		if rules := d.triggers(w, unread); len(d.problems) == before {
			return rules
		}
	}
	return nil
}

// triggers makes of a rule those that trigger knows; unread tells that something of it could not be read.
func (d *decoder) triggers(w written, unread bool) []trigger.Rule {
	does := w.does[0]
	if line, ok := d.lines[w.at+".event"]; ok && does != doesReconfigure {
		d.add(line, w.at+".event", "is for reconfigure alone; a rule that does %s is on an alarm", does)
		return nil
	}
	if line, ok := d.lines[w.at+".alarm"]; ok && does == doesReconfigure {
		d.add(line, w.at+".alarm", "is not for reconfigure, which is on the event %s", poweredOff)
		return nil
	}
	var on []string
	if w.alarm != "" {
		on = []string{w.alarm}
	}
	at := w.at + "." + does
	switch does {
	case doesResize:
		return d.resizes(at, on, w.resize)
	case doesMove:
		if len(on) == 0 && !unread {
			on = []string{remedy.AlarmDatastore, remedy.AlarmOriginalStorage}
		}
		settings := w.move.WithDefaults()
		d.check(at, settings.Check())
		return eachOf(on, func(string) trigger.Action { return trigger.Move{Settings: settings} })
	case doesReconfigure:
		d.check(at, w.reconfigure.Check())
		return []trigger.Rule{{Class: poweredOff, Action: trigger.Reconfigure{Settings: w.reconfigure}}}
	}
	if len(on) == 0 && !unread {
		d.add(w.line, w.at, "names no alarm; give it alarm: <name, glob or MoRef>")
	}
	return eachOf(on, func(string) trigger.Action { return w.preempt })
}

// resizes makes a rule of the alarm, or of each that is made for the resource.
func (d *decoder) resizes(at string, on []string, s remedy.Resize) []trigger.Rule {
	if len(on) == 0 {
		on = map[string][]string{
			remedy.CPU:    {remedy.AlarmCPU, remedy.AlarmOriginalCPU},
			remedy.Memory: {remedy.AlarmMemory, remedy.AlarmOriginalMemory},
		}[s.Resource]
	}
	if len(on) == 0 { // then there is no resource, or it is none
		on = []string{""}
	}
	if _, said := d.lines[at+".resource"]; !said && s.WithDefaults(on[0]).Resource == "" {
		d.add(d.lines[at], at, "names no resource, and its alarm does not tell; give it resource: cpu or memory")
		return nil
	}
	for _, alarm := range on {
		full := s.WithDefaults(alarm)
		if full.Max == 0 { // of no resource there is none
			full.Max = 1
		}
		if err := full.Check(); err != nil {
			d.check(at, err)
			break
		}
	}
	return eachOf(on, func(alarm string) trigger.Action { return trigger.Resize{Settings: s.WithDefaults(alarm)} })
}

func eachOf(alarms []string, action func(alarm string) trigger.Action) []trigger.Rule {
	var rules []trigger.Rule
	for _, alarm := range alarms {
		rules = append(rules, trigger.Rule{Alarm: alarm, Action: action(alarm)})
	}
	return rules
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

func (d *decoder) resize(at string, n *yaml.Node, s *remedy.Resize) {
	d.mapping(at, n, fields{
		"resource": func(key string, n *yaml.Node) { d.text(key, n, &s.Resource) },
		"mode":     func(key string, n *yaml.Node) { d.text(key, n, &s.Mode) },
		"sizing":   func(key string, n *yaml.Node) { d.text(key, n, &s.Sizing) },
		"max":      func(key string, n *yaml.Node) { d.some(key, n, &s.Max) },
		"cooldown": func(key string, n *yaml.Node) { d.time(key, n, &s.Cooldown) },
		"window":   func(key string, n *yaml.Node) { d.text(key, n, &s.Window) },
		"duration": func(key string, n *yaml.Node) { d.duration(key, n, &s.Duration) },
		"timeZone": func(key string, n *yaml.Node) { d.text(key, n, &s.TimeZone) },
		"replyTo":  func(key string, n *yaml.Node) { d.replyTo(key, n, &s.ReplyTo) },
	})
}

func (d *decoder) reconfigure(at string, n *yaml.Node, s *remedy.Reconfigure) {
	d.mapping(at, n, fields{
		"mode":    func(key string, n *yaml.Node) { d.text(key, n, &s.Mode) },
		"replyTo": func(key string, n *yaml.Node) { d.replyTo(key, n, &s.ReplyTo) },
	})
}

func (d *decoder) move(at string, n *yaml.Node, s *remedy.Move) {
	d.mapping(at, n, fields{
		"targetUsage": func(key string, n *yaml.Node) { d.some(key, n, &s.TargetUsage) },
		"mode":        func(key string, n *yaml.Node) { d.text(key, n, &s.Mode) },
		"cooldown":    func(key string, n *yaml.Node) { d.time(key, n, &s.Cooldown) },
		"overCommit":  func(key string, n *yaml.Node) { d.some(key, n, &s.OverCommit) },
		"replyTo":     func(key string, n *yaml.Node) { d.replyTo(key, n, &s.ReplyTo) },
	})
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

func (d *decoder) preempt(at string, n *yaml.Node, policies map[string]policy.Policy) trigger.Preempt {
	p := trigger.Preempt{Tag: preemption.DefaultTag, Policy: DefaultPolicy, OnFall: trigger.OnFallCancel}
	before := len(d.problems)
	d.mapping(at, n, fields{
		"tag": func(key string, n *yaml.Node) {
			if !d.text(key, n, &p.Tag) {
				return
			}
			if p.Tag = strings.TrimSpace(p.Tag); p.Tag == "" {
				d.add(n.Line, key, "is empty: name the tag that marks preemptible VMs")
			}
		},
		"policy": func(key string, n *yaml.Node) {
			if !d.text(key, n, &p.Policy) {
				return
			}
			if _, ok := policies[p.Policy]; !ok {
				d.add(n.Line, key, "the file has no policy %q", p.Policy)
			}
		},
		"replyTo": func(key string, n *yaml.Node) { d.replyTo(key, n, &p.ReplyTo) },
		"onFall": func(key string, n *yaml.Node) {
			if d.text(key, n, &p.OnFall) && !slices.Contains([]string{trigger.OnFallCancel, trigger.OnFallSoften}, p.OnFall) {
				d.add(n.Line, key, "%q is not one of %s, %s", p.OnFall, trigger.OnFallCancel, trigger.OnFallSoften)
			}
		},
		"mode": func(key string, n *yaml.Node) { d.mode(key, n, &p.Mode) },
		"whenSilenced": func(key string, n *yaml.Node) {
			allowed := []string{preemption.WhenSilencedHold, preemption.WhenSilencedAct}
			if d.text(key, n, &p.WhenSilenced) && !slices.Contains(allowed, p.WhenSilenced) {
				d.add(n.Line, key, "%q is not one of %s", p.WhenSilenced, strings.Join(allowed, ", "))
			}
		},
		"criticality": func(key string, n *yaml.Node) {
			d.mapping(key, n, fields{
				"yellow": func(key string, n *yaml.Node) { d.colour(key, n, &p.Yellow) },
				"red":    func(key string, n *yaml.Node) { d.colour(key, n, &p.Red) },
			})
			if yellow, red := p.Criticality("yellow"), p.Criticality("red"); red.Rank() < yellow.Rank() {
				d.add(n.Line, key, "red means %s and yellow %s: an alarm that gets worse cannot ask for less", red, yellow)
			}
		},
	})
	p.Scope = policies[p.Policy].Scope
	if len(d.problems) == before {
		d.contradicts(at, p, d.limited)
	}
	return p
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
