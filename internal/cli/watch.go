package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
)

// watchCommand groups the commands about the watch of vCenter's events.
func (a *app) watchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show, pause and start the watch of vCenter's events",
		Long: "Show, pause and start the watch of vCenter's events, which hands alarms to the rules of the worker's file. There\n" +
			"is one watch per task queue, and so per vCenter, however many workers run. A worker whose file has rules starts\n" +
			"it.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl watch status\n  preemptctl watch stop --reason maintenance\n  preemptctl watch start",
	}
	return group(cmd, a.watchStatusCommand(), a.watchStartCommand(), a.watchStopCommand())
}

// watchLook is the state of the watch at one time.
type watchLook struct {
	id       string
	info     *workflowpb.WorkflowExecutionInfo
	activity *workflowpb.PendingActivityInfo // nil: the watch is not meant to run
	polled   bool                            // a worker polls the task queue
	state    *watchapi.State                 // nil: no answer
	silence  error                           // why, if a worker should have answered
}

// lookAtWatch reads the watch of the task queue; found is false if there is none.
func (s *session) lookAtWatch(ctx context.Context) (w watchLook, found bool, err error) {
	w.id = watchapi.WorkflowID(s.app.target.queue)
	d, err := s.DescribeWorkflowExecution(ctx, w.id, "")
	switch {
	case missing(err):
		w.polled, err = s.polled(ctx)
		return w, false, err
	case err != nil:
		return w, false, fmt.Errorf("look up the watch %s: %w", w.id, err)
	}
	w.info = d.GetWorkflowExecutionInfo()
	if kind := w.info.GetType().GetName(); kind != watchapi.WorkflowType {
		return w, false, failedf("workflow %s is a %s, not the watch of vCenter's events: somebody took its id; end that workflow, and start the watch: %s",
			w.id, kind, s.app.command("watch", "start"))
	}
	for _, p := range d.GetPendingActivities() {
		if p.GetActivityType().GetName() == watchapi.ActivityType {
			w.activity = p
		}
	}
	if w.polled, err = s.polled(ctx); err != nil {
		return w, true, err
	}
	w.state, w.silence = s.watchState(ctx, w)
	return w, true, ctx.Err()
}

// watchState queries the state of the watch, or reads it from its result.
func (s *session) watchState(ctx context.Context, w watchLook) (*watchapi.State, error) {
	var st watchapi.State
	switch w.info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		if !w.polled {
			return nil, nil
		}
		if err := s.answer(ctx, w.info, watchapi.StateQuery, &st); err != nil {
			return nil, err
		}
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		if err := s.GetWorkflow(ctx, w.id, w.info.GetExecution().GetRunId()).Get(ctx, &st); err != nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	return &st, nil
}

func (w watchLook) running() bool {
	return w.info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
}

func (w watchLook) paused() bool { return w.running() && w.state != nil && w.state.Paused }

// checkpoint returns the last known checkpoint: the heartbeat's, which is newer than the workflow's.
func (w watchLook) checkpoint() (c watchapi.Checkpoint) {
	if w.state != nil {
		c = w.state.Checkpoint
	}
	var last watchapi.Checkpoint
	if p := w.activity.GetHeartbeatDetails(); p != nil && converter.GetDefaultDataConverter().FromPayloads(p, &last) == nil {
		c = last
	}
	return c
}

// heartbeat returns the time of the last heartbeat in the current attempt; zero: none yet.
func (w watchLook) heartbeat() time.Time {
	beat, start := w.activity.GetLastHeartbeatTime(), w.activity.GetLastStartedTime()
	if beat == nil || beat.AsTime().Before(start.AsTime()) {
		return time.Time{}
	}
	return beat.AsTime()
}

// watchChanged is what start and stop print.
type watchChanged struct {
	WorkflowID    string `json:"workflowID"`
	RunID         string `json:"workflowRunID,omitempty"`
	Done          string `json:"done"` // started, resumed, paused, unchanged
	Effect        string `json:"effect"`
	DryRun        bool   `json:"dryRun,omitempty"` // nothing was done
	WorkerPolling bool   `json:"workerPolling"`
	next          string
}

// showWatch prints what was done to the watch.
func (a *app) showWatch(c watchChanged) error {
	title := c.Done
	if c.DryRun && c.Done != "unchanged" {
		title = "would be " + title
	}
	return a.show(view{
		value: c, msg: "watch " + title,
		attrs: []any{"workflowID", c.WorkflowID, "workflowRunID", c.RunID, "effect", c.Effect, "workerPolling", c.WorkerPolling},
		table: func(t *table) {
			t.row("watch", c.WorkflowID)
			t.row(title, c.Effect)
			t.field("next", c.next)
		},
	})
}
