package round

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// setState records the state for queries, for the list of workflows and for the details page. The list says
// "running" of a round that plans or acts: that is short, and telling the list costs time in which VMs are on.
func (r *round) setState(state preemptapi.RoundState) {
	if r.result.State == state {
		return
	}
	r.result.State = state
	if state != preemptapi.RoundPlanning && state != preemptapi.RoundActing {
		d := r.in.Demand
		preempt.Upsert(r.ctx, r.in.Attrs, d.Alarm(), d.Scope.String(), string(state))
	}
	r.show()
}

// snapshot is the result so far.
func (r *round) snapshot() preemptapi.RoundResult { return fitted(r.result) }

// show writes the round's details page in Markdown.
func (r *round) show() {
	var b strings.Builder
	res := r.result
	b.WriteString(fmt.Sprintf("**%s** · tag `%s` · %s", res.State, preempt.PlainText(res.Tag), res.Criticality))
	if res.ScopeName != "" || !res.Scope.Zero() {
		b.WriteString(fmt.Sprintf(" · scope %s (`%s`)", preempt.PlainText(res.ScopeName), res.Scope))
	}
	if res.Alarm != "" {
		b.WriteString(fmt.Sprintf(" · alarm `%s`", preempt.PlainText(res.Alarm)))
	}
	if res.Reason != "" {
		b.WriteString("\n\n" + preempt.PlainText(res.Reason))
	}
	if len(res.Targets) > 0 {
		b.WriteString("\n\n| VM | outcome | why |\n|---|---|---|\n")
		for _, t := range res.Targets[:min(len(res.Targets), 50)] {
			b.WriteString(fmt.Sprintf("| %s (`%s`) | %s | %s |\n", preempt.PlainText(t.Name), t.Ref.Value, t.Outcome, preempt.PlainText(t.Reason.String())))
		}
	}
	if len(res.Spared) > 0 {
		b.WriteString("\n\nSpared:\n")
		for _, s := range res.Spared[:min(len(res.Spared), 50)] {
			b.WriteString(fmt.Sprintf("- %s (`%s`): %s\n", preempt.PlainText(s.Name), s.Ref, s.Reason.Explain()))
		}
	}
	workflow.SetCurrentDetails(r.ctx, shown.Clip(b.String(), 18000))
}
