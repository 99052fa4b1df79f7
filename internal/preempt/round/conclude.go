package round

import (
	"cmp"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
)

// conclude ends a round that could be carried out: it frees the scope, tells the intake, sends the reply,
// and watches late guests.
func (r *round) conclude() (preemptapi.RoundResult, error) {
	r.annotateAgain()
	final := r.finalState()
	tally.Add(r.ctx, "preemption_rounds", map[string]string{"state": string(final)})
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.release()
	told := r.result
	told.State = final
	r.tellIntake(told)
	r.tellEnd(final)
	changed := r.reply("")
	if r.lateWatch() {
		r.annotateAgain()
		r.result.EndedAt = workflow.Now(r.ctx).UTC()
		r.reply("-late")
		final = r.finalState()
		changed = true
	}
	r.setState(final)
	if changed {
		r.tellIntake(r.result)
	}
	r.out.Close(r.ctx)
	if final == preemptapi.RoundFailed {
		return preemptapi.RoundResult{}, temporal.NewNonRetryableApplicationError(r.result.Reason, preempt.RoundFailed, nil, fitted(r.result))
	}
	return fitted(r.result), nil
}

// fail ends a round that could not be carried out.
func (r *round) fail(err error) (preemptapi.RoundResult, error) {
	kind, text := preempt.ErrorType(err), preempt.Cause(err)
	r.result.Reason = text
	label, tell := string(preemptapi.RoundFailed), workflow.GetLogger(r.ctx).Error
	if misnamed(r.in.Demand, kind) {
		label, tell = "refused", workflow.GetLogger(r.ctx).Warn // the person is told; nothing is broken
		if r.in.Demand.DryRun {
			tell = workflow.GetLogger(r.ctx).Info
		}
	} else {
		r.tellFailure(text)
	}
	tally.Add(r.ctx, "preemption_rounds", map[string]string{"state": label})
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.setState(preemptapi.RoundFailed)
	r.release()
	r.tellIntake(r.result)
	r.out.Close(r.ctx)
	tell("the round failed", "reason", text, "kind", kind)
	return preemptapi.RoundResult{}, temporal.NewNonRetryableApplicationError(text, kind, nil, fitted(r.result))
}

// finalState is the final state, with its reason in words.
func (r *round) finalState() preemptapi.RoundState {
	failed, ours := r.result.Count(action.Failed), len(r.result.Preempted())
	switch {
	case r.result.State == preemptapi.RoundPlanned || r.result.State == preemptapi.RoundObserved:
		return r.result.State
	case failed > 0 && ours == 0:
		r.result.Reason = fmt.Sprintf("all %d VMs that were acted on failed", failed)
		return preemptapi.RoundFailed
	case failed > 0:
		r.result.Reason = fmt.Sprintf("%d of %d VMs failed", failed, len(r.result.Targets))
		return preemptapi.RoundPartial
	case r.replanError != "":
		r.result.Reason = "a new plan was due and could not be made: " + r.replanError
		if ours == 0 {
			return preemptapi.RoundFailed
		}
		return preemptapi.RoundPartial
	case r.in.Demand.NoticeOnly && len(r.result.Targets) > 0:
		return preemptapi.RoundRehearsed
	case r.withdrawn:
		r.result.Reason = "withdrawn before its end"
		return preemptapi.RoundWithdrawn
	case r.result.Silenced != "":
		r.result.Reason = r.result.Silenced
		return preemptapi.RoundHeld
	case len(r.result.Targets) == 0:
		r.result.Reason = cmp.Or(policy.BelowTarget(r.result.Usage), "no VM was chosen")
		return preemptapi.RoundEmpty
	}
	if n := r.result.Count(action.OnAgain); n > 0 {
		r.result.Reason = fmt.Sprintf("%d of %d VMs were powered on again by others at once", n, len(r.result.Targets))
	}
	if n := r.unannotated(); n > 0 {
		r.result.Reason = fmt.Sprintf("%d of %d VMs could not be annotated", n, ours)
	}
	return preemptapi.RoundCompleted
}

// unannotated counts the VMs that this round turned off and that do not carry the attribute.
func (r *round) unannotated() (n int) {
	for _, t := range r.result.Targets {
		if t.Outcome.Ours() && !t.Annotated {
			n++
		}
	}
	return n
}

// tellIntake signals the result to the intake, if that still lives.
func (r *round) tellIntake(result preemptapi.RoundResult) {
	if r.in.IntakeID == "" {
		return
	}
	err := workflow.SignalExternalWorkflow(r.ctx, r.in.IntakeID, "", DoneSignal, Brief(result)).Get(r.ctx, nil)
	if err != nil {
		workflow.GetLogger(r.ctx).Info("the intake has ended; the result stays with the round", "intake", r.in.IntakeID, "reason", err)
	}
}

// reply sends the documented CloudEvent where an address was given and something was preempted. It
// returns whether the result changed.
func (r *round) reply(suffix string) (changed bool) {
	d, vms := r.in.Demand, r.result.Preempted()
	if d.ReplyTo == "" || len(vms) == 0 {
		return false
	}
	r.setState(preemptapi.RoundReporting)
	attr := r.attribute()
	for _, t := range r.result.Targets {
		attr.ForcedShutdown = attr.ForcedShutdown || t.Outcome.Ours() && t.Forced
	}
	if r.in.Sequence > 1 {
		suffix += fmt.Sprintf("-%d", r.in.Sequence)
	}
	in := preempt.ReplyInput{
		Target: d.ReplyTo, ID: r.workflowID() + "-" + d.EventID + suffix, Time: workflow.Now(r.ctx), Attribute: attr, VMs: vms,
	}
	for _, t := range r.result.Targets {
		if t.Outcome.Ours() {
			in.Name(t.Ref, t.Name)
		}
	}
	if err := r.in.Timing.Reply(r.ctx, in); err != nil {
		r.result.ReplyError = preempt.Cause(err)
		return true
	}
	r.result.ReplySent, r.result.ReplyError = true, ""
	return true
}
