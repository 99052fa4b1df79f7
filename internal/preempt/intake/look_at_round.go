package intake

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// RoundStatus says whether a round runs, and its result if not.
type RoundStatus struct {
	Open   bool                   `json:"open"`
	Result preemptapi.RoundResult `json:"result"`
}

// LookAtRound reports whether a round still runs, and its result when not.
func (a *Activities) LookAtRound(ctx context.Context, id string) (RoundStatus, error) {
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return RoundStatus{}, err
	}
	status := d.WorkflowExecutionInfo.Status
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return RoundStatus{Open: true}, nil
	}
	out := RoundStatus{Result: preemptapi.RoundResult{
		RoundID: id, State: preemptapi.RoundFailed, EndedAt: d.WorkflowExecutionInfo.CloseTime.AsTime(),
		Reason: "the round ended as " + status.String() + " without a result: look at its history and at the VMs",
	}}
	res, err := preemptapi.ResultOf(a.Temporal.GetWorkflow(ctx, id, "").Get(ctx, &out.Result), out.Result)
	if err == nil {
		out.Result = round.Brief(res)
	}
	return out, nil
}

// SignalsAfterCancel counts the requests and alarm changes, of which one signal may carry many, that reached
// a run after its cancellation was requested. A workflow cannot tell the order of what arrives together; its
// history can. It matters when a client cancels what it asked for a moment ago, or asks anew a moment after
// it cancelled.
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
				switch signal := e.GetWorkflowExecutionSignaledEventAttributes(); signal.GetSignalName() {
				case preemption.SignalChannel:
					n++
				case preemption.AlarmSignal:
					carried := 1
					if p := signal.GetInput().GetPayloads(); len(p) > 0 {
						carried = max(carried, len(bundled(p[0])))
					}
					n += carried
				}
			}
		}
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			return 0, nil
		}
	}
}
