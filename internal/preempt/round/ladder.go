package round

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// versionLadder marks the rounds whose criticality may be a ladder.
const versionLadder = "ladder"

// climb takes the next steps of a criticality that is a ladder: each when its time has come, if the shortfall that is measured then
// lasts. A rise shortens the time, and a fall ends it.
func (r *round) climb() error {
	if !r.in.Demand.Policy.Criticality.Ladder() || r.in.Demand.NoticeOnly || r.replanError != "" ||
		workflow.GetVersion(r.ctx, versionLadder, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	for range maxClimbs {
		next := r.awaitStep(r.done(), workflow.Now(r.ctx))
		if next == "" || r.withdrawn {
			return nil
		}
		r.below, r.rung, r.acted = r.lowerStep(), next, ""
		r.note(fmt.Sprintf("next step of the ladder, where it is still needed: %s", next.Words()))
		if ended, err := r.planAndAct(); ended || err != nil || r.replanError != "" || r.enough {
			return err
		}
		r.awaitGuests()
	}
	return nil
}

// maxClimbs bounds the steps of a round, however often its criticality changes.
const maxClimbs = 20

// done is the action of the step that the round has taken last.
func (r *round) done() action.Action {
	if r.acted != "" {
		return r.acted
	}
	return r.treatment().Action
}

// awaitStep waits until the step after an action is due, by what the criticality means at the time, and returns its action; "": there
// is none. Nobody waits for a step that passed all VMs by.
func (r *round) awaitStep(done action.Action, since time.Time) action.Action {
	for !r.withdrawn {
		t, _ := r.in.Demand.Policy.Criticality.For(string(r.criticality))
		next, wait := t.After(done)
		if len(r.lowerStep()) == 0 {
			wait = 0
		}
		left := since.Add(wait).Sub(workflow.Now(r.ctx))
		if next == "" || left <= 0 {
			return next
		}
		r.setState(preemptapi.RoundBetween)
		ctx, cancel := workflow.WithCancel(r.ctx)
		r.interrupt = cancel
		_ = workflow.Sleep(ctx, left) // cut short by a change of urgency
		r.interrupt = nil
		cancel()
	}
	return ""
}

// lowerStep are the VMs with which the next step goes on: those that are throttled, or did not shut down.
func (r *round) lowerStep() (refs []vsphere.Ref) {
	for _, t := range r.result.Targets {
		if t.Outcome.StaysOn() || t.Outcome == action.Spared && t.Reason.Reason == policy.GuestIgnored {
			refs = append(refs, t.Ref)
		}
	}
	return refs
}

// stepped adds to a plan's input what a step after the first must know.
func (r *round) stepped(in PlanInput) PlanInput {
	if r.rung == "" {
		return in
	}
	in.Climb, in.Repeat, in.Only = true, true, r.below
	only := make(map[vsphere.Ref]bool, len(r.below))
	for _, ref := range r.below {
		only[ref] = true
	}
	in.Held = in.Held[:0:0]
	for _, ref := range r.held() {
		if !only[ref] {
			in.Held = append(in.Held, ref)
		}
	}
	for _, t := range r.result.Targets {
		if only[t.Ref] && t.Outcome != action.Spared && t.Outcome != action.AlreadyOff {
			in.Already--
		}
	}
	return in
}

// staysThrottled keeps the outcome of a VM that is throttled and that a later step did not turn off: it has its limit all the same.
func staysThrottled(was, now preemptapi.VMOutcome) preemptapi.VMOutcome {
	was.Reason = policy.InWords("stays throttled: " + now.Outcome.Words())
	if now.Reason != (policy.Explanation{}) {
		was.Reason = policy.InWords("stays throttled: " + now.Reason.Words())
	}
	return was
}

// countedOnce takes from what the policy is asked that VMs were acted on by an earlier step of this round: it is the same eviction.
func countedOnce(d policy.Demand, vms []vsphere.Ref) policy.Demand {
	if len(vms) == 0 {
		return d
	}
	d.Preempted, d.Evictions = maps.Clone(d.Preempted), slices.Clone(d.Evictions)
	for _, ref := range vms {
		if n := d.Preempted[ref.String()]; n > 0 {
			d.Preempted[ref.String()] = n - 1
		}
		last := -1
		for i, e := range d.Evictions {
			if e.VM == ref && (last < 0 || e.Time.After(d.Evictions[last].Time)) {
				last = i
			}
		}
		if last >= 0 {
			d.Evictions = slices.Delete(d.Evictions, last, last+1)
		}
	}
	return d
}

// unmeasured is the plan of a further step where neither the policy nor the alarm says which usage is too high: what cannot be measured
// turns nobody off.
func (p *planning) unmeasured() (PlanResult, bool) {
	if !p.in.Climb || len(p.in.Demand.Rooms) > 0 || p.policy().Target.Set() {
		return PlanResult{}, false
	}
	return PlanResult{Targets: []policy.Target{}, Spared: []policy.Spared{}, ScopeName: p.snap.ScopeName, PlannedAt: p.snap.Time, Unmeasured: true}, true
}
