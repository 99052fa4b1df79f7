package preempt

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// SignalsAfterCancel counts the requests and alarm changes that reached a run after its cancellation was
// requested. A workflow cannot tell the order of what arrives together; its history can. It matters when
// a client cancels what it asked for a moment ago, or asks anew a moment after it cancelled.
func (a *Activities) SignalsAfterCancel(ctx context.Context, run workflow.Execution) (n int, err error) {
	req := &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
		Namespace: a.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: run.ID, RunId: run.RunID},
	}
	for {
		page, err := a.Temporal.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, req)
		if err != nil {
			return 0, fmt.Errorf("read the history of %s: %w", run.ID, err)
		}
		for _, e := range page.GetHistory().GetEvents() {
			switch e.GetEventType() {
			case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
				return n, nil
			case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
				switch e.GetWorkflowExecutionSignaledEventAttributes().GetSignalName() {
				case preemption.SignalChannel, preemption.AlarmSignal:
					n++
				}
			}
		}
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			return 0, nil
		}
	}
}
