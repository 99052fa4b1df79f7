package preempt

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Round is the workflow that carries out one plan: it plans, reserves, evicts, verifies, annotates and
// reports. It is independent of its intake, which may be cancelled, time out or be terminated meanwhile.
// It fails only with its RoundResult as the error's details.
func Round(ctx workflow.Context, in RoundInput) (preemptapi.RoundResult, error) {
	r := newRound(ctx, in)
	if err := workflow.SetQueryHandler(ctx, preemptapi.RoundStateQuery, func() (preemptapi.RoundResult, error) { return r.snapshot(), nil }); err != nil {
		return preemptapi.RoundResult{}, err
	}
	workflow.Go(r.ctx, r.listen)
	workflow.Go(ctx, r.listenCancel)
	r.show()
	if err := r.carryOut(); err != nil {
		return r.fail(err)
	}
	return r.conclude()
}

// round is the state of one run of the workflow.
type round struct {
	ctx     workflow.Context // never cancelled: a cancellation of the workflow is a withdrawal
	in      RoundInput
	result  preemptapi.RoundResult
	targets targets

	criticality preemption.Criticality // as asked for, or raised since
	withdrawn   bool
	withdrawnAt time.Time
	interrupt   workflow.CancelFunc // ends the step under way that may be cut short; nil: none
	pending     []ActTarget         // asked to shut down
	unsure      bool                // the last look at the pending VMs was lost
	late        []ActTarget         // ignored their shutdown
	replanError string              // a new plan was due and could not be made
	noticed     []*warned           // have a notice that is to be cleared
	notices     int                 // how often guests were told
	recorded    int                 // evictions that the ledger knows of
	told        map[string]bool     // the same, one by one
	replaced    int                 // plans made to replace targets that could not go
}

func newRound(ctx workflow.Context, in RoundInput) *round {
	own, _ := workflow.NewDisconnectedContext(ctx)
	info := workflow.GetInfo(ctx)
	d := in.Demand
	return &round{
		ctx: tally.With(own), in: in, criticality: d.Criticality, targets: newTargets(), told: map[string]bool{},
		result: preemptapi.RoundResult{
			RoundID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, IntakeID: in.IntakeID,
			State: preemptapi.RoundPlanning, Tag: d.Tag, Criticality: d.Criticality, Alarm: d.Alarm(),
			Scope: d.Scope, ScopeName: d.ScopeName, PolicyName: d.PolicyName, PolicyHash: d.PolicyHash,
			StartedAt: workflow.Now(ctx).UTC(), Targets: []preemptapi.VMOutcome{}, Spared: []policy.Spared{},
		},
	}
}

// listen takes changes of urgency from the intake.
func (r *round) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, RoundSignal)
	for {
		var c RoundChange
		if !ch.Receive(ctx, &c) {
			return
		}
		switch {
		case c.Withdraw:
			r.withdraw(c.Reason)
		case c.Soften:
			r.soften(c)
		default:
			r.raise(c)
		}
	}
}

// listenCancel takes a cancellation of the round itself for a withdrawal.
func (r *round) listenCancel(ctx workflow.Context) {
	ctx.Done().Receive(ctx, nil)
	r.withdraw("the round was cancelled")
}

func (r *round) withdraw(reason string) {
	if r.withdrawn {
		return
	}
	r.withdrawn, r.withdrawnAt = true, workflow.Now(r.ctx)
	r.note("withdrawn: " + reason)
	r.cutShort()
}

func (r *round) raise(c RoundChange) {
	if c.Criticality.Rank() <= r.criticality.Rank() || r.withdrawn {
		return
	}
	r.criticality = c.Criticality
	r.result.Criticality = c.Criticality
	r.note(fmt.Sprintf("raised to %s: %s", c.Criticality, c.Reason))
	// An eviction under way is not cut short by a raise; only the wait for guests is.
	if r.result.State == preemptapi.RoundWaiting || r.result.State == preemptapi.RoundNotified {
		r.cutShort()
	}
}

// soften lowers the criticality for what is not yet acted upon; guests that were asked to shut down keep
// their deadline where the milder criticality has one.
func (r *round) soften(c RoundChange) {
	if c.Criticality.Rank() == 0 || c.Criticality.Rank() >= r.criticality.Rank() || r.withdrawn {
		return
	}
	r.criticality = c.Criticality
	r.note("softened: " + c.Reason)
}

func (r *round) note(text string) {
	r.result.Changes = append(r.result.Changes, workflow.Now(r.ctx).UTC().Format(time.RFC3339)+" "+text)
	workflow.GetLogger(r.ctx).Info(text, "alarm", r.result.Alarm, "cluster", r.result.Scope.String())
}

func (r *round) cutShort() {
	if r.interrupt != nil {
		r.interrupt()
	}
}

// treatment is what the criticality means now.
func (r *round) treatment() policy.Treatment {
	t, _ := r.in.Demand.Policy.Criticality.For(string(r.criticality))
	return t
}

// maxPlans bounds how often a round plans. Each new plan stands for an outage; but workers whose clocks
// disagree would find every plan of one another stale.
const maxPlans = 100

// carryOut plans and acts, and plans again where vCenter was away for so long that the plan went stale.
func (r *round) carryOut() error {
	for stale, plans := true, 1; stale && !r.withdrawn; plans++ {
		if plans > maxPlans {
			r.replanError = fmt.Sprintf("%d plans went stale one after the other: look at the load and the clocks of the workers", maxPlans)
			break
		}
		plan, err := r.plan()
		if err != nil && len(r.held()) > 0 {
			r.replanError = cause(err) // what was done already is brought to its end
			r.note("planning again failed: " + r.replanError)
			break
		}
		if err != nil || r.looksOnly(plan) {
			return err
		}
		switch stale = false; {
		case r.withdrawn:
			r.settleAll(plan.Targets, preemptapi.ReasonWithdrawn)
		case r.warn(plan):
			stale = true
			r.note("vCenter was away: planning again")
		default:
			stale = r.replace(plan)
		}
	}
	r.awaitGuests()
	r.clearNotices()
	return nil
}

// maxReplacements bounds how often a round plans again for targets that could not go.
const maxReplacements = 3

// replace tells whether others are to go for the plan's targets that could not: only where the policy has a
// target utilisation, for the shortfall that is left.
func (r *round) replace(plan PlanResult) bool {
	if !r.in.Demand.Policy.Target.Set() || r.withdrawn || r.in.Demand.VM != "" || r.replaced == maxReplacements {
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

// plan has the plan computed and reserved, and takes over whom it spares. A withdrawal ends it at once,
// with nobody chosen.
func (r *round) plan() (PlanResult, error) {
	r.setState(preemptapi.RoundPlanning)
	d := r.in.Demand
	var plan PlanResult
	var a *Activities
	in := PlanInput{
		Demand: d, RoundID: r.result.RoundID, Held: r.held(), Already: r.committed(), Reserve: !d.DryRun && d.Policy.Mode == policy.ModeAct,
		Going: r.going(), Repeat: r.in.Sequence > 1,
	}
	ctx, cancel := workflow.WithCancel(r.ctx)
	r.interrupt = cancel
	ctx = r.options(ctx, 10*time.Minute, "choose among the VMs tagged "+d.Tag)
	err := workflow.ExecuteActivity(ctx, a.PlanRound, in).Get(ctx, &plan)
	r.interrupt = nil
	if r.withdrawn && endedEarly(r.ctx, err) {
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
	r.result.Spared, r.result.SparedCount = plan.Spared, plan.SparedCount
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
	r.relist()
	return plan, nil
}

// looksOnly ends a dry run, or a round whose policy only observes, with the plan as its result.
func (r *round) looksOnly(plan PlanResult) bool {
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

// act evicts the plan's targets. It returns true when some were left untouched for a new plan.
func (r *round) act(plan PlanResult) (stale bool) {
	if len(plan.Targets) == 0 {
		return false
	}
	r.setState(preemptapi.RoundActing)
	t := r.treatment()
	targets := make([]ActTarget, 0, len(plan.Targets))
	for _, p := range plan.Targets {
		targets = append(targets, ActTarget{Target: p})
	}
	in := r.actInput(targets)
	in.Action, in.ForceTools, in.PlannedAt = t.Action, t.ThenForce, plan.PlannedAt
	in.Pools = plan.Pools
	in.Detail = len(in.Policy.Budgets) > 0 || !r.result.Deadline.IsZero() // budgets, or a notice that took its time
	res := r.evict(in, fmt.Sprintf("%s: %d VMs", t.Action, len(targets)))
	r.pending = append(r.pending, res.Pending...)
	if r.withdrawn {
		spared := make([]policy.Target, 0, len(res.Replan))
		for _, again := range res.Replan {
			spared = append(spared, again.Target)
		}
		r.settleAll(spared, preemptapi.ReasonWithdrawn)
		return false
	}
	r.targets.forget(res.Replan)
	r.relist()
	return len(res.Replan) > 0
}

func (r *round) actInput(targets []ActTarget) ActInput {
	d := r.in.Demand
	return ActInput{
		RoundID: r.result.RoundID, Alarm: r.result.Alarm, Tag: d.Tag, Scope: d.Scope, Targets: targets, Attribute: r.attribute(), Policy: d.Policy,
		Asked: r.result.StartedAt,
	}
}

func (r *round) attribute() Attribute {
	return Attribute{
		Preempted: true, Tag: r.in.Demand.Tag, Criticality: r.criticality, WorkflowID: r.workflowID(),
		WorkflowStarted: r.started().UTC(), Event: r.in.Demand.Event, RoundID: r.result.RoundID,
		PolicyHash: r.result.PolicyHash, Policy: r.result.PolicyName, Scope: r.result.Scope.String(),
	}
}

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

// evict runs EvictVMs, of many targets in parts one after the other, and takes over their outcomes.
func (r *round) evict(in ActInput, summary string) (all ActResult) {
	for _, part := range r.parts(in.Targets) {
		in.Targets = part
		in.UnderWay = r.underWay(all.Pending)
		res := r.evictPart(in, summary)
		all.Outcomes = append(all.Outcomes, res.Outcomes...)
		all.Pending = append(all.Pending, res.Pending...)
		all.Replan = append(all.Replan, res.Replan...)
		r.add(res.Outcomes...)
		r.record()
	}
	return all
}

// underWay are the guests that were asked to shut down, with more of them: budgets count them.
func (r *round) underWay(more []ActTarget) (vms []string) {
	for _, t := range r.pending {
		vms = append(vms, t.Ref.String())
	}
	for _, t := range more {
		vms = append(vms, t.Ref.String())
	}
	return vms
}

// evictPart runs EvictVMs so that a withdrawal reaches it. Where it ended without an answer, as when a withdrawal met
// it between two attempts, what it had done by then is looked up.
func (r *round) evictPart(in ActInput, summary string) ActResult {
	var a *Activities
	ctx, cancel := workflow.WithCancel(r.ctx)
	if !in.Settle || !r.looksToTheEnd() {
		r.interrupt = cancel
	}
	if r.withdrawn && !in.Settle {
		cancel()
	}
	ctx = r.options(ctx, r.in.Timing.Outage, summary)
	var res ActResult
	err := workflow.ExecuteActivity(ctx, a.EvictVMs, in).Get(ctx, &res)
	r.interrupt = nil
	if err != nil && !in.Settle {
		res, err = r.lookUp(in, err)
	}
	if err != nil {
		res = ActResult{}
		for _, t := range in.Targets {
			o := outcome(t, action.Failed)
			o.Reason = "the eviction step failed, look at the VM: " + cause(err)
			res.Outcomes = append(res.Outcomes, o)
		}
	}
	return res
}

// lookUp tells what an eviction had done that ended without an answer.
func (r *round) lookUp(in ActInput, failure error) (res ActResult, err error) {
	workflow.GetLogger(r.ctx).Warn("an eviction ended without an answer; what it did is looked up", "error", failure)
	in.Settle, in.StillOn = true, preemptapi.ReasonWithdrawn
	if !r.withdrawn {
		in.StillOn = "the eviction step ended before it was done: " + cause(failure)
	}
	var a *Activities
	ctx := r.options(r.ctx, r.in.Timing.Outage, "look what was done before the step ended")
	err = workflow.ExecuteActivity(ctx, a.EvictVMs, in).Get(ctx, &res)
	for i, o := range res.Outcomes {
		if !r.withdrawn && o.Outcome == action.Spared && o.Reason == in.StillOn {
			res.Outcomes[i].Outcome = action.Failed
		}
	}
	return res, err
}

// options bounds an activity: by time in all, by heartbeats, and not by attempts, for an outage is waited
// out; each step bounds its own attempts on an object.
func (r *round) options(ctx workflow.Context, each time.Duration, summary string) workflow.Context {
	t := r.in.Timing
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: each, ScheduleToCloseTimeout: t.Outage + each, HeartbeatTimeout: t.Heartbeat,
		WaitForCancellation: true, Summary: summary,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: t.Retry, BackoffCoefficient: 1.5, MaximumInterval: 5 * t.Retry},
	})
}
