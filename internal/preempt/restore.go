package preempt

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/contract"
)

// Restore is the workflow that powers on again what was preempted in a scope: after the pressure has ended
// for the settle time, wave by wave, measuring again before each. It stops when the alarm rises or it is
// cancelled; what is being powered on at that moment is finished and recorded. It fails only with its
// RestoreResult as the error's details.
func Restore(ctx workflow.Context, in RestoreInput) (RestoreResult, error) {
	r := newRestore(ctx, in)
	if err := workflow.SetQueryHandler(ctx, contract.RestoreStateQuery, func() (RestoreResult, error) { return r.result, nil }); err != nil {
		return RestoreResult{}, err
	}
	workflow.Go(r.ctx, r.listen)
	workflow.Go(ctx, r.listenCancel)
	if err := r.prepare(); err != nil {
		return r.fail(err)
	}
	for {
		err := r.life()
		r.release()
		switch {
		case err != nil:
			return r.fail(err)
		case r.more:
			next := in
			next.Earlier, next.Policy, next.PolicyName, next.PolicyHash = &r.result, &r.setup.Policy, r.setup.PolicyName, r.setup.PolicyHash
			return RestoreResult{}, workflow.NewContinueAsNewError(ctx, contract.RestoreType, next)
		}
		r.conclude()
		if r.yield(); !r.again || r.over {
			return r.result, nil
		}
		r.revive()
	}
}

// restore is the state of one run of the workflow.
type restore struct {
	ctx    workflow.Context // never cancelled: a cancellation of the workflow is a stop
	in     RestoreInput
	setup  RestoreSetup
	result RestoreResult
	info   *workflow.Info

	stopped   string // why; empty: it goes on
	again     bool   // the pressure has ended once more since it was stopped
	over      bool   // cancelled: nothing makes it go on
	more      bool   // there is more to do in another run
	interrupt workflow.CancelFunc
	settled   bool // the settle time has passed
	named     []policy.Ref
	done      []policy.Ref    // decided about for good
	kept      []policy.Spared // decided about for good, and left off
	replied   []policy.Ref    // the reply address knows of
	lives     int
	idle      int // looks in a row that brought nobody back
}

func newRestore(ctx workflow.Context, in RestoreInput) *restore {
	own, _ := workflow.NewDisconnectedContext(ctx)
	info := workflow.GetInfo(ctx)
	r := &restore{ctx: own, in: in, info: info}
	if in.Earlier != nil {
		r.result, r.settled = *in.Earlier, true
		for _, vm := range slices.Clone(r.result.VMs) {
			r.add(vm)
		}
	} else {
		r.result = RestoreResult{StartedAt: workflow.Now(ctx).UTC(), VMs: []RestoredVM{}, Left: []policy.Spared{}}
	}
	r.result.RestoreID, r.result.RunID = info.WorkflowExecution.ID, info.WorkflowExecution.RunID
	r.result.By, r.result.Tag, r.result.Scope = in.By, in.Tag, in.Scope
	if r.result.ScopeName == "" {
		r.result.ScopeName = in.ScopeName
	}
	return r
}

// listen takes word of the alarm.
func (r *restore) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, contract.RestoreSignal)
	for {
		var c RestoreChange
		if !ch.Receive(ctx, &c) {
			return
		}
		r.change(c)
	}
}

// yield lets listen take what has arrived, before anything is decided that a stop would change.
func (r *restore) yield() {
	turn := false
	workflow.Go(r.ctx, func(workflow.Context) { turn = true })
	// Its error is that of a context which is never cancelled.
	_ = workflow.Await(r.ctx, func() bool { return turn })
}

func (r *restore) change(c RestoreChange) {
	switch {
	case c.Stop:
		r.again = false
		r.stop(c.Reason)
	case r.stopped != "":
		r.again = true
		r.note("to begin again: " + c.Reason)
	}
}

// listenCancel takes a cancellation for a stop that holds.
func (r *restore) listenCancel(ctx workflow.Context) {
	ctx.Done().Receive(ctx, nil)
	r.over = true
	r.stop("the restore was cancelled")
}

func (r *restore) stop(reason string) {
	if r.stopped != "" {
		return
	}
	r.stopped = reason
	r.note("stopped: " + reason)
	if r.interrupt != nil {
		r.interrupt()
	}
}

func (r *restore) note(text string) {
	r.result.Changes = append(r.result.Changes, workflow.Now(r.ctx).UTC().Format(time.RFC3339)+" "+text)
	workflow.GetLogger(r.ctx).Info(text, "alarm", r.in.By, "cluster", r.in.Scope.String())
}

// prepare pins the policy and the timing.
func (r *restore) prepare() error {
	var a *Activities
	ctx := workflow.WithLocalActivityOptions(r.ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second})
	if err := workflow.ExecuteLocalActivity(ctx, a.PrepareRestore, r.in).Get(ctx, &r.setup); err != nil {
		return err
	}
	if r.in.DryRun || r.in.Person {
		r.setup.Timing.Outage = min(r.setup.Timing.Outage, planOutage) // somebody sits before it
	}
	r.result.PolicyName, r.result.PolicyHash = r.setup.PolicyName, r.setup.PolicyHash
	return nil
}

// revive begins again after a stop: the alarm has fallen once more.
func (r *restore) revive() {
	r.again, r.stopped, r.settled, r.idle, r.done = false, "", false, 0, nil
	r.result.EndedAt, r.result.Reason = time.Time{}, ""
	r.lives++
}

// life settles and restores once, until nobody is left, or it is stopped.
func (r *restore) life() error {
	if settle := r.setup.Policy.Restore.Settle.D(); !r.in.Person && !r.settled && settle > 0 {
		r.pause(contract.RestoreSettling, settle)
	}
	r.settled = true
	for r.yield(); r.stopped == ""; r.yield() {
		if r.info.GetContinueAsNewSuggested() {
			r.more = true
			return nil
		}
		if goOn, err := r.round(); err != nil || !goOn {
			return err
		}
	}
	r.finish(contract.RestoreStopped, r.stopped)
	return nil
}

// round plans and powers on one wave; it returns whether there is more to do.
func (r *restore) round() (goOn bool, err error) {
	r.setState(contract.RestoreRestoring)
	plan, err := r.plan()
	if err != nil || r.stopped != "" {
		return err == nil, err
	}
	switch {
	case r.in.DryRun:
		return false, r.look(plan, contract.RestorePlanned)
	case r.setup.Policy.Mode == policy.ModeObserve:
		return false, r.look(plan, contract.RestoreObserved)
	case len(plan.Active) > 0 && r.in.Person:
		r.finish(contract.RestoreRefused, "round "+plan.Active[0]+" is under way in this scope")
		return false, nil
	case len(plan.Active) > 0:
		r.result.Reason = "round " + plan.Active[0] + " is under way in this scope"
		r.wait()
		return true, nil
	}
	r.result.Reason = ""
	if len(plan.Adopt) > 0 {
		r.powerOn(plan.Adopt, plan.PlannedAt, true) // records that they are on
	}
	var wave []policy.Return
	for _, t := range plan.Returns.Returns {
		if t.Wave == 1 {
			wave = append(wave, t)
		}
	}
	if len(wave) == 0 {
		return r.nobody(plan), nil
	}
	r.result.Waves++
	brought, open := r.powerOn(wave, plan.PlannedAt, false)
	r.release()
	if brought > 0 {
		r.idle = 0
	}
	if open == 0 && len(wave) == len(plan.Returns.Returns) && (!plan.Later || r.in.Person) {
		r.finish("", "")
		return false, nil
	}
	r.wait()
	return true, nil
}

// nobody ends a restore for which nobody is left, or waits for what keeps those back that are. A person does
// not wait.
func (r *restore) nobody(plan PlanRestoreResult) (goOn bool) {
	if plan.Later && !r.in.Person {
		r.result.Reason = "nobody can come back now"
		r.wait()
		return true
	}
	r.finish("", "")
	return false
}

// maxIdle bounds how the waits grow in which nobody comes back: 30 s to about five minutes.
const maxIdle = 10

// wait lets vCenter's statistics catch up, for longer where nobody came back.
func (r *restore) wait() {
	r.idle = min(r.idle+1, maxIdle)
	r.pause(contract.RestoreWaiting, time.Duration(r.idle)*r.setup.Timing.Remeasure)
}

// pause waits for d, or until it is stopped.
func (r *restore) pause(state string, d time.Duration) {
	r.result.Until = workflow.Now(r.ctx).Add(d).UTC()
	r.setState(state)
	// Its error is that of a context which is never cancelled.
	_, _ = workflow.AwaitWithTimeout(r.ctx, d, func() bool { return r.stopped != "" })
	r.result.Until = time.Time{}
}

// plan has the next waves chosen, and the first reserved.
func (r *restore) plan() (plan PlanRestoreResult, err error) {
	in := PlanRestoreInput{
		RestoreID: r.result.RestoreID, Scope: r.in.Scope, ScopeName: r.in.ScopeName, Tag: r.in.Tag, Policy: r.setup.Policy,
		VMs: r.in.VMs, Named: r.named, Done: r.done, Warming: r.warming(),
		Reserve: !r.in.DryRun && r.setup.Policy.Mode != policy.ModeObserve,
	}
	ctx, cancel := workflow.WithCancel(r.ctx)
	defer cancel()
	r.interrupt = cancel
	var a *Activities
	err = workflow.ExecuteActivity(r.options(ctx, 10*time.Minute, "choose whom to power on again"), a.PlanRestore, in).Get(ctx, &plan)
	r.interrupt = nil
	if err != nil {
		if temporal.IsCanceledError(err) && r.stopped != "" {
			err = nil
		}
		return plan, err
	}
	r.named = plan.Named
	r.result.Left = append(plan.Left, r.kept...)
	if plan.ScopeName != "" {
		r.result.ScopeName = plan.ScopeName
	}
	if r.result.Before == nil {
		r.result.Before = plan.Usage
	}
	r.result.After = plan.Usage
	return plan, nil
}

// warmUp is how long a VM that came back may take to use what it used before.
const warmUp = 5 * time.Minute

func (r *restore) warming() (list []policy.Return) {
	for _, vm := range r.result.VMs {
		if vm.Outcome == contract.OutcomeRestored && workflow.Now(r.ctx).Sub(vm.OnAt) < warmUp {
			list = append(list, vm.Return)
		}
	}
	return list
}

// powerOn powers a wave on, or records one that is on, and returns how many came back and how many are to be
// tried again. Where the step ended
// without an answer, as when a stop met it between two attempts, what it had done by then is looked up.
func (r *restore) powerOn(wave []policy.Return, plannedAt time.Time, settle bool) (brought, open int) {
	in := PowerOnInput{
		RestoreID: r.result.RestoreID, By: r.in.By, Tag: r.in.Tag, Targets: wave, Timeout: r.setup.Policy.PowerOffTimeout,
		PlannedAt: plannedAt, Settle: settle,
	}
	var a *Activities
	var res PowerOnResult
	ctx, cancel := workflow.WithCancel(r.ctx)
	defer cancel()
	r.interrupt = cancel
	if r.stopped != "" {
		cancel()
	}
	opts := r.options(ctx, r.setup.Timing.Outage+in.Timeout.D(), fmt.Sprintf("power on: %d VMs", len(wave)))
	err := workflow.ExecuteActivity(opts, a.PowerOnVMs, in).Get(ctx, &res)
	r.interrupt = nil
	if err != nil {
		workflow.GetLogger(r.ctx).Warn("powering on ended without an answer; what it did is looked up", "error", err)
		in.Settle = true
		opts = r.options(r.ctx, r.setup.Timing.Outage+in.Timeout.D(), "look what was done before the step ended")
		if err = workflow.ExecuteActivity(opts, a.PowerOnVMs, in).Get(r.ctx, &res); err != nil {
			res = PowerOnResult{}
			for _, t := range wave {
				res.VMs = append(res.VMs, RestoredVM{Return: t, Outcome: OutcomeFailed, Reason: "powering it on failed, look at the VM: " + cause(err)})
			}
		}
	}
	open = len(wave)
	for _, vm := range res.VMs {
		vm.Wave = r.result.Waves
		if r.add(vm) {
			open--
		}
		if vm.Outcome == contract.OutcomeRestored {
			brought++
		}
	}
	r.show()
	return brought, open
}

// add records what became of a VM; it replaces what was known of it before. It returns false for one that is
// to be tried again: no host could take it, and no person waits.
func (r *restore) add(vm RestoredVM) (decided bool) {
	r.result.Left = slices.DeleteFunc(r.result.Left, func(s policy.Spared) bool { return s.Ref == vm.Ref })
	increment(r.ctx, "preemption_restored_vms", map[string]string{"outcome": vm.Outcome})
	decided = r.in.Person || vm.Reason != string(policy.NoHost)
	if vm.Outcome == contract.OutcomeLeft {
		spared := policy.Spared{Ref: vm.Ref, Name: vm.Name, Reason: policy.Reason(vm.Reason)}
		if r.result.Left = append(r.result.Left, spared); r.in.Person {
			r.kept = append(r.kept, spared)
		}
	} else {
		r.result.VMs = append(slices.DeleteFunc(r.result.VMs, func(other RestoredVM) bool { return other.Ref == vm.Ref }), vm)
	}
	// Who came back is known by its attribute, and may be preempted and restored again.
	if vm.Outcome == OutcomeFailed || vm.Outcome == contract.OutcomeRestored && !vm.Annotated || r.in.Person {
		r.done = append(r.done, vm.Ref)
	}
	return decided
}

// look ends a restore that only looks on.
func (r *restore) look(plan PlanRestoreResult, state string) error {
	for _, t := range plan.Returns.Returns {
		r.result.VMs = append(r.result.VMs, RestoredVM{Return: t, Outcome: contract.OutcomeWouldPowerOn})
		r.result.Waves = t.Wave
	}
	reason := ""
	if len(plan.Active) > 0 {
		reason = "round " + plan.Active[0] + " is under way in this scope: nobody would come back beside it"
	}
	r.finish(state, reason)
	return nil
}

// finish sets the state in which it ends. The empty state is that of what was done.
func (r *restore) finish(state, reason string) {
	failed := r.result.Count(OutcomeFailed)
	if state == "" {
		state = contract.RestoreCompleted
		if failed > 0 {
			state, reason = contract.RestorePartial, fmt.Sprintf("%d of %d VMs failed", failed, len(r.result.VMs))
		}
	}
	r.result.Reason = reason
	increment(r.ctx, "preemption_restores", map[string]string{"state": state})
	r.setState(state)
}

// release gives back what is reserved.
func (r *restore) release() {
	if r.in.DryRun {
		return
	}
	var a *Activities
	ctx := workflow.WithLocalActivityOptions(r.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: time.Minute,
	})
	if err := workflow.ExecuteLocalActivity(ctx, a.ReleaseRestore, r.result.RestoreID).Get(ctx, nil); err != nil {
		workflow.GetLogger(r.ctx).Error("the ledger could not be told that the restore holds nothing; it will find out by itself", "error", err)
	}
}

// fail ends a restore that could not be carried out.
func (r *restore) fail(err error) (RestoreResult, error) {
	kind, text := errRound, cause(err)
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		kind = app.Type()
	}
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.finish(contract.RestoreFailed, text)
	workflow.GetLogger(r.ctx).Error("the restore failed", "reason", text, "kind", kind)
	return RestoreResult{}, temporal.NewNonRetryableApplicationError(text, kind, nil, r.result)
}

func (r *restore) options(ctx workflow.Context, each time.Duration, summary string) workflow.Context {
	t := r.setup.Timing
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: each, ScheduleToCloseTimeout: t.Outage + each, HeartbeatTimeout: t.Heartbeat,
		WaitForCancellation: true, Summary: summary,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: t.Retry, BackoffCoefficient: 1.5, MaximumInterval: 5 * t.Retry},
	})
}
