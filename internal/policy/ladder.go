package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// Step is one step of a criticality that is a ladder.
type Step struct {
	Action      action.Action  `json:"action"`
	Throttle    Throttle       `json:"throttle,omitzero"`
	For         clock.Duration `json:"for,omitempty"` // after which it is measured whether the next step is due; 0: of the last
	Notice      clock.Duration `json:"notice,omitempty"`
	GracePeriod clock.Duration `json:"gracePeriod,omitempty"`
	ThenForce   bool           `json:"thenForce,omitempty"`
}

func (s Step) treatment() Treatment {
	return Treatment{Action: s.Action, Throttle: s.Throttle, Notice: s.Notice, GracePeriod: s.GracePeriod, ThenForce: s.ThenForce}
}

// step returns the place of the action among the steps; -1: none takes it.
func (t Treatment) step(a action.Action) int {
	return slices.IndexFunc(t.Steps, func(s Step) bool { return s.Action == a })
}

// At returns what is done at the step of an action; "" is the first. A criticality without steps has only one. If none of the
// steps takes the action, as after a rise or a fall to another criticality, it is the first that turns VMs off: what was done before
// was a throttle, or more.
func (t Treatment) At(a action.Action) Treatment {
	if len(t.Steps) == 0 {
		return t
	}
	i := 0
	if a != "" {
		if i = t.step(a); i < 0 {
			i = max(0, slices.IndexFunc(t.Steps, func(s Step) bool { return !s.Action.StaysOn() }))
		}
	}
	return t.Steps[i].treatment()
}

// After returns the action of the step after the one of an action, and how long after that it is taken; "": that was the last. An
// action that is no step here was taken at another criticality: after a throttle the first other action follows at once, and after
// anything else nothing.
func (t Treatment) After(a action.Action) (next action.Action, wait time.Duration) {
	if i := t.step(a); i >= 0 {
		if i+1 == len(t.Steps) {
			return "", 0
		}
		return t.Steps[i+1].Action, t.Steps[i].For.D()
	}
	first := t.At(a).Action
	if !a.StaysOn() || first.StaysOn() {
		return "", 0
	}
	return first, 0
}

// For returns the demand as the policy's first step for its criticality makes it: that says whether VMs are throttled. A demand of a
// further step stays as it is.
func (d Demand) For(p Policy) Demand {
	t, ok := p.Criticality.For(d.Criticality)
	if !ok || len(d.Only) > 0 {
		return d
	}
	d.Throttle = nil
	if first := t.At(""); first.Action.StaysOn() {
		d.Throttle = &first.Throttle
	}
	return d
}

// All lists what may be done at some criticality, each step by itself.
func (t Treatments) All() (all []Treatment) {
	for _, of := range []Treatment{t.High, t.Medium, t.Low} {
		if len(of.Steps) == 0 {
			all = append(all, of)
		}
		for _, s := range of.Steps {
			all = append(all, s.treatment())
		}
	}
	return all
}

// Ladder reports whether some criticality is a ladder.
func (t Treatments) Ladder() bool {
	return len(t.High.Steps)+len(t.Medium.Steps)+len(t.Low.Steps) > 0
}

// maxSteps is how many steps a ladder may have: each action once.
const maxSteps = 4

// leastFor is the shortest time between two steps: until then vCenter's statistics may not show what the step has freed.
const leastFor = time.Minute

// steps checks a ladder.
func (c *check) steps(key string, t Treatment) {
	if t.Action != "" || t.Throttle != (Throttle{}) || t.GracePeriod != 0 || t.ThenForce || t.Notice != 0 {
		c.add(key, "has steps, and so each of them has its action and what belongs to that; remove these keys beside steps")
	}
	if len(t.Steps) < 2 || len(t.Steps) > maxSteps {
		c.add(key+".steps", "has %d entries, a ladder has 2 to %d; write one action as action", len(t.Steps), maxSteps)
	}
	for i, s := range t.Steps {
		at := fmt.Sprintf("%s.steps[%d]", key, i)
		c.treatment(at, s.treatment())
		switch last := i == len(t.Steps)-1; {
		case last && s.For != 0:
			c.add(at+".for", "belongs to a step that another one follows")
		case !last:
			c.lasts(at+".for", s.For, leastFor, 24*time.Hour)
		}
		if t.step(s.Action) < i {
			c.add(at+".action", "%s is taken by an earlier step", s.Action)
		}
		if i > 0 && s.Action.StaysOn() {
			c.add(at+".action", "%s is the mildest action, and can only be the first step", s.Action)
		}
	}
}

// TurningOff returns the policy with its treatment at a criticality made one that turns VMs off: of a ladder, the first such
// step. ok is false where it only throttles.
func (p Policy) TurningOff(criticality string) (out Policy, ok bool) {
	t, known := p.Criticality.For(criticality)
	for _, s := range t.Steps {
		if !s.Action.StaysOn() {
			t = s.treatment()
			break
		}
	}
	if !known || len(t.Steps) > 0 || t.Action.StaysOn() {
		return p, false
	}
	switch criticality {
	case "HIGH":
		p.Criticality.High = t
	case "MEDIUM":
		p.Criticality.Medium = t
	case "LOW":
		p.Criticality.Low = t
	}
	return p, true
}
