package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// ruleKinds says of each kind of rule how the file has it. The fields of a row have no names, so that a row that lacks one
// does not compile. TestEachKindOfRuleIsRead holds it complete.
var ruleKinds = []ruleKind{
	{trigger.KindPreempt, (*decoder).preempt, (*decoder).preemptions},
	{trigger.KindResize, (*decoder).resize, (*decoder).resizes},
	{trigger.KindReconfigure, (*decoder).reconfigure, (*decoder).reconfigurations},
	{trigger.KindMove, (*decoder).move, (*decoder).moves},
	{trigger.KindMakeRoom, (*decoder).makeRoom, (*decoder).roomsOf},
}

type ruleKind struct {
	kind  trigger.Kind
	read  func(d *decoder, at string, n *yaml.Node, w *written)     // reads the settings, at their key
	rules func(d *decoder, at string, w written) (r []trigger.Rule) // makes the rules of them
}

// written is a rule as the file has it.
type written struct {
	at           string
	line         int
	alarm, event string
	does         []string // the keys of what it does
	kind         ruleKind // of the last of them
	unread       bool     // something of it could not be read
	policies     map[string]policy.Policy

	preempt     trigger.Preempt
	resize      placement.Resize
	reconfigure placement.Reconfigure
	move        placement.Move
	makeRoom    trigger.MakeRoom
}

// alarms are those that the rule names.
func (w written) alarms() []string {
	if w.alarm == "" {
		return nil
	}
	return []string{w.alarm}
}

// triggers makes of a rule those that trigger knows.
func (d *decoder) triggers(w written) []trigger.Rule {
	kind, events := w.kind.kind, w.kind.kind.Events()
	line, ok := d.lines[w.at+".event"]
	switch {
	case ok && len(events) == 0:
		d.add(line, w.at+".event", "is for %s; a rule that does %s is on an alarm", strings.Join(texts(eventKinds()), " and "), kind)
		return nil
	case ok && w.event != "" && !slices.Contains(texts(events), w.event):
		d.add(line, w.at+".event", "is not for %s, which is on the event %s", kind, listed(events))
		return nil
	}
	if line, ok := d.lines[w.at+".alarm"]; ok && !kind.OnAlarm() {
		d.add(line, w.at+".alarm", "is not for %s, which is on the event %s", kind, listed(events))
		return nil
	}
	return w.kind.rules(d, w.at+"."+string(kind), w)
}

// eventKinds lists the kinds of rules that are on events other than alarms.
func eventKinds() []trigger.Kind {
	return slices.DeleteFunc(trigger.Kinds(), func(k trigger.Kind) bool { return len(k.Events()) == 0 })
}

// event reads the name of an event that some kind of rule is on.
func (d *decoder) event(key string, n *yaml.Node, to *string) {
	var known []string
	for _, k := range eventKinds() {
		known = append(known, texts(k.Events())...)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	var name string
	switch {
	case !d.text(key, n, &name):
	case slices.Contains(known, name):
		*to = name
	case len(known) == 1:
		d.add(n.Line, key, "%q is not %s, the one event that rules are on", name, known[0])
	default:
		d.add(n.Line, key, "%q is not one of %s, the events that rules are on", name, listed(known))
	}
}

// listed writes names with commas.
func listed[T ~string](names []T) string { return strings.Join(texts(names), ", ") }

func texts[T ~string](names []T) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = string(name)
	}
	return all
}

func (d *decoder) preempt(at string, n *yaml.Node, w *written) {
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
			if _, ok := w.policies[p.Policy]; !ok {
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
		"criticality": func(key string, n *yaml.Node) { d.colours(key, n, &p) },
	})
	p.Scope = w.policies[p.Policy].Scope
	if len(d.problems) == before {
		d.contradicts(at, p, d.limited)
	}
	w.preempt = p
}

// colours reads what the colours of the alarm mean.
func (d *decoder) colours(key string, n *yaml.Node, p *trigger.Preempt) {
	d.mapping(key, n, fields{
		"yellow": func(key string, n *yaml.Node) { d.colour(key, n, &p.Yellow) },
		"red":    func(key string, n *yaml.Node) { d.colour(key, n, &p.Red) },
	})
	if yellow, red := p.Criticality("yellow"), p.Criticality("red"); red.Rank() < yellow.Rank() {
		d.add(n.Line, key, "red means %s and yellow %s: an alarm that gets worse cannot ask for less", red, yellow)
	}
}

func (d *decoder) preemptions(_ string, w written) []trigger.Rule {
	if w.alarm == "" && !w.unread {
		d.add(w.line, w.at, "names no alarm; give it alarm: <name, glob or MoRef>")
	}
	return eachOf(w.alarms(), func(string) trigger.Action { return w.preempt })
}

func (d *decoder) resize(at string, n *yaml.Node, w *written) {
	s := &w.resize
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

func (d *decoder) reconfigure(at string, n *yaml.Node, w *written) {
	s := &w.reconfigure
	d.mapping(at, n, fields{
		"mode":    func(key string, n *yaml.Node) { d.text(key, n, &s.Mode) },
		"replyTo": func(key string, n *yaml.Node) { d.replyTo(key, n, &s.ReplyTo) },
	})
}

func (d *decoder) move(at string, n *yaml.Node, w *written) {
	s := &w.move
	d.mapping(at, n, fields{
		"targetUsage": func(key string, n *yaml.Node) { d.some(key, n, &s.TargetUsage) },
		"mode":        func(key string, n *yaml.Node) { d.text(key, n, &s.Mode) },
		"cooldown":    func(key string, n *yaml.Node) { d.time(key, n, &s.Cooldown) },
		"overCommit":  func(key string, n *yaml.Node) { d.some(key, n, &s.OverCommit) },
		"replyTo":     func(key string, n *yaml.Node) { d.replyTo(key, n, &s.ReplyTo) },
	})
}

// resizes makes a rule of the alarm, or of each that is made for the resource.
func (d *decoder) resizes(at string, w written) []trigger.Rule {
	on, s := w.alarms(), w.resize
	if len(on) == 0 {
		on = map[string][]string{
			placement.CPU:    {placement.AlarmCPU, placement.AlarmOriginalCPU},
			placement.Memory: {placement.AlarmMemory, placement.AlarmOriginalMemory},
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

// moves makes a rule of the alarm, or of each that is made for datastores.
func (d *decoder) moves(at string, w written) []trigger.Rule {
	on := w.alarms()
	if len(on) == 0 && !w.unread {
		on = []string{placement.AlarmDatastore, placement.AlarmOriginalStorage}
	}
	settings := w.move.WithDefaults()
	d.check(at, settings.Check())
	return eachOf(on, func(string) trigger.Action { return trigger.Move{Settings: settings} })
}

// reconfigurations makes a rule of the event, or of the first that may start it.
func (d *decoder) reconfigurations(at string, w written) []trigger.Rule {
	d.check(at, w.reconfigure.Check())
	events := trigger.KindReconfigure.Events()
	on := events[max(0, slices.Index(texts(events), w.event))]
	return []trigger.Rule{{Class: on, Action: trigger.Reconfigure{Settings: w.reconfigure}}}
}
