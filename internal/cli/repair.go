package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// repairLimit is how long a repair may take by default: vCenter may be slow.
const repairLimit = 5 * time.Minute

func (a *app) repairCommand() *cobra.Command {
	var yes, force bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "repair ID", Args: arguments(1, 1, "one workflow id"),
		Short: "Free a workflow that is stuck",
		Long: "Free a workflow that makes no progress, as doctor and list name it. Without --yes nothing is changed: the\n" +
			"command shows why the workflow is stuck, what its record and vCenter say about its VMs, and what would be done.\n\n" +
			"With --yes it ends the workflow. For a round, it writes the result that can be proven and the attribute of the\n" +
			"VMs that the round turned off, and reports to ledger and intake, so that VMs and scope are free; status shows\n" +
			"the result. An intake is started anew with the requests that it had not handled, the ledger with its records,\n" +
			"and the watch at its checkpoint. For any other workflow, the VMs that it holds in the ledger are released. What\n" +
			"could not be proven is named. No VM is powered on or off.\n\n" +
			exitCodes(", also when no worker polls the task queue", "no such workflow, or it has ended", "the workflow makes progress, or is not one of ours"),
		Example: "  # what would be done? exit code 4: it makes progress, so there is nothing to repair\n" +
			"  preemptctl workflow repair preemption-ledger@vsphere-preemption\n" +
			"  # do it; exit code 4 here too\n" +
			"  preemptctl workflow repair preemption-ledger@vsphere-preemption --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			switch {
			case strings.TrimSpace(id) == "":
				return usagef("ID is empty: name the workflow, as doctor and list do")
			case timeout <= 0:
				return usagef("--timeout %s is not positive", timeout)
			}
			in := health.RepairInput{WorkflowID: id, Execute: yes, Force: force}
			return a.withSession(cmd, timeout, func(ctx context.Context, s *session) error { return a.repair(ctx, s, in) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "carry out the repair")
	cmd.Flags().BoolVar(&force, "force", false, "repair it even if it makes progress")
	cmd.Flags().DurationVar(&timeout, "timeout", repairLimit, "how long to wait for the worker")
	return cmd
}

func (a *app) repair(ctx context.Context, s *session, in health.RepairInput) error {
	info, err := s.describe(ctx, idFlags{workflowID: in.WorkflowID})
	if err != nil {
		return err
	}
	if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return notFoundf("nothing to repair: workflow %s is %s", in.WorkflowID, statusWord(info.GetStatus()))
	}
	if queue := info.GetTaskQueue(); queue != a.target.queue {
		return refusedf("workflow %s is on task queue %s: name it with --queue", in.WorkflowID, queue)
	}
	in.RunID = info.GetExecution().GetRunId()
	polled, err := s.polled(ctx)
	if err != nil {
		return err
	}
	if !polled {
		return a.noWorker("only a worker can repair, because it can ask vCenter")
	}
	options := client.StartWorkflowOptions{
		ID: health.RepairID(in.WorkflowID), TaskQueue: a.target.queue, WorkflowExecutionTimeout: 4 * repairLimit,
		WorkflowExecutionErrorWhenAlreadyStarted: true, StaticSummary: clean("repair of " + shown.Clip(in.WorkflowID, 150)),
	}
	if !in.Execute {
		options.ID = "preemption-repair-plan-" + uuid.NewString()
	}
	run, err := s.ExecuteWorkflow(ctx, options, health.RepairType, in)
	if err != nil {
		return fmt.Errorf("ask for the repair of %s: %w", in.WorkflowID, err)
	}
	var r health.RepairResult
	if err := run.Get(ctx, &r); err != nil {
		if ctx.Err() != nil || timedOut(err) {
			return failedf("no worker ended the repair in time; it continues as %s; look: %s", run.GetID(), a.command("doctor"))
		}
		return failedf("the repair of %s failed: %w; ask again, and it continues where it stopped", in.WorkflowID, err)
	}
	if err := a.showRepair(r); err != nil {
		return err
	}
	if r.Refused != "" {
		return refusedf("refused: workflow %s: %s", r.WorkflowID, r.Refused)
	}
	if !r.Executed {
		a.notice("nothing was changed; do it: %s", a.command("workflow", "repair", r.WorkflowID, "--yes"))
	}
	return nil
}

func (a *app) showRepair(r health.RepairResult) error {
	return a.show(view{
		value: r, msg: "repair", attrs: []any{"repair", r},
		table: func(t *table) { repairTable(t, r) },
	})
}

func repairTable(t *table, r health.RepairResult) {
	t.row("workflow", r.WorkflowID)
	t.row("run", r.RunID)
	t.row("type", r.Type)
	if r.Stall != nil {
		t.row("stuck", stalledWords(*r.Stall))
	}
	title := "would"
	if r.Executed {
		title = "done"
	}
	for _, step := range r.Steps {
		t.row(title, step)
	}
	for _, doubt := range r.Unproven {
		t.row("not proven", doubt)
	}
	if r.Round != nil {
		t.section()
		roundTable(t, *r.Round)
	}
}

// repairedRound is the result that a repair wrote for a round that it ended; err if there is none.
func (s *session) repairedRound(ctx context.Context, id, runID string, err error) (r health.RepairResult, _ error) {
	if failed := s.GetWorkflow(ctx, health.RepairID(id), "").Get(ctx, &r); failed != nil || r.Round == nil || runID != "" && r.RunID != runID {
		return r, err
	}
	return r, nil
}
