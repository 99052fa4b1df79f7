package restore

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/delivery"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Restore is the workflow that powers on again what was preempted in a scope: after the pressure has ended
// for the settle time, wave by wave, measuring again before each. It stops when the alarm rises or it is
// cancelled; what is being powered on at that moment is finished and recorded. It fails only with its
// RestoreResult as the error's details.
func Restore(ctx workflow.Context, in preemptapi.RestoreInput) (preemptapi.RestoreResult, error) {
	r := newRestore(ctx, in)
	if err := workflow.SetQueryHandler(ctx, preemptapi.RestoreStateQuery, func() (preemptapi.RestoreResult, error) { return fittedRestore(r.result), nil }); err != nil {
		return preemptapi.RestoreResult{}, err
	}
	workflow.Go(r.ctx, r.listen)
	workflow.Go(r.ctx, r.listenHold)
	workflow.Go(ctx, r.listenCancel)
	if err := r.prepare(); err != nil {
		return r.fail(err)
	}
	for {
		err := r.untilDone()
		r.release()
		switch {
		case err != nil:
			r.awaitReplies()
			return r.fail(err)
		case r.rolls:
			r.awaitReplies()
			return preemptapi.RestoreResult{}, workflow.NewContinueAsNewError(ctx, preemptapi.RestoreType, r.next())
		}
		r.conclude()
		if r.yield(); !r.restart || r.cancelled {
			r.awaitReplies()
		}
		if !r.restart || r.cancelled {
			return fittedRestore(r.result), nil
		}
		r.startAgain()
	}
}

// restore is the state of one run of the workflow.
type restore struct {
	ctx    workflow.Context // never cancelled: a cancellation of the workflow is a stop
	in     preemptapi.RestoreInput
	setup  Setup
	result preemptapi.RestoreResult
	info   *workflow.Info

	stopReason     string // why; empty: it goes on
	holdReason     string // why the plan under way cannot be carried out; empty: it can
	restart        bool   // the pressure has ended once more since it was stopped
	cancelled      bool   // cancelled: nothing makes it go on
	rolls          bool   // there is more to do in another run
	interrupt      workflow.CancelFunc
	settleTimeOver bool // the settle time has passed
	named          []vsphere.Ref
	decided        []vsphere.Ref        // decided about for good
	leftForGood    []policy.Spared      // decided about for good, and left off
	replied        map[vsphere.Ref]bool // the reply address knows of
	replying       int                  // replies under way
	failures       map[vsphere.Ref]int  // waves in which a VM failed for a reason that may pass
	lives          int
	out            delivery.Outbox // what people are told
	told           map[string]bool // VMs of which they were told
	idle           int             // looks in a row that brought nobody back
}

func newRestore(ctx workflow.Context, in preemptapi.RestoreInput) *restore {
	own, _ := workflow.NewDisconnectedContext(ctx)
	info := workflow.GetInfo(ctx)
	r := &restore{ctx: tally.With(own), in: in, info: info, replied: map[vsphere.Ref]bool{}, told: map[string]bool{}, failures: map[vsphere.Ref]int{}}
	if in.Earlier != nil {
		r.result, r.settleTimeOver = *in.Earlier, !in.Unsettled
		r.stopReason, r.restart, r.cancelled = in.Stopped, in.Again, in.Over
		r.add(slices.Clone(r.result.VMs))
	} else {
		r.result = preemptapi.RestoreResult{StartedAt: workflow.Now(ctx).UTC(), VMs: []preemptapi.RestoredVM{}, Left: []policy.Spared{}}
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
	ch := workflow.GetSignalChannel(ctx, preemptapi.RestoreSignal)
	for {
		var c preemptapi.RestoreChange
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

func (r *restore) change(c preemptapi.RestoreChange) {
	switch {
	case c.Stop:
		r.restart = false
		r.stop(c.Reason)
	case r.stopReason != "":
		r.restart = true
		r.note("to begin again: " + c.Reason)
	}
}

// listenCancel takes a cancellation for a stop that holds.
func (r *restore) listenCancel(ctx workflow.Context) {
	ctx.Done().Receive(ctx, nil)
	r.cancelled = true
	r.stop("the restore was cancelled")
}

func (r *restore) stop(reason string) {
	if r.stopReason != "" {
		return
	}
	r.stopReason = reason
	r.note("stopped: " + reason)
	if r.interrupt != nil {
		r.interrupt()
	}
}

func (r *restore) note(text string) {
	r.result.Changes = preempt.Note(r.ctx, r.result.Changes, text, r.in.By, r.in.Scope.String())
}

// prepare pins the policy and the timing.
func (r *restore) prepare() error {
	var a *Activities
	ctx := workflow.WithLocalActivityOptions(r.ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second})
	if err := workflow.ExecuteLocalActivity(ctx, a.PrepareRestore, r.in).Get(ctx, &r.setup); err != nil {
		return err
	}
	if r.in.DryRun || r.in.Person {
		r.setup.Timing.Outage = min(r.setup.Timing.Outage, preempt.PersonWaits) // somebody sits before it
	}
	r.result.PolicyName, r.result.PolicyHash = r.setup.PolicyName, r.setup.PolicyHash
	return nil
}

// startAgain begins again after a stop: the alarm has fallen once more.
func (r *restore) startAgain() {
	r.restart, r.stopReason, r.settleTimeOver, r.idle, r.decided = false, "", false, 0, nil
	clear(r.failures)
	r.result.EndedAt, r.result.Reason = time.Time{}, ""
	r.lives++
}

// untilDone waits for the settle time and restores wave by wave, until no VM is left or it is stopped.
func (r *restore) untilDone() error {
	if r.stopReason == "" {
		r.waitSettleTime()
	}
	for r.yield(); r.stopReason == ""; r.yield() {
		if r.info.GetContinueAsNewSuggested() {
			r.rolls = true
			return nil
		}
		if goOn, err := r.wave(); err != nil || !goOn {
			return err
		}
	}
	r.finish(preemptapi.RestoreStopped, r.stopReason)
	return nil
}
