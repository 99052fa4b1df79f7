package round

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// maxPlans bounds how often a round plans. A new plan is made after each outage, but workers whose clocks disagree
// would find each other's plans stale for ever.
const maxPlans = 100

// carryOut plans and acts, step by step where the criticality is a ladder.
func (r *round) carryOut() error {
	if ended, err := r.planAndAct(); ended || err != nil {
		return err
	}
	r.awaitGuests()
	err := r.climb()
	r.clearNotices()
	return err
}

// planAndAct plans and acts, and plans again where vCenter was away for so long that the plan went stale. It reports whether the round
// ends with the plan.
func (r *round) planAndAct() (ended bool, err error) {
	for stale, plans := true, 1; stale && !r.withdrawn; plans++ {
		if plans > maxPlans {
			r.replanError = fmt.Sprintf("%d plans went stale one after the other: look at the load and the clocks of the workers", maxPlans)
			break
		}
		plan, err := r.plan()
		if err != nil && len(r.held()) > 0 {
			r.replanError = preempt.Cause(err) // what was done already is brought to its end
			r.note("planning again failed: " + r.replanError)
			break
		}
		if err != nil || r.endsWithPlan(plan) {
			return true, err
		}
		r.enough = len(plan.Targets) == 0 && plan.Shortfall == policy.Resources{}
		stale = r.actOn(plan)
	}
	return false, nil
}

// actOn acts on the targets of a plan. It returns whether a new plan is due.
func (r *round) actOn(plan PlanResult) (again bool) {
	if r.withdrawn {
		r.spareAll(plan.Targets, policy.Because(policy.Withdrawn))
		return false
	}
	stale := r.giveNoticeAndAct(plan)
	if stale && r.otherAction {
		r.otherAction = false
		r.note("another action is due by now: planning again")
		return true
	}
	if stale {
		r.note("vCenter was away: planning again")
		return true
	}
	return r.needsReplacements(plan)
}

// maxReplacements bounds how often a round plans again for targets that could not go.
const maxReplacements = 3

// needsReplacements reports whether others are to go for the plan's targets that could not: only where the policy has a
// target utilisation, for the shortfall that is left.
func (r *round) needsReplacements(plan PlanResult) bool {
	if !r.in.Demand.Policy.Target.Set() && len(r.in.Demand.Rooms) == 0 || r.withdrawn || r.in.Demand.VM != "" || r.replaced == maxReplacements {
		return false
	}
	n := 0
	for _, t := range plan.Targets {
		if o := r.outcomeOf(t.Ref).Outcome; o == action.Failed || o == action.Spared || o == action.OnAgain {
			n++
		}
	}
	if n == 0 {
		return false
	}
	r.replaced++
	r.note(fmt.Sprintf("%d targets could not go: planning for what is still missing", n))
	return true
}

// held are the targets that this round has decided about or acted on.
func (r *round) held() (refs []vsphere.Ref) {
	for _, t := range r.result.Targets {
		refs = append(refs, t.Ref)
	}
	for _, t := range r.pending {
		refs = append(refs, t.Ref)
	}
	return refs
}

// going are the targets that this round has turned off or asked to shut down, with what they free.
func (r *round) going() (targets []policy.Target) {
	for _, t := range r.pending {
		targets = append(targets, t.Target)
	}
	for _, t := range r.result.Targets {
		if t.Outcome.Ours() {
			targets = append(targets, policy.Target{Ref: t.Ref, Name: t.Name, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host})
		}
	}
	return targets
}

// committed counts the targets that this round has acted on, or tried to.
func (r *round) committed() int {
	n := len(r.pending)
	for _, t := range r.result.Targets {
		if t.Outcome != action.Spared && t.Outcome != action.AlreadyOff {
			n++
		}
	}
	return n
}

// plan runs PlanRound and records whom it spares. A withdrawal ends it at once, and no VM is chosen.
func (r *round) plan() (PlanResult, error) {
	r.setState(preemptapi.RoundPlanning)
	d := r.in.Demand
	var plan PlanResult
	var a *Activities
	in := PlanInput{
		Demand: d, RoundID: r.result.RoundID, Held: r.held(), Already: r.committed(), Reserve: !d.DryRun && d.Policy.Mode == policy.ModeAct,
		Going: r.going(), Repeat: r.in.Sequence > 1,
	}
	if t := r.treatment(); t.Action.StaysOn() {
		in.Throttle = &t.Throttle
	}
	in = r.stepped(in)
	ctx, cancel := workflow.WithCancel(r.ctx)
	r.interrupt = cancel
	ctx = r.in.Timing.WithOptions(ctx, 10*time.Minute, "choose among the VMs tagged "+d.Tag)
	err := workflow.ExecuteActivity(ctx, a.PlanRound, in).Get(ctx, &plan)
	r.interrupt = nil
	if r.withdrawn && preempt.EndedByCancel(r.ctx, err) {
		return PlanResult{}, nil
	}
	if err != nil {
		return plan, err
	}
	if plan.Over != "" {
		r.result.AlarmOver = true
		r.withdraw(plan.Over)
		return plan, nil
	}
	r.result.Silenced, r.result.Unmeasured = plan.Silenced, plan.Unmeasured
	r.result.Spared, r.result.SparedCount, r.result.Next = plan.Spared, plan.SparedCount, plan.Next
	if len(plan.Rooms) > 0 {
		r.result.Rooms = joined(r.result.Rooms, plan.Rooms)
	}
	if r.result.Usage == nil {
		r.result.Usage, r.result.Shortfall, r.result.Covered, r.result.Partial = plan.Usage, plan.Shortfall, plan.Covered, plan.Partial
	}
	if plan.ScopeName != "" {
		if was := r.result.ScopeName; was != "" && was != plan.ScopeName {
			r.note(fmt.Sprintf("the scope %s was called %q and is called %q now", d.Scope, was, plan.ScopeName))
		}
		r.result.ScopeName = plan.ScopeName
	}
	for _, t := range plan.Targets {
		r.targets.plan(t.Ref)
	}
	r.targets.describe(plan)
	r.relist()
	return plan, nil
}

// endsWithPlan ends a dry run, or a round whose policy only observes, with the plan as its result.
func (r *round) endsWithPlan(plan PlanResult) bool {
	switch {
	case r.in.Demand.DryRun:
		r.result.State = preemptapi.RoundPlanned
	case r.in.Demand.Policy.Mode == policy.ModeObserve:
		r.result.State = preemptapi.RoundObserved
	default:
		return false
	}
	would := action.Would(r.treatment().Action)
	list := make([]preemptapi.VMOutcome, 0, len(plan.Targets))
	for _, t := range plan.Targets {
		list = append(list, preemptapi.VMOutcome{Ref: t.Ref, Name: t.Name, Outcome: would, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host, Why: t.Why})
	}
	r.add(list...)
	return true
}
