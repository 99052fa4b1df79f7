package watch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
)

// Temporal is what it takes to start the watch and to look after it; a client has it.
type Temporal interface {
	ExecuteWorkflow(ctx context.Context, o client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error)
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
}

// Ensure starts the watch of the task queue unless it runs; a paused one stays paused.
func Ensure(ctx context.Context, c Temporal, taskQueue string, t Timing) error {
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: watchapi.WorkflowID(taskQueue), TaskQueue: taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "Follows vCenter's events and hands alarms to the rules",
	}, watchapi.WorkflowType, Input{Timing: t})
	if err != nil {
		return fmt.Errorf("start the watch %s: %w", watchapi.WorkflowID(taskQueue), err)
	}
	return nil
}

// restart starts the watch where it ended without anybody asking for that: Temporal ends a workflow whose history is too
// large, and people terminate the wrong one. It reports whether it did. A watch that was cancelled stays ended; to stop
// it for a while there is the pause.
func restart(ctx context.Context, c Temporal, taskQueue string, t Timing) (started bool, err error) {
	id := watchapi.WorkflowID(taskQueue)
	d, err := c.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return false, fmt.Errorf("look at the watch %s: %w", id, err)
	}
	switch d.GetWorkflowExecutionInfo().GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return true, Ensure(ctx, c, taskQueue, t)
	}
	return false, nil
}

// Keep checks in intervals whether the watch is to be started again, until ctx ends.
func Keep(ctx context.Context, c Temporal, taskQueue string, t Timing, every time.Duration, log *slog.Logger) {
	for {
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		limited, cancel := context.WithTimeout(ctx, keepTime)
		started, err := restart(limited, c, taskQueue, t)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.Warn("the watch of vCenter's events could not be looked after; it is tried again", "reason", err)
		case started:
			log.Error("the watch of vCenter's events had been ended, and was started again: alarms are compared with their states, "+
				"other events since its end are not read", "workflow_id", watchapi.WorkflowID(taskQueue), "remedy", "look at its history in Temporal; to stop it use preemptctl watch stop")
		}
	}
}

// How often a worker checks the watch, and how long a check may take.
const (
	KeepEvery = time.Minute
	keepTime  = 10 * time.Second
)
