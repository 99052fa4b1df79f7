package cli

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// reconcileStarted is what reconcile prints without --wait.
type reconcileStarted struct {
	WorkflowID string `json:"workflowID"`
	RunID      string `json:"workflowRunID"`
}

func (a *app) reconcileCommand() *cobra.Command {
	var dryRun, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "reconcile", Args: noArgs,
		Short: "Apply the settings that tags ask for to VMs that are off",
		Long: "Find VMs that are off and differ from what their tags ask for, because their power-off was missed, and apply the\n" +
			"settings. VMs that are on are left until their next power-off. To do this at set times, use schedule create\n" +
			"--reconcile.\n\n" +
			exitStatus("", "another reconciliation is under way"),
		Example: "  # what would be applied?\n  preemptctl reconcile --dry-run\n  preemptctl reconcile --wait -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := waitLimit(timeout, wait || dryRun)
			if err != nil {
				return err
			}
			if dryRun && limit == 0 {
				limit = planLimit
			}
			return a.withSession(cmd, limit, func(ctx context.Context, s *session) error { return a.reconcile(ctx, s, dryRun, wait, limit) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&dryRun, "dry-run", false, "only show what would be applied")
	flags.BoolVar(&wait, "wait", false, "wait for the result")
	flags.DurationVar(&timeout, "timeout", 0, "with --wait or --dry-run: how long to wait (default: until there is a result; 2m for a dry run)")
	return cmd
}

func (a *app) reconcile(ctx context.Context, s *session, dryRun, wait bool, limit time.Duration) error {
	q := question{
		id: remediateapi.ReconcileID(a.target.queue), kind: remediateapi.ReconcileType, summary: "Reconciles VMs that are off with their tags",
		input: remediateapi.ReconcileInput{DryRun: dryRun, By: placement.ByHand}, memo: reconcileMemo("requested"), unpolled: "nothing is reconciled",
	}
	if dryRun {
		q.id, q.limit = "reconcile-plan-"+uuid.NewString(), limit
	}
	run, err := s.put(ctx, q)
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &already) {
		return refusedf("refused: reconciliation %s is under way; look: %s", q.id, a.command("remediation", "show", q.id))
	}
	if err != nil {
		return err
	}
	if !wait && !dryRun {
		out := reconcileStarted{run.GetID(), run.GetRunID()}
		return a.show(view{
			value: out, msg: "reconciliation started", attrs: []any{"workflowID", out.WorkflowID, "workflowRunID", out.RunID},
			table: func(t *table) {
				t.row("reconciliation", out.WorkflowID)
				t.row("run", out.RunID)
				t.row("next", a.command("remediation", "show", out.WorkflowID))
			},
		})
	}
	var r remediateapi.ReconcileResult
	r, err = reconciled(run.Get(ctx, &r), r)
	switch {
	case err != nil && dryRun:
		return s.unanswered(ctx, run.GetID(), "plan", "nothing was touched", err)
	case err != nil:
		if on := a.goesOn(ctx, "reconciliation", run.GetID(), err); on != nil {
			return on
		}
		return failedf("reconciliation %s ended without a result: %w", run.GetID(), reasonOf(err))
	}
	r.Decisions = nonNil(r.Decisions)
	err = a.show(view{value: r, msg: "reconciliation", attrs: []any{"reconciliation", r}, table: func(t *table) { reconcileTable(t, r) }})
	if err != nil {
		return err
	}
	return reconcileVerdict(r)
}

// reconcileMemo is what Temporal's list shows of a reconciliation.
func reconcileMemo(state string) map[string]any {
	return map[string]any{"kind": "reconcile", "vm": "", "name": "", "state": state, "reason": ""}
}

// reconcileVerdict returns the error of a reconciliation that failed, for all VMs or for some.
func reconcileVerdict(r remediateapi.ReconcileResult) error {
	failed := 0
	for _, d := range r.Decisions {
		if d.State == remediateapi.Failed {
			failed++
		}
	}
	switch {
	case r.State == remediateapi.Failed:
		return failedf("the reconciliation failed: %s", r.Reason)
	case failed > 0:
		return failedf("%s of %s failed", countVMs(failed), countVMs(len(r.Decisions)+r.More))
	}
	return nil
}
