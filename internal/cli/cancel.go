package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// cancelled is what cancel prints.
type cancelled struct {
	WorkflowID    string `json:"workflowID"`
	RunID         string `json:"workflowRunID"`
	Type          string `json:"type"`
	WorkerPolling bool   `json:"workerPolling"`
	Effect        string `json:"effect"`
}

const remediationCancelled = "what waits is given up; a change or a move that was begun is finished"

const cancelEffect = "targets that were not acted on yet are spared; guests already asked to shut down are no longer forced"

func (a *app) cancelCommand() *cobra.Command {
	var f idFlags
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "cancel", Args: noArgs,
		Short: "Cancel a preemption or a remediation",
		Long: "Cancel a running preemption. VMs that were not acted on yet are spared, and guests that were already asked to\n" +
			"shut down are no longer forced. The result so far stays readable with status. If the workflow is a remediation,\n" +
			"steps that have begun are finished, and the others are given up.\n\n" +
			exitStatus("nothing to cancel", "the workflow is neither a preemption nor a remediation"),
		Example: "  preemptctl workflow cancel\n  preemptctl workflow cancel --workflow-id cluster-cpu-above-80@domain-c7 --wait",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if !wait {
				if cmd.Flags().Changed("timeout") {
					return usagef("--timeout needs --wait: without it the command does not wait")
				}
				timeout = quick
			}
			return a.withSession(cmd, timeout, func(ctx context.Context, s *session) error { return a.cancel(ctx, s, f, wait) })
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it has ended, and show its result")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "with --wait: how long to wait")
	return cmd
}

func (a *app) cancel(ctx context.Context, s *session, f idFlags, wait bool) error {
	polled := s.polledLater(ctx)
	info, err := s.describe(ctx, f)
	if err != nil {
		return err
	}
	kind := info.GetType().GetName()
	effect, look := cancelEffect, a.command(ofWorkflow(f.workflowID, "workflow", "status")...)
	switch kind {
	case preemption.WorkflowName, preemptapi.RoundType, preemptapi.PlanType, preemptapi.RestoreType, preemption.MakeRoomWorkflowName:
	case placement.ResizeType, placement.ReconfigureType, placement.MoveType, remediateapi.ReconcileType:
		effect, look = remediationCancelled, a.command("remediation", "show", f.workflowID)
	default:
		return refusedf("workflow %s is a %s, which this command does not cancel", f.workflowID, kind)
	}
	if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return notFoundf("nothing to cancel: workflow %s is %s", f.workflowID, statusWord(info.GetStatus()))
	}
	e := info.GetExecution()
	if err := s.CancelWorkflow(ctx, f.workflowID, f.runID); missing(err) {
		return notFoundf("nothing to cancel: workflow %s has just ended", f.workflowID)
	} else if err != nil {
		return fmt.Errorf("cancel workflow %s: %w", f.workflowID, err)
	}
	out := cancelled{WorkflowID: f.workflowID, RunID: e.GetRunId(), Type: kind, WorkerPolling: <-polled, Effect: effect}
	if wait && out.WorkerPolling {
		return a.cancelledResult(ctx, s, info)
	}
	err = a.show(view{
		value: out, msg: "successfully cancelled workflow",
		attrs: []any{
			"address", a.target.address, "namespace", a.target.namespace, "queue", a.target.queue, "workflow", kind,
			"workflowID", out.WorkflowID, "workflowRunID", out.RunID,
		},
		table: func(t *table) {
			t.row("workflow", out.WorkflowID)
			t.row("run", out.RunID)
			t.row("cancelled", out.Effect)
			t.row("next", look)
		},
	})
	if err == nil && !out.WorkerPolling {
		return a.noWorker("the cancellation stays queued and takes effect when one starts")
	}
	return err
}

// cancelledResult waits until the cancelled workflow has ended, and shows its result.
func (a *app) cancelledResult(ctx context.Context, s *session, info *workflowpb.WorkflowExecutionInfo) error {
	e := info.GetExecution()
	f := idFlags{workflowID: e.GetWorkflowId(), runID: e.GetRunId()}
	err := s.GetWorkflow(ctx, f.workflowID, f.runID).Get(ctx, nil)
	if ctx.Err() != nil || timedOut(err) {
		look := a.command(ofWorkflow(f.workflowID, "workflow", "status")...)
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return interruptedf("interrupted: the cancellation remains; look: %s", look)
		}
		return failedf("not ended within --timeout: the cancellation remains; look: %s", look)
	}
	if err != nil {
		a.log.Debug("the workflow ended without success", "error", err)
	}
	if name := info.GetType().GetName(); kindOf(name) != "" || name == remediateapi.ReconcileType {
		return a.remediationShow(ctx, s, f.workflowID)
	}
	return a.status(ctx, s, f)
}
