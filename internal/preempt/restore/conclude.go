package restore

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// next is the input of the run that this one continues as. It carries a stop that arrived in the last moment, for the
// next run does not receive that signal.
func (r *restore) next() preemptapi.RestoreInput {
	r.yield()
	next, earlier := r.in, fittedRestore(r.result)
	next.Earlier, next.Policy, next.PolicyName, next.PolicyHash = &earlier, &r.setup.Policy, r.setup.PolicyName, r.setup.PolicyHash
	next.Stopped, next.Again, next.Over, next.Unsettled = r.stopReason, r.restart, r.cancelled, !r.settleTimeOver
	return next
}

// conclude ends the restore for now, and sends the reply. If the alarm rises and falls once more, the restore begins again
// beside its reply: an address that fails for long must not keep VMs off.
func (r *restore) conclude() {
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.tellBack()
	if workflow.GetVersion(r.ctx, "restore-beside-reply", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		r.reply(r.ctx)
		r.show()
		return
	}
	r.replying++
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		r.reply(ctx)
		r.replying--
	})
	// Its error is that of a context which is never cancelled.
	_ = workflow.Await(r.ctx, func() bool { return r.replying == 0 || r.restart && !r.cancelled })
	r.show()
}

// awaitReplies waits until the replies that are under way are sent, or given up, and the messages to people are on their way.
func (r *restore) awaitReplies() {
	if r.replying > 0 {
		_ = workflow.Await(r.ctx, func() bool { return r.replying == 0 }) // as above
	}
	r.out.Close(r.ctx)
}

// reply sends the CloudEvent where an address was given and somebody came back.
func (r *restore) reply(ctx workflow.Context) {
	vms := r.result.Restored()
	vms = slices.DeleteFunc(vms, func(ref vsphere.Ref) bool { return r.replied[ref] })
	if r.in.ReplyTo == "" || len(vms) == 0 {
		return
	}
	in := preempt.ReplyInput{
		Target: r.in.ReplyTo, ID: fmt.Sprintf("%s-%s-%d", r.result.RestoreID, r.result.RunID, r.lives), Time: workflow.Now(r.ctx), Type: preemption.RestoredEventType, VMs: vms,
		Attribute: preempt.Attribute{
			Restored: true, RestoredAt: r.result.EndedAt, RestoredBy: r.in.By, RestoreID: r.result.RestoreID, Tag: r.in.Tag,
			WorkflowID: r.result.RestoreID, WorkflowStarted: r.result.StartedAt, Scope: r.in.Scope.String(),
			Policy: r.result.PolicyName, PolicyHash: r.result.PolicyHash,
		},
	}
	told := make(map[vsphere.Ref]bool, len(vms))
	for _, ref := range vms {
		told[ref] = true
	}
	for _, vm := range r.result.VMs {
		if told[vm.Ref] {
			in.Name(vm.Ref, vm.Name)
		}
	}
	for _, ref := range vms {
		r.replied[ref] = true // or is told of now
	}
	life := r.lives
	err := r.setup.Timing.Reply(ctx, in)
	if err != nil {
		for _, ref := range vms {
			delete(r.replied, ref)
		}
	}
	switch {
	case r.lives != life: // the result is of another life by now
	case err != nil:
		r.result.ReplyError = preempt.Cause(err)
	default:
		r.result.ReplySent = true
	}
}

// endWithPlan ends a restore that only plans.
func (r *restore) endWithPlan(plan PlanResult, state preemptapi.RestoreState) error {
	for _, t := range plan.Limits {
		if !t.StaysOff {
			r.result.VMs = append(r.result.VMs, preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeWouldLift})
		}
	}
	for _, t := range plan.Returns.Returns {
		r.result.VMs = append(r.result.VMs, preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeWouldPowerOn})
		r.result.Waves = t.Wave
	}
	reason := ""
	switch {
	case len(plan.ActiveRounds) > 0:
		reason = "round " + plan.ActiveRounds[0] + " is under way in this scope: nobody would come back beside it"
	case len(plan.ActiveAlarms) > 0:
		reason = plan.ActiveAlarms[0] + ": nobody would come back before its end"
	}
	r.finish(state, reason)
	return nil
}

// finish sets the state in which it ends. The empty state is that of what was done.
func (r *restore) finish(state preemptapi.RestoreState, reason string) {
	failed := r.result.Count(preemptapi.OutcomeNotRestored)
	if state == "" {
		state = preemptapi.RestoreCompleted
		if failed > 0 {
			state, reason = preemptapi.RestorePartial, fmt.Sprintf("%d of %d VMs failed", failed, len(r.result.VMs))
		}
	}
	if reason == "" {
		reason = r.unproven()
	}
	r.result.Reason = reason
	tally.Add(r.ctx, "preemption_restores", map[string]string{"state": string(state)})
	r.setState(state)
}

// unproven says how many VMs stay off because nothing shows any more that it was we who turned them off.
func (r *restore) unproven() string {
	n := 0
	for _, s := range r.result.Left {
		if s.Reason == policy.NoEvidence {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("of %d VMs vCenter's events do not show that we turned them off: they stay off, power them on by hand if they are to come back", n)
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
func (r *restore) fail(err error) (preemptapi.RestoreResult, error) {
	kind, text := preempt.ErrorType(err), preempt.Cause(err)
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.finish(preemptapi.RestoreFailed, text)
	r.tellFailure(text)
	r.out.Close(r.ctx)
	workflow.GetLogger(r.ctx).Error("the restore failed", "reason", text, "kind", kind)
	return preemptapi.RestoreResult{}, temporal.NewNonRetryableApplicationError(text, kind, nil, fittedRestore(r.result))
}
