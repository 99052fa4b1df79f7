package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// Handover is what an intake that must complete leaves to its successor under the same id. A workflow cannot start
// another under its own id while it runs, and continuing as new keeps its client's execution timeout: so a workflow of
// its own, HandoverIntake, waits for the end of the one and starts the other.
type Handover struct {
	IntakeID string `json:"intakeID"`
	RunID    string `json:"runID"` // of the intake that completes
	Input    Input  `json:"input"`
}

// handoverSignal carries a Handover. An intake whose completion is refused, because something has just arrived, sends
// another, and the last one counts.
const handoverSignal = "Handover"

// HandOverIntake starts the handover, or signals the one under way what to hand over instead.
func (a *Activities) HandOverIntake(ctx context.Context, h Handover) error {
	id := workflowid.Of(workflowid.Handover + h.IntakeID)
	opts := client.StartWorkflowOptions{ID: id, TaskQueue: a.TaskQueue, StaticSummary: preempt.Clip("hands " + h.IntakeID + " over")}
	if _, err := a.Temporal.SignalWithStartWorkflow(ctx, id, handoverSignal, h, opts, preemptapi.HandoverType); err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	return nil
}

// HandoverIntake starts the successor of an intake once that has ended.
func HandoverIntake(ctx workflow.Context) error {
	var a *Activities
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: time.Hour,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 1.5, MaximumInterval: 10 * time.Second},
	})
	var h Handover
	channel := workflow.GetSignalChannel(ctx, handoverSignal)
	channel.Receive(ctx, &h)
	for {
		if err := workflow.ExecuteActivity(ctx, a.AwaitIntakeEnd, h).Get(ctx, nil); err != nil {
			return err
		}
		for newer := true; newer; newer = channel.ReceiveAsync(&h) { // the last one counts
			continue
		}
		if err := workflow.ExecuteActivity(ctx, a.SucceedIntake, h).Get(ctx, nil); err != nil {
			return err
		}
		if !channel.ReceiveAsync(&h) {
			return nil
		}
	}
}

// AwaitIntakeEnd fails, to be tried again, while the intake still runs.
func (a *Activities) AwaitIntakeEnd(ctx context.Context, h Handover) error {
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, h.IntakeID, h.RunID)
	var gone *serviceerror.NotFound
	switch {
	case errors.As(err, &gone):
		return nil
	case err != nil:
		return fmt.Errorf("look whether intake %s has ended: %w", h.IntakeID, err)
	case d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return fmt.Errorf("intake %s has not ended yet", h.IntakeID)
	}
	return nil
}

// SucceedIntake starts the successor of an intake that has ended. Where a client has started another meanwhile, that
// one gets what waited, and the levels that it does not know come again with the next change.
func (a *Activities) SucceedIntake(ctx context.Context, h Handover) error {
	_, err := a.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: h.IntakeID, TaskQueue: a.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, preemption.WorkflowName, h.Input)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return a.tellSuccessor(ctx, h)
	}
	if err != nil {
		return fmt.Errorf("start the successor of intake %s: %w", h.IntakeID, err)
	}
	return nil
}

// tellSuccessor gives what waited to an intake that a client has started meanwhile.
func (a *Activities) tellSuccessor(ctx context.Context, h Handover) error {
	for _, m := range h.Input.Pending {
		name := preemption.SignalChannel
		if m.Alarm {
			name = preemption.AlarmSignal
		}
		if err := a.Temporal.SignalWorkflow(ctx, h.IntakeID, "", name, m.JSON); err != nil {
			return fmt.Errorf("tell the successor of intake %s: %w", h.IntakeID, err)
		}
	}
	return nil
}
