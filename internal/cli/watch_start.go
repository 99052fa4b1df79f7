package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
)

func (a *app) watchStartCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "start", Aliases: []string{"resume"}, Args: noArgs,
		Short: "Start or continue the watch of vCenter's events",
		Long: "Start the watch of vCenter's events, or continue it if it is paused. It continues where it stopped, so that it\n" +
			"misses no event that vCenter still has. Only a worker whose file has rules can run it. If no worker runs, the\n" +
			"command warns.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl watch start\n  preemptctl watch start --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.watchStart(ctx, s, dryRun) })
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return cmd
}

func (a *app) watchStart(ctx context.Context, s *session, dryRun bool) error {
	w, _, err := s.lookAtWatch(ctx)
	if err != nil {
		return err
	}
	out := watchChanged{
		WorkflowID: w.id, RunID: w.info.GetExecution().GetRunId(), DryRun: dryRun, WorkerPolling: w.polled, next: a.command("watch", "status"),
	}
	act := func() error { return s.goOn(ctx, w.id) }
	switch {
	case w.running() && w.state != nil && !w.state.Paused:
		out.Done, out.Effect = "unchanged", "it runs, and is not paused"
		act = func() error { return nil }
	case w.running():
		out.Done, out.Effect = "resumed", "it continues where it stopped"
	default:
		out.Done, out.Effect = "started", "it follows vCenter's events from now on"
		act = func() (err error) {
			out.RunID, err = s.startWatch(ctx, w.id)
			return err
		}
	}
	if !dryRun {
		if err := act(); err != nil {
			return err
		}
	}
	if err := a.showWatch(out); err != nil {
		return err
	}
	if !w.polled {
		a.notice("Warning: no worker polls task queue %s in namespace %s: no worker runs the watch until one with rules starts", a.target.queue, a.target.namespace)
	}
	return nil
}

// goOn ends a pause.
func (s *session) goOn(ctx context.Context, id string) error {
	if err := s.SignalWorkflow(ctx, id, "", watchapi.ControlSignal, watchapi.Control{}); err != nil {
		return fmt.Errorf("continue the watch %s: %w", id, err)
	}
	return nil
}

// startWatch starts the watch unless it runs.
func (s *session) startWatch(ctx context.Context, id string) (runID string, err error) {
	run, err := s.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: s.app.target.queue, StaticSummary: "Follows vCenter's events and hands alarms to the rules",
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}, watchapi.WorkflowType)
	if err != nil {
		return "", fmt.Errorf("start the watch %s: %w", id, err)
	}
	return run.GetRunID(), nil
}
