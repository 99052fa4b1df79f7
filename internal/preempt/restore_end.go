package preempt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// conclude ends one life of the restore, and tells who asked to be told.
func (r *restore) conclude() {
	r.result.EndedAt = workflow.Now(r.ctx).UTC()
	r.reply()
	r.show()
}

// reply sends the CloudEvent where an address was given and somebody came back.
func (r *restore) reply() {
	vms := r.result.Restored()
	vms = slices.DeleteFunc(vms, func(ref policy.Ref) bool { return slices.Contains(r.replied, ref) })
	if r.in.ReplyTo == "" || len(vms) == 0 {
		return
	}
	in := ReplyInput{
		Target: r.in.ReplyTo, ID: fmt.Sprintf("%s-%s-%d", r.result.RestoreID, r.result.RunID, r.lives), Time: workflow.Now(r.ctx), Type: preemption.RestoredEventType, VMs: vms,
		Attribute: Attribute{
			Restored: true, RestoredAt: r.result.EndedAt, RestoredBy: r.in.By, RestoreID: r.result.RestoreID, Tag: r.in.Tag,
			WorkflowID: r.result.RestoreID, WorkflowStarted: r.result.StartedAt, Scope: r.in.Scope.String(),
			Policy: r.result.PolicyName, PolicyHash: r.result.PolicyHash,
		},
	}
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second, ScheduleToCloseTimeout: r.setup.Timing.ReplyFor, Summary: "reply to " + clip(r.in.ReplyTo),
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: r.setup.Timing.Retry, BackoffCoefficient: 2, MaximumInterval: time.Minute},
	})
	var a *Activities
	if err := workflow.ExecuteActivity(ctx, a.SendPreemptedEvent, in).Get(ctx, nil); err != nil {
		r.result.ReplyError = cause(err)
		workflow.GetLogger(r.ctx).Error("the reply could not be delivered", "target", clip(r.in.ReplyTo), "error", err)
		return
	}
	r.result.ReplySent = true
	r.replied = append(r.replied, vms...)
}

// setState records the state for queries, for the list of workflows and for the details page.
func (r *restore) setState(state string) {
	if r.result.State == state {
		return
	}
	r.result.State = state
	alarmName := r.in.By
	if r.in.Person {
		alarmName = ""
	}
	upsert(r.ctx, r.setup.Attrs, alarmName, r.in.Scope.String(), state)
	r.show()
}

// show writes the restore's details page in Markdown.
func (r *restore) show() {
	var b strings.Builder
	res := r.result
	b.WriteString(fmt.Sprintf("**%s** · restore by `%s` · tag `%s`", res.State, plain(res.By), plain(res.Tag)))
	if !res.Scope.Zero() {
		b.WriteString(fmt.Sprintf(" · scope %s (`%s`)", plain(res.ScopeName), res.Scope))
	}
	if !res.Until.IsZero() {
		b.WriteString(" · until " + res.Until.Format(time.RFC3339))
	}
	if res.Reason != "" {
		b.WriteString("\n\n" + plain(res.Reason))
	}
	if len(res.VMs) > 0 {
		b.WriteString("\n\n| VM | outcome | why |\n|---|---|---|\n")
		for _, vm := range res.VMs[:min(len(res.VMs), 50)] {
			b.WriteString(fmt.Sprintf("| %s (`%s`) | %s | %s |\n", plain(vm.Name), vm.Ref.Value, vm.Outcome, plain(vm.Reason)))
		}
	}
	if len(res.Left) > 0 {
		b.WriteString("\n\nLeft off:\n")
		for _, s := range res.Left[:min(len(res.Left), 50)] {
			b.WriteString(fmt.Sprintf("- %s (`%s`): %s\n", plain(s.Name), s.Ref, s.Reason.Explain()))
		}
	}
	workflow.SetCurrentDetails(r.ctx, clipTo(b.String(), 18000))
}
