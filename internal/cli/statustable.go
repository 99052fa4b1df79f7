package cli

import (
	"cmp"
	"strconv"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// showStatus prints an intake's status.
func (a *app) showStatus(st intakeStatus) error {
	e := st.info.GetExecution()
	return a.show(view{
		value: st, msg: "retrieved workflow status",
		attrs: []any{
			"address", a.target.address, "namespace", a.target.namespace, "queue", a.target.queue, "workflow", preemption.WorkflowName,
			"workflowID", e.GetWorkflowId(), "workflowRunID", e.GetRunId(), "status", st.text,
		},
		table: func(t *table) { statusTable(t, st) },
	})
}

// statusTable shows an intake, its rounds, and what it waits for.
func statusTable(t *table, st intakeStatus) {
	e := st.info.GetExecution()
	t.section()
	t.row("workflow", e.GetWorkflowId()+" ("+st.Execution+")")
	t.row("run", e.GetRunId())
	t.row("state", stateWord(st))
	t.field("failure", st.Failure)
	t.row("tag", orDash(st.Tag))
	t.row("criticality", orDash(string(st.Criticality)))
	t.row("alarm", orDash(memoText(st.info, "alarm")))
	t.row("scope", orDash(memoText(st.info, "scope")))
	t.field("reply to", shown.Redact(st.ReplyTo))
	t.row("last preemption", cmp.Or(timestamp(st.LastPreemption), "never"))
	t.field("requests", count(st.Requests))
	if d := st.LastDecision; d != nil {
		t.row("last decision", decisionWords(*d))
	}
	if st.RunningRound != nil {
		roundTable(t, *st.RunningRound)
	}
	if r := st.Round; r != nil && (st.RunningRound == nil || r.RoundID != st.RunningRound.RoundID) {
		roundTable(t, *r)
	}
	if st.Round == nil && st.RunningRound == nil && len(st.VirtualMachines) > 0 {
		t.section("PREEMPTED") // a worker that sends only the documented fields
		for _, vm := range st.VirtualMachines {
			t.row(vm.Value)
		}
	}
	waitingTables(t, st)
}

// waitingTables show what is deferred, in alarm, or was rejected.
func waitingTables(t *table, st intakeStatus) {
	if len(st.Deferred) > 0 {
		t.section("DEFERRED", "UNTIL", "WHY")
		for _, d := range st.Deferred {
			t.row(cmp.Or(d.Scope, "everything tagged"), timestamp(d.Until), d.Reason)
		}
	}
	if len(st.Levels) > 0 {
		t.section("IN ALARM", "ALARM", "COLOUR", "SINCE", "SCOPE")
		for _, l := range st.Levels {
			t.row(l.Entity, l.Alarm, l.Colour, timestamp(l.Time), cmp.Or(l.Scope, "everything tagged"))
		}
	}
	if len(st.Left) > 0 {
		t.section("LEFT TO ITS SUCCESSOR")
		for _, left := range st.Left {
			t.row(left)
		}
	}
	if len(st.Rejections) > 0 {
		t.section("REJECTED", "WHY")
		for _, r := range st.Rejections {
			t.row(timestamp(r.Time), r.Reason)
		}
	}
}

func decisionWords(d preemptapi.Decision) string {
	text := d.Verdict
	if d.RoundID != "" {
		text += " " + d.RoundID
	}
	if !d.Until.IsZero() {
		text += " until " + timestamp(d.Until)
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return text
}

// stateWord is the intake's own word, except that one which has ended is no longer idle.
func stateWord(st intakeStatus) string {
	if st.State == "idle" && st.Execution != "running" {
		return st.Execution
	}
	return orDash(st.State)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
