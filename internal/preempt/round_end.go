package preempt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// conclude ends a round that could be carried out: it frees the scope, tells the intake, sends the reply,
// and looks on for late guests.
func (r *round) conclude() (preemptapi.RoundResult, error) {
	final := r.verdict()
	increment(r.ctx, "preemption_rounds", map[string]string{"state": final})
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.release()
	told := r.result
	told.State = final
	r.tell(told)
	changed := r.reply("")
	if r.lateWatch() {
		r.result.EndedAt = workflow.Now(r.ctx).UTC()
		r.reply("-late")
		final = r.verdict()
		changed = true
	}
	r.setState(final)
	if changed {
		r.tell(r.result)
	}
	if final == preemptapi.RoundFailed {
		return preemptapi.RoundResult{}, temporal.NewNonRetryableApplicationError(r.result.Reason, errRound, nil, fitted(r.result))
	}
	return fitted(r.result), nil
}

// fail ends a round that could not be carried out.
func (r *round) fail(err error) (preemptapi.RoundResult, error) {
	kind, text := errRound, cause(err)
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		kind = app.Type()
	}
	r.result.Reason = text
	state, tell := preemptapi.RoundFailed, workflow.GetLogger(r.ctx).Error
	if misnamed(r.in.Demand, kind) {
		state, tell = "refused", workflow.GetLogger(r.ctx).Warn // the person is told; nothing is broken
	}
	increment(r.ctx, "preemption_rounds", map[string]string{"state": state})
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.setState(preemptapi.RoundFailed)
	r.release()
	r.tell(r.result)
	tell("the round failed", "reason", text, "kind", kind)
	return preemptapi.RoundResult{}, temporal.NewNonRetryableApplicationError(text, kind, nil, fitted(r.result))
}

// cause is the text of what an activity answered, without the frame that Temporal puts around it.
func cause(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return err.Error()
}

// verdict is the final state, with its reason in words.
func (r *round) verdict() string {
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
		r.result.Reason = "no VM was eligible"
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

// CompleteRound tells the ledger that a round has ended.
func (a *Activities) CompleteRound(ctx context.Context, req ledger.CompleteRequest) error {
	return a.ledger().Complete(ctx, req)
}

// evicted lists what this round turned off, for the ledger.
func (r *round) evicted() []ledger.Evicted { return evictedOf(r.result.Targets) }

// record tells the ledger of what was turned off so far, so that budgets hold beside a round that goes on for
// long. Where a policy has none of that, its end is soon enough.
func (r *round) record() {
	p := r.in.Demand.Policy
	single := r.in.Demand.VM != "" // its own key overlaps no scope, and the budgets of scopes must see it
	if len(p.Budgets) == 0 && !p.Target.Set() && p.Protect.MaxPreemptionsPerDay == 0 && !single {
		return
	}
	all := r.evicted()
	if len(all) == r.recorded {
		return
	}
	r.recorded = len(all)
	var news []ledger.Evicted
	for _, e := range all {
		if !r.told[e.VM] {
			news = append(news, e)
			r.told[e.VM] = true
		}
	}
	var a *Activities
	ctx := workflow.WithLocalActivityOptions(r.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: time.Minute,
	})
	req := ledger.EvictedRequest{Owner: r.result.RoundID, Scope: r.in.Demand.Scope.String(), Evicted: news}
	if err := workflow.ExecuteLocalActivity(ctx, a.RecordEvictions, req).Get(ctx, nil); err != nil {
		workflow.GetLogger(r.ctx).Warn("the ledger was not told of evictions; it is told at the round's end", "error", err)
		r.untold(news)
	}
}

// untold lets the next word to the ledger carry what the last could not.
func (r *round) untold(all []ledger.Evicted) {
	for _, e := range all {
		delete(r.told, e.VM)
	}
}

// RecordEvictions tells the ledger what a round has evicted so far.
func (a *Activities) RecordEvictions(ctx context.Context, req ledger.EvictedRequest) error {
	return a.ledger().Evicted(ctx, req)
}

// release frees scope and VMs in the ledger. A round that looked on only holds nothing.
func (r *round) release() {
	if r.in.Demand.DryRun {
		return
	}
	var a *Activities
	ctx := workflow.WithLocalActivityOptions(r.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: 10 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second},
	})
	req := ledger.CompleteRequest{
		Owner: r.result.RoundID, Scope: r.in.Demand.Key(), Preempted: len(r.result.Preempted()),
		Rank: r.criticality.Rank(), Cooldown: r.in.Demand.Policy.Cooldown.D(), Evicted: r.evicted(),
	}
	if err := workflow.ExecuteLocalActivity(ctx, a.CompleteRound, req).Get(ctx, nil); err != nil {
		workflow.GetLogger(r.ctx).Error("the ledger could not be told that the round ended; it will find out by itself", "error", err)
	}
}

// tell signals the result to the intake, if that still lives.
func (r *round) tell(result preemptapi.RoundResult) {
	if r.in.IntakeID == "" {
		return
	}
	err := workflow.SignalExternalWorkflow(r.ctx, r.in.IntakeID, "", RoundDoneSignal, brief(result)).Get(r.ctx, nil)
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
	in := ReplyInput{
		Target: d.ReplyTo, ID: r.workflowID() + "-" + d.EventID + suffix, Time: workflow.Now(r.ctx), Attribute: attr, VMs: vms,
	}
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second, ScheduleToCloseTimeout: r.in.Timing.ReplyFor, Summary: "reply to " + clip(shown.Redact(d.ReplyTo)),
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: r.in.Timing.Retry, BackoffCoefficient: 2, MaximumInterval: time.Minute},
	})
	var a *Activities
	if err := workflow.ExecuteActivity(ctx, a.SendPreemptedEvent, in).Get(ctx, nil); err != nil {
		r.result.ReplyError = cause(err)
		workflow.GetLogger(r.ctx).Error("the reply could not be delivered", "target", clip(shown.Redact(d.ReplyTo)), "error", err)
		return true
	}
	r.result.ReplySent, r.result.ReplyError = true, ""
	return true
}

// setState records the state for queries, for the list of workflows and for the details page. The list says
// "running" of a round that plans or acts: that is short, and telling the list costs time in which VMs are on.
func (r *round) setState(state string) {
	if r.result.State == state {
		return
	}
	r.result.State = state
	if state != preemptapi.RoundPlanning && state != preemptapi.RoundActing {
		d := r.in.Demand
		upsert(r.ctx, r.in.Attrs, d.Alarm(), d.Scope.String(), state)
	}
	r.show()
}

// upsert writes the memo, and the search attributes where they are registered.
func upsert(ctx workflow.Context, attrs bool, alarmName, scope, state string) {
	if err := workflow.UpsertMemo(ctx, map[string]any{"alarm": alarmName, "scope": scope, "state": state}); err != nil {
		workflow.GetLogger(ctx).Warn("the memo was not written", "error", err)
	}
	if !attrs {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, searchUpdates(alarmName, scope, state)...); err != nil {
		workflow.GetLogger(ctx).Warn("the search attributes were not written", "error", err)
	}
}

func searchUpdates(alarmName, scope, state string) []temporal.SearchAttributeUpdate {
	updates := []temporal.SearchAttributeUpdate{temporal.NewSearchAttributeKeyKeyword(searchState).ValueSet(state)}
	if alarmName != "" {
		updates = append(updates, temporal.NewSearchAttributeKeyKeyword(searchAlarm).ValueSet(alarmName))
	}
	if scope != "" {
		updates = append(updates, temporal.NewSearchAttributeKeyKeyword(searchScope).ValueSet(scope))
	}
	return updates
}

// snapshot is the result as it stands.
func (r *round) snapshot() preemptapi.RoundResult { return fitted(r.result) }

// show writes the round's details page in Markdown.
func (r *round) show() {
	var b strings.Builder
	res := r.result
	b.WriteString(fmt.Sprintf("**%s** · tag `%s` · %s", res.State, plain(res.Tag), res.Criticality))
	if res.ScopeName != "" || !res.Scope.Zero() {
		b.WriteString(fmt.Sprintf(" · scope %s (`%s`)", plain(res.ScopeName), res.Scope))
	}
	if res.Alarm != "" {
		b.WriteString(fmt.Sprintf(" · alarm `%s`", plain(res.Alarm)))
	}
	if res.Reason != "" {
		b.WriteString(fmt.Sprintf("\n\n%s", res.Reason))
	}
	if len(res.Targets) > 0 {
		b.WriteString("\n\n| VM | outcome | why |\n|---|---|---|\n")
		for _, t := range res.Targets[:min(len(res.Targets), 50)] {
			b.WriteString(fmt.Sprintf("| %s (`%s`) | %s | %s |\n", plain(t.Name), t.Ref.Value, t.Outcome, plain(t.Reason)))
		}
	}
	if len(res.Spared) > 0 {
		b.WriteString("\n\nSpared:\n")
		for _, s := range res.Spared[:min(len(res.Spared), 50)] {
			b.WriteString(fmt.Sprintf("- %s (`%s`): %s\n", plain(s.Name), s.Ref, s.Reason.Explain()))
		}
	}
	workflow.SetCurrentDetails(r.ctx, shown.Clip(b.String(), 18000))
}

// plain takes out of a name what Markdown or HTML would make something of.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune("|`<>*[]", r) {
			return '·'
		}
		return r
	}, s)
}
