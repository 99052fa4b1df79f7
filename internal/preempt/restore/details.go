package restore

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

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
	preempt.Upsert(r.ctx, r.setup.Attrs, alarmName, r.in.Scope.String(), state)
	r.show()
}

// show writes the restore's details page in Markdown.
func (r *restore) show() {
	var b strings.Builder
	res := r.result
	b.WriteString(fmt.Sprintf("**%s** · restore by `%s` · tag `%s`", res.State, preempt.PlainText(res.By), preempt.PlainText(res.Tag)))
	if !res.Scope.Zero() {
		b.WriteString(fmt.Sprintf(" · scope %s (`%s`)", preempt.PlainText(res.ScopeName), res.Scope))
	}
	if !res.Until.IsZero() {
		b.WriteString(" · until " + res.Until.Format(time.RFC3339))
	}
	if res.Reason != "" {
		b.WriteString("\n\n" + preempt.PlainText(res.Reason))
	}
	if len(res.VMs) > 0 {
		b.WriteString("\n\n| VM | outcome | why |\n|---|---|---|\n")
		for _, vm := range res.VMs[:min(len(res.VMs), 50)] {
			b.WriteString(fmt.Sprintf("| %s (`%s`) | %s | %s |\n", preempt.PlainText(vm.Name), vm.Ref.Value, vm.Outcome, preempt.PlainText(vm.Reason)))
		}
	}
	if len(res.Left) > 0 {
		b.WriteString("\n\nLeft off:\n")
		for _, s := range res.Left[:min(len(res.Left), 50)] {
			b.WriteString(fmt.Sprintf("- %s (`%s`): %s\n", preempt.PlainText(s.Name), s.Ref, s.Reason.Explain()))
		}
	}
	workflow.SetCurrentDetails(r.ctx, shown.Clip(b.String(), 18000))
}
