package takeover

import (
	"context"
	"slices"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// forgetful is a Temporal that no longer keeps the run of one workflow, and takes no signal for another.
type forgetful struct {
	client.Client
	service   service
	forgotten string
}

// service takes the signals.
type service struct {
	workflowservice.WorkflowServiceClient
	full   string
	passed []string
}

func (f *forgetful) WorkflowService() workflowservice.WorkflowServiceClient { return &f.service }

func (f *forgetful) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if id == f.forgotten {
		return nil, serviceerror.NewNotFound("workflow not found")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED},
	}, nil
}

func (f *forgetful) GetWorkflowHistory(context.Context, string, string, bool, enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	return none{}
}

func (f *service) SignalWithStartWorkflowExecution(
	_ context.Context, r *workflowservice.SignalWithStartWorkflowExecutionRequest, _ ...grpc.CallOption,
) (*workflowservice.SignalWithStartWorkflowExecutionResponse, error) {
	if r.GetWorkflowId() == f.full {
		return nil, serviceerror.NewInvalidArgument("exceeded workflow execution limit for signal events")
	}
	f.passed = append(f.passed, r.GetWorkflowId())
	return &workflowservice.SignalWithStartWorkflowExecutionResponse{}, nil
}

type none struct{}

func (none) HasNext() bool                          { return false }
func (none) Next() (*historypb.HistoryEvent, error) { return nil, nil }

func TestWhatCannotBePassedOnHoldsUpNoOtherIntake(t *testing.T) {
	temporal := &forgetful{forgotten: "forgotten", service: service{full: "full"}}
	k := &Keeper{Config: Config{Temporal: temporal}}
	for _, id := range []string{"forgotten", "full", "other"} {
		k.owed = append(k.owed, debt{
			run:     &commonpb.WorkflowExecution{WorkflowId: id, RunId: "r"},
			signals: []signal{{id: 5, name: preemption.SignalChannel}}, known: map[int64]bool{5: true},
		})
	}
	err := k.settle(t.Context())
	if want := []string{"forgotten", "other"}; !slices.Equal(temporal.service.passed, want) {
		t.Errorf("requests were passed on to %q, want %q: %v", temporal.service.passed, want, err)
	}
	if err == nil || len(k.owed) != 1 || k.owed[0].run.GetWorkflowId() != "full" {
		t.Errorf("owed is %v, and the error %v; want that of the full intake", k.owed, err)
	}
}
