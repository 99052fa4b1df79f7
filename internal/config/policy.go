package config

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// maxBudgets bounds the budgets of one policy.
const maxBudgets = 100

// policies reads the named policies. Each starts from the defaults and gets neverTouch.
func (d *decoder) policies(at string, n *yaml.Node, neverTouch []string) map[string]policy.Policy {
	fresh := func() policy.Policy {
		p := policy.Default()
		p.NeverTouch = slices.Clone(neverTouch)
		return p
	}
	all := map[string]policy.Policy{DefaultPolicy: fresh()}
	named, names := 0, map[string]int{}
	d.entries(at, n, func(name string, key, value *yaml.Node) {
		if named++; named > maxPolicies {
			if named == maxPolicies+1 {
				d.add(key.Line, at, "more than %d policies", maxPolicies)
			}
			return
		}
		if name == "" || len(name) > 64 {
			d.add(key.Line, at, "the name of a policy has 1 to 64 characters")
			return
		}
		names[name] = key.Line
		p := fresh()
		d.policy(at+"."+name, key.Line, value, &p)
		all[name] = p
	})
	d.almostDefault(names, at)
	return all
}

// policy reads one policy. policy.Validate knows which values are possible; lines are added here.
func (d *decoder) policy(at string, line int, n *yaml.Node, p *policy.Policy) {
	d.mapping(at, n, fields{
		"mode":            func(key string, n *yaml.Node) { d.text(key, n, &p.Mode) },
		"scope":           func(key string, n *yaml.Node) { d.text(key, n, &p.Scope) },
		"maxVMs":          func(key string, n *yaml.Node) { d.integer(key, n, &p.MaxVMs) },
		"cooldown":        func(key string, n *yaml.Node) { d.duration(key, n, &p.Cooldown) },
		"grayTimeout":     func(key string, n *yaml.Node) { d.duration(key, n, &p.GrayTimeout) },
		"repeatWhileRed":  func(key string, n *yaml.Node) { d.boolean(key, n, &p.RepeatWhileRed) },
		"withdrawWait":    func(key string, n *yaml.Node) { d.duration(key, n, &p.WithdrawWait) },
		"lateWatch":       func(key string, n *yaml.Node) { d.duration(key, n, &p.LateWatch) },
		"powerOffTimeout": func(key string, n *yaml.Node) { d.duration(key, n, &p.PowerOffTimeout) },
		"criticality": func(key string, n *yaml.Node) {
			d.mapping(key, n, fields{
				"HIGH":   func(key string, n *yaml.Node) { d.treatment(key, n, &p.Criticality.High) },
				"MEDIUM": func(key string, n *yaml.Node) { d.treatment(key, n, &p.Criticality.Medium) },
				"LOW":    func(key string, n *yaml.Node) { d.treatment(key, n, &p.Criticality.Low) },
			})
		},
		"target":   func(key string, n *yaml.Node) { d.target(key, n, &p.Target) },
		"headroom": func(key string, n *yaml.Node) { d.headroom(key, n, &p.Headroom) },
		"order":    func(key string, n *yaml.Node) { d.order(key, n, &p.Order) },
		"protect":  func(key string, n *yaml.Node) { d.protect(key, n, &p.Protect) },
		"budgets":  func(key string, n *yaml.Node) { d.budgets(key, n, &p.Budgets) },
		"restore":  func(key string, n *yaml.Node) { d.restore(key, n, &p.Restore) },
	})
	d.lines[at] = line
	for _, err := range split(p.Validate()) {
		d.impossible(at, err)
	}
}

func (d *decoder) treatment(at string, n *yaml.Node, t *policy.Treatment) {
	d.mapping(at, n, fields{
		"action":      func(key string, n *yaml.Node) { d.text(key, n, (*string)(&t.Action)) },
		"gracePeriod": func(key string, n *yaml.Node) { d.duration(key, n, &t.GracePeriod) },
		"thenForce":   func(key string, n *yaml.Node) { d.boolean(key, n, &t.ThenForce) },
		"notice":      func(key string, n *yaml.Node) { d.duration(key, n, &t.Notice) },
		"throttle":    func(key string, n *yaml.Node) { d.throttle(key, n, &t.Throttle) },
		"steps":       func(key string, n *yaml.Node) { d.steps(key, n, &t.Steps) },
	})
	if len(t.Steps) == 0 {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Value != "steps" {
			d.add(key.Line, at+"."+key.Value, "does not go together with steps: each step has its own")
		}
	}
	*t = policy.Treatment{Steps: t.Steps} // without the defaults
}

// steps reads a ladder; policy.Validate knows which steps go together.
func (d *decoder) steps(at string, n *yaml.Node, to *[]policy.Step) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.add(n.Line, at, "wants a list of steps, not %s", describe(n))
		return
	}
	for i, entry := range n.Content {
		var s policy.Step
		key := fmt.Sprintf("%s[%d]", at, i)
		d.lines[key] = entry.Line
		d.mapping(key, entry, fields{
			"action":      func(key string, n *yaml.Node) { d.text(key, n, (*string)(&s.Action)) },
			"throttle":    func(key string, n *yaml.Node) { d.throttle(key, n, &s.Throttle) },
			"for":         func(key string, n *yaml.Node) { d.duration(key, n, &s.For) },
			"notice":      func(key string, n *yaml.Node) { d.duration(key, n, &s.Notice) },
			"gracePeriod": func(key string, n *yaml.Node) { d.duration(key, n, &s.GracePeriod) },
			"thenForce":   func(key string, n *yaml.Node) { d.boolean(key, n, &s.ThenForce) },
		})
		*to = append(*to, s)
	}
}

// throttle reads how far VMs are throttled.
func (d *decoder) throttle(at string, n *yaml.Node, t *policy.Throttle) {
	d.mapping(at, n, fields{
		"cpu": func(key string, n *yaml.Node) { d.speed(key, n, &t.CPU) },
	})
}

// speed reads a CPU limit such as 25% or 500MHz. One that cannot be read is taken for half of what the VM uses, so that nothing
// else is wrong because of it.
func (d *decoder) speed(key string, n *yaml.Node, to *policy.Speed) {
	*to = policy.Speed{N: 50, Percent: true}
	if !d.scalar(key, n, "a CPU limit such as 25% or 500MHz") {
		return
	}
	s, err := policy.ParseSpeed(n.Value)
	if err != nil {
		d.add(n.Line, key, "%w", err)
		return
	}
	*to = s
}

// target reads the utilisation to come down to. An empty one is none.
func (d *decoder) target(at string, n *yaml.Node, g *policy.Goal) {
	goal := policy.DefaultGoal()
	d.mapping(at, n, fields{
		"cpu":     func(key string, n *yaml.Node) { d.percent(key, n, &goal.CPU) },
		"memory":  func(key string, n *yaml.Node) { d.percent(key, n, &goal.Memory) },
		"margin":  func(key string, n *yaml.Node) { d.integer(key, n, &goal.Margin) },
		"ifShort": func(key string, n *yaml.Node) { d.text(key, n, &goal.IfShort) },
	})
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		*g = goal
	}
}

// headroom reads what is to stay free. An empty one is none.
func (d *decoder) headroom(at string, n *yaml.Node, h *policy.Headroom) {
	d.mapping(at, n, fields{
		"cpu":       func(key string, n *yaml.Node) { d.share(key, n, &h.CPU) },
		"memory":    func(key string, n *yaml.Node) { d.share(key, n, &h.Memory) },
		"failHosts": func(key string, n *yaml.Node) { d.integer(key, n, &h.FailHosts) },
	})
}

// share reads a percentage such as 10%. One that cannot be read is taken for one percent, so that nothing else is wrong because
// of it.
func (d *decoder) share(key string, n *yaml.Node, to *policy.Amount) {
	*to = policy.Amount{N: 1, Percent: true}
	if !d.scalar(key, n, "a percentage such as 10%") {
		return
	}
	a, err := policy.ParseAmount(n.Value)
	switch {
	case err != nil || !a.Percent:
		d.add(n.Line, key, "%q is no percentage such as 10%%", n.Value)
	case a.N == 0:
		d.add(n.Line, key, "0%% is not within 1 to 99; leave it out where it does not matter")
	default:
		*to = a
	}
}

// percent reads a percentage that matters: none is said by leaving the key out. One that cannot be read is
// taken for all, so that nothing else is wrong because of it.
func (d *decoder) percent(key string, n *yaml.Node, to *int) {
	*to = 100
	if d.integer(key, n, to); *to == 0 {
		d.add(n.Line, key, "0 is not within 1 to 100; leave it out where it does not matter")
		*to = 100
	}
}

func (d *decoder) order(at string, n *yaml.Node, o *policy.Order) {
	d.mapping(at, n, fields{
		"defaultPriority": func(key string, n *yaml.Node) {
			priority := policy.DefaultPriority
			d.integer(key, n, &priority)
			o.DefaultPriority = &priority
		},
	})
}

func (d *decoder) protect(at string, n *yaml.Node, p *policy.Protect) {
	d.mapping(at, n, fields{
		"minRuntime":           func(key string, n *yaml.Node) { d.duration(key, n, &p.MinRuntime) },
		"maxPreemptionsPerDay": func(key string, n *yaml.Node) { d.integer(key, n, &p.MaxPreemptionsPerDay) },
		"folders":              func(key string, n *yaml.Node) { d.texts(key, n, &p.Folders, checkGlob) },
		"resourcePools":        func(key string, n *yaml.Node) { d.texts(key, n, &p.ResourcePools, checkGlob) },
		"names":                func(key string, n *yaml.Node) { d.texts(key, n, &p.Names, checkGlob) },
	})
}

// budgets reads a list of budgets; policy.Validate knows which keys go together.
func (d *decoder) budgets(at string, n *yaml.Node, to *[]policy.Budget) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.add(n.Line, at, "wants a list of budgets, not %s", describe(n))
		return
	}
	if len(n.Content) > maxBudgets {
		d.add(n.Line, at, "has %d entries; at most %d are taken", len(n.Content), maxBudgets)
		return
	}
	for i, entry := range n.Content {
		var b policy.Budget
		key := fmt.Sprintf("%s[%d]", at, i)
		d.lines[key] = entry.Line
		d.mapping(key, entry, fields{
			"group":        func(key string, n *yaml.Node) { d.text(key, n, &b.Group) },
			"minAvailable": func(key string, n *yaml.Node) { d.amount(key, n, &b.MinAvailable) },
			"scope":        func(key string, n *yaml.Node) { d.boolean(key, n, &b.Scope) },
			"max":          func(key string, n *yaml.Node) { d.amount(key, n, &b.Max) },
			"per":          func(key string, n *yaml.Node) { d.duration(key, n, &b.Per) },
			"window":       func(key string, n *yaml.Node) { d.text(key, n, &b.Window) },
			"duration":     func(key string, n *yaml.Node) { d.duration(key, n, &b.Duration) },
			"timeZone":     func(key string, n *yaml.Node) { d.text(key, n, &b.TimeZone) },
		})
		*to = append(*to, b)
	}
}

// amount reads a number of VMs such as 3, or a percentage such as 50%. One that cannot be read is taken for
// one VM, so that nothing else is wrong because of it.
func (d *decoder) amount(key string, n *yaml.Node, to *policy.Amount) {
	to.N = 1
	if !d.scalar(key, n, "a number of VMs such as 3 or a percentage such as 50%") {
		return
	}
	a, err := policy.ParseAmount(n.Value)
	if err != nil {
		d.add(n.Line, key, "%w", err)
		return
	}
	*to = a
}

func (d *decoder) restore(at string, n *yaml.Node, r *policy.Restore) {
	*r = policy.DefaultRestore()
	d.mapping(at, n, fields{
		"enabled": func(key string, n *yaml.Node) { d.boolean(key, n, &r.Enabled) },
		"settle":  func(key string, n *yaml.Node) { d.duration(key, n, &r.Settle) },
		"wave":    func(key string, n *yaml.Node) { d.integer(key, n, &r.Wave) },
		"giveUp":  func(key string, n *yaml.Node) { d.duration(key, n, &r.GiveUp) },
	})
}
