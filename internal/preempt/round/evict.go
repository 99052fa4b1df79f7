package round

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// evictPlanned evicts the plan's targets. It returns true when some were left untouched for a new plan.
func (r *round) evictPlanned(plan PlanResult) (stale bool) {
	if len(plan.Targets) == 0 {
		return false
	}
	t := r.treatment()
	if r.plannedOtherwise(plan.Targets, t) {
		return true
	}
	r.acted = t.Action
	r.setState(preemptapi.RoundActing)
	targets := make([]ActTarget, 0, len(plan.Targets))
	for _, p := range plan.Targets {
		targets = append(targets, ActTarget{Target: p})
	}
	in := r.actInput(targets)
	in.Action, in.ForceTools, in.PlannedAt = t.Action, t.ThenForce, plan.PlannedAt
	in.Pools, in.Climb = plan.Pools, r.rung != ""
	in.Detail = len(in.Policy.Budgets) > 0 || !r.result.Deadline.IsZero() // budgets, or a notice that took its time
	res := r.evict(in, fmt.Sprintf("%s: %d VMs", t.Action, len(targets)))
	r.pending = append(r.pending, res.Pending...)
	if r.withdrawn {
		spared := make([]policy.Target, 0, len(res.Replan))
		for _, again := range res.Replan {
			spared = append(spared, again.Target)
		}
		r.spareAll(spared, policy.Because(policy.Withdrawn))
		return false
	}
	r.targets.forget(res.Replan)
	r.relist()
	return len(res.Replan) > 0
}

// plannedOtherwise reports whether the targets were planned for another action than the criticality means by now: a throttle frees
// less of a VM than its power-off, so that other VMs, or more of them, are needed. They are then left to a new plan.
func (r *round) plannedOtherwise(planned []policy.Target, t policy.Treatment) bool {
	if t.Action.StaysOn() == (planned[0].LimitMHz > 0) || r.withdrawn {
		return false
	}
	r.otherAction = true
	again := make([]ActTarget, 0, len(planned))
	for _, p := range planned {
		again = append(again, ActTarget{Target: p})
	}
	r.targets.forget(again)
	r.relist()
	return true
}

func (r *round) actInput(targets []ActTarget) ActInput {
	d := r.in.Demand
	return ActInput{
		RoundID: r.result.RoundID, Alarm: r.result.Alarm, Tag: d.Tag, Scope: d.Scope, Targets: targets, Attribute: r.attribute(), Policy: d.Policy,
		Asked: r.result.StartedAt,
	}
}

func (r *round) attribute() preempt.Attribute {
	return preempt.Attribute{
		Preempted: true, Tag: r.in.Demand.Tag, Criticality: r.criticality, WorkflowID: r.workflowID(),
		WorkflowStarted: r.started().UTC(), Event: r.in.Demand.Event, RoundID: r.result.RoundID,
		PolicyHash: r.result.PolicyHash, Policy: r.result.PolicyName, Scope: r.result.Scope.String(), For: r.forWhom(),
	}
}

// forWhom names those for whom the round makes room, in words.
func (r *round) forWhom() string {
	var names []string
	for _, room := range r.in.Demand.Rooms[:min(len(r.in.Demand.Rooms), maxNames)] {
		names = append(names, room.Words())
	}
	return strings.Join(names, ", ")
}

// maxNames is how many of those for whom room is made the record on a VM names.
const maxNames = 10

// workflowID is the id that clients know: the intake's, or the round's own where it has none.
func (r *round) workflowID() string {
	if r.in.IntakeID != "" {
		return r.in.IntakeID
	}
	return r.result.RoundID
}

func (r *round) started() time.Time {
	if !r.in.IntakeRun.IsZero() {
		return r.in.IntakeRun
	}
	return r.result.StartedAt
}

// evict runs EvictVMs and records the outcomes. The parts of many targets are shared among the workers; where that cannot
// be, they go one after the other.
func (r *round) evict(in ActInput, summary string) (all ActResult) {
	rest := in.Targets
	if parts := r.shares(in); len(parts) > 0 {
		if all, rest = r.evictShared(in, parts, summary); len(rest) == 0 {
			return all
		}
	}
	for _, part := range r.parts(rest) {
		in.Targets = part
		in.UnderWay = r.underWay(all.Pending)
		res := r.evictPart(in, summary)
		all.append(res)
		r.add(res.Outcomes...)
		r.record()
	}
	return all
}

func (res *ActResult) append(part ActResult) {
	res.Outcomes = append(res.Outcomes, part.Outcomes...)
	res.Pending = append(res.Pending, part.Pending...)
	res.Replan = append(res.Replan, part.Replan...)
}

// underWay are the guests that were asked to shut down, with more of them: budgets count them. So they do what was turned
// off and the ledger could not be told of.
func (r *round) underWay(more []ActTarget) (vms []string) {
	for _, t := range r.pending {
		vms = append(vms, t.Ref.String())
	}
	for _, t := range more {
		vms = append(vms, t.Ref.String())
	}
	if len(r.in.Demand.Policy.Budgets) > 0 {
		for _, e := range r.evicted() {
			if !r.told[toldAs(e)] {
				vms = append(vms, e.VM)
			}
		}
	}
	return vms
}

// evictPart runs EvictVMs so that a withdrawal reaches it.
func (r *round) evictPart(in ActInput, summary string) ActResult {
	ctx, cancel := workflow.WithCancel(r.ctx)
	if !in.OnlyLook || !r.letsLookUpsEnd() {
		r.interrupt = cancel
	}
	if r.withdrawn && !in.OnlyLook {
		cancel()
	}
	ctx = r.in.Timing.WithOptions(ctx, r.in.Timing.Outage, summary)
	var a *Activities
	var res ActResult
	err := workflow.ExecuteActivity(ctx, a.EvictVMs, in).Get(ctx, &res)
	r.interrupt = nil
	return r.answered(r.ctx, in, res, err)
}

// answered returns what EvictVMs has answered. Where it ended without an answer, as when a withdrawal met it between two
// attempts, what it had done by then is looked up.
func (r *round) answered(ctx workflow.Context, in ActInput, res ActResult, err error) ActResult {
	if err != nil && !in.OnlyLook {
		res, err = r.lookUpEviction(ctx, in, err)
	}
	if err != nil {
		res = ActResult{}
		for _, t := range in.Targets {
			o := outcome(t, action.Failed)
			o.Reason = policy.InWords("the eviction step failed, look at the VM: " + preempt.Cause(err))
			res.Outcomes = append(res.Outcomes, o)
		}
	}
	return res
}

// lookUpEviction finds out what an eviction had done that ended without an answer.
func (r *round) lookUpEviction(ctx workflow.Context, in ActInput, failure error) (res ActResult, err error) {
	workflow.GetLogger(ctx).Warn("an eviction ended without an answer; what it did is looked up", "error", failure)
	in.OnlyLook, in.StillOn = true, policy.Because(policy.Withdrawn)
	if !r.withdrawn {
		in.StillOn = policy.InWords("the eviction step ended before it was done: " + preempt.Cause(failure))
	}
	var a *Activities
	ctx = r.in.Timing.WithOptions(ctx, r.in.Timing.Outage, "look what was done before the step ended")
	err = workflow.ExecuteActivity(ctx, a.EvictVMs, in).Get(ctx, &res)
	for i, o := range res.Outcomes {
		if !r.withdrawn && o.Outcome == action.Spared && o.Reason == in.StillOn {
			res.Outcomes[i].Outcome = action.Failed
		}
	}
	return res, err
}
