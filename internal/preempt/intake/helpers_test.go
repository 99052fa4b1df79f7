package intake

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// documented is the request of the documentation, whose event is of vCenter 10.161.164.224.
func documented(t *testing.T) json.RawMessage {
	t.Helper()
	b, err := os.ReadFile("../../../testdata/workflow-request-1.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// historyService answers the newest event first, two events a page.
type historyService struct {
	workflowservice.WorkflowServiceClient
	events []*historypb.HistoryEvent
}

// historyOf has a signal with one request, one with two alarm changes, or a cancellation for each word, in order.
func historyOf(words ...string) historyService {
	var s historyService
	for _, word := range words {
		e := &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED}
		if word != "cancel" {
			name, value := preemption.SignalChannel, any(map[string]string{})
			if word == "two changes" {
				name, value = preemption.AlarmSignal, []preemption.AlarmChange{{}, {}}
			}
			input, _ := converter.GetDefaultDataConverter().ToPayloads(value)
			e.EventType = enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
			e.Attributes = &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{
				WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: name, Input: input},
			}
		}
		s.events = append([]*historypb.HistoryEvent{e}, s.events...)
	}
	return s
}

func (s historyService) GetWorkflowExecutionHistoryReverse(_ context.Context, r *workflowservice.GetWorkflowExecutionHistoryReverseRequest, _ ...grpc.CallOption) (*workflowservice.GetWorkflowExecutionHistoryReverseResponse, error) {
	from := len(r.GetNextPageToken()) * 2
	to := min(from+2, len(s.events))
	page := &workflowservice.GetWorkflowExecutionHistoryReverseResponse{History: &historypb.History{Events: s.events[from:to]}}
	if to < len(s.events) {
		page.NextPageToken = append(r.GetNextPageToken(), 'x')
	}
	return page, nil
}
