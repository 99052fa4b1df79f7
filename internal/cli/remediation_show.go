package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// remediationShown is one workflow as remediation show prints it.
type remediationShown struct {
	remediateapi.Report
	Execution      string                        `json:"execution"` // the workflow's state in Temporal
	Failure        string                        `json:"failure,omitempty"`
	StartedAt      time.Time                     `json:"startedAt"`
	ClosedAt       time.Time                     `json:"closedAt,omitzero"`
	Reconciliation *remediateapi.ReconcileResult `json:"reconciliation,omitempty"`
}

func (a *app) remediationShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ID|VM|DATASTORE", Args: arguments(1, 1, "one id of a remediation, or the name, inventory path or MoRef of a VM or datastore"),
		Short: "Show what a remediation decided, and why",
		Long: "Show the decisions of a remediation, oldest first: the cause, the settings before and after, tags that cannot be\n" +
			"applied, which VMs were moved where, and which stayed and why. Give the id of a remediation or reconciliation,\n" +
			"or the name, inventory path or MoRef of a VM or datastore to see all its remediations that Temporal keeps. A\n" +
			"remediation that has ended is shown without a worker, if it is named by its id or a MoRef.\n\n" +
			exitStatus("no such remediation", ""),
		Example: "  preemptctl remediation show vm-12\n  preemptctl remediation show web-1\n  preemptctl remediation show move@datastore-5\n  preemptctl remediation show resize@vm-12 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			id := workflowid.Of(strings.TrimSpace(args[0]))
			if err := nameCheck("ID", id); err != nil {
				return err
			}
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.remediationShow(ctx, s, id) })
		},
	}
}

func (a *app) remediationShow(ctx context.Context, s *session, id string) error {
	t := aimAt(id)
	shown, failed := s.remediationsOf(ctx, t, id)
	if len(shown) == 0 && failed == nil && t.ref.Zero() {
		if found, err := a.aimFound(ctx, s, t); err == nil && !found.ref.Zero() { // no id: the name of a VM or datastore
			t = found
			shown, failed = s.remediationsOf(ctx, t, id)
		}
	}
	if len(shown) == 0 && failed == nil {
		return a.noRemediation(t, id)
	}
	if len(shown) == 0 {
		return failed
	}
	err := a.show(view{
		value: shown, msg: "remediations", attrs: []any{"remediations", shown},
		table: func(t *table) {
			for _, one := range shown {
				remediationTable(t, one)
			}
		},
	})
	if err != nil {
		return err
	}
	return firstOf(failed)
}

// remediationsOf looks up all remediations of an object, or the one of an id. failed says which of several could not be read.
func (s *session) remediationsOf(ctx context.Context, t aim, id string) (shown []remediationShown, failed error) {
	ids := []string{id}
	if !t.ref.Zero() {
		ids = remediationIDs(t, s.app.target.queue)
	}
	for _, id := range ids {
		one, err := s.remediation(ctx, id)
		switch {
		case missing(err):
			continue
		case err != nil && len(ids) == 1:
			return nil, err
		case err != nil:
			failed = errors.Join(failed, err) // the others are still shown
			continue
		}
		shown = append(shown, one)
	}
	return shown, failed
}

// firstOf returns the first of joined errors, because only one line is printed.
func firstOf(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()[0]
	}
	return err
}

// remediationIDs are the ids of all workflows that remedy a VM or a datastore.
func remediationIDs(t aim, queue string) (ids []string) {
	if t.kind == vsphere.TypeDatastore {
		return []string{placement.WorkflowID(placement.KindMove, t.ref, queue)}
	}
	for _, kind := range remediationKinds {
		ids = append(ids, placement.WorkflowID(kind, t.ref, queue))
	}
	return ids
}

func (a *app) noRemediation(t aim, id string) error {
	where := fmt.Sprintf("in namespace %s on %s", a.target.namespace, a.target.address)
	look := a.command("remediation", "list")
	if !t.ref.Zero() {
		return notFoundf("no remediation of %s for task queue %s %s: there was none, or it is no longer kept; see: %s", t.words(), a.target.queue, where, look)
	}
	return notFoundf("no remediation %s %s: it never ran or is no longer kept, and vCenter has no VM or datastore of that name; see: %s", id, where, look)
}

// remediation looks up one workflow, and queries its decisions.
func (s *session) remediation(ctx context.Context, id string) (out remediationShown, err error) {
	d, err := s.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return out, fmt.Errorf("look up remediation %s: %w", id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	kind := info.GetType().GetName()
	if kindOf(kind) == "" && kind != remediateapi.ReconcileType {
		return out, failedf("workflow %s is a %s: this command shows remediations", id, kind)
	}
	w := listing(info)
	out.Execution, out.StartedAt, out.ClosedAt = w.Status, w.StartedAt, w.ClosedAt
	if kind == remediateapi.ReconcileType {
		err = s.reconciliation(ctx, info, &out)
	} else {
		err = s.report(ctx, info, &out)
	}
	out.WorkflowID, out.RunID, out.Kind = cmp.Or(out.WorkflowID, w.WorkflowID), cmp.Or(out.RunID, w.RunID), cmp.Or(out.Kind, kindOf(kind), "reconcile")
	out.Decisions = nonNil(out.Decisions)
	return out, err
}

// report returns the current or final report of a remediation.
func (s *session) report(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, out *remediationShown) error {
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return s.answer(ctx, info, remediateapi.StateQuery, &out.Report)
	}
	e := info.GetExecution()
	var r remediateapi.Report
	r, err := remediateapi.ReportOf(s.GetWorkflow(ctx, e.GetWorkflowId(), e.GetRunId()).Get(ctx, &r), r)
	return out.ended(ctx, err, func() { out.Report = r })
}

// reconciliation returns the result of a reconciliation. There is none while it runs.
func (s *session) reconciliation(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, out *remediationShown) error {
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return nil
	}
	e := info.GetExecution()
	var r remediateapi.ReconcileResult
	r, err := reconciled(s.GetWorkflow(ctx, e.GetWorkflowId(), e.GetRunId()).Get(ctx, &r), r)
	return out.ended(ctx, err, func() { out.Reconciliation = &r })
}

// ended stores a result, or returns why there is none. A terminated workflow has none, and is shown.
func (out *remediationShown) ended(ctx context.Context, err error, take func()) error {
	switch {
	case err == nil:
		take()
	case ctx.Err() != nil || timedOut(err):
		return err
	default:
		out.Failure = reasonOf(err).Error()
	}
	return nil
}

// remediationTable shows one workflow and its decisions.
func remediationTable(t *table, one remediationShown) {
	t.section()
	t.row("remediation", one.WorkflowID+" ("+one.Execution+")")
	t.row("run", one.RunID)
	t.row("started", timestamp(one.StartedAt))
	t.field("closed", timestamp(one.ClosedAt))
	t.field("failure", one.Failure)
	if one.Reconciliation != nil {
		reconcileTable(t, *one.Reconciliation)
		return
	}
	if len(one.Decisions) == 0 {
		t.row("decided", "nothing yet")
	}
	for _, d := range one.Decisions {
		decisionTable(t, d)
	}
}

// verdictOf returns the error of decisions that did not do what was requested: exit code 1 if one failed, 4 if all
// of them do nothing.
func verdictOf(decisions []remediateapi.Decision) error {
	var failed, nothing *remediateapi.Decision
	idle := 0
	for i, d := range decisions {
		switch d.State {
		case remediateapi.Failed:
			failed = cmp.Or(failed, &decisions[i])
		case remediateapi.Skipped, remediateapi.Infeasible, remediateapi.AtLimit:
			nothing = cmp.Or(nothing, &decisions[i])
			idle++
		}
	}
	switch {
	case failed != nil:
		return failedf("%s of %s failed: %s", failed.Kind, subject(*failed), failed.Reason)
	case nothing != nil && idle == len(decisions):
		return refusedf("nothing is done about %s (%s): %s", subject(*nothing), nothing.State, nothing.Reason)
	}
	return nil
}
