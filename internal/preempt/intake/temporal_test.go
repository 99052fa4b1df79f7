package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// sent is a signal that the worker sent, with the workflow that it starts where that does not run.
type sent struct {
	id, signal, kind string
	arg, input       any
}

// temporalServer is what the activities of an intake use of Temporal.
type temporalServer struct {
	client.Client
	mu       sync.Mutex
	rounds   []round.Input
	ids      []string // of the rounds
	started  []client.StartWorkflowOptions
	signals  []sent
	status   enumspb.WorkflowExecutionStatus // of every workflow; 0: there is none
	result   preemptapi.RoundResult          // of every round that has ended
	startErr error
	queues   map[string]bool // task queues, and whether an event is of their vCenter
	history  workflowservice.WorkflowServiceClient
}

func (s *temporalServer) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, kind any, args ...any) (client.WorkflowRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.startErr != nil {
		return nil, s.startErr
	}
	s.started = append(s.started, o)
	switch in := args[0].(type) {
	case round.Input:
		s.rounds, s.ids = append(s.rounds, in), append(s.ids, o.ID)
	case preemptapi.NamesInput:
		return run{value: preemptapi.NamesResult{Ours: s.queues[o.TaskQueue]}}, nil
	}
	return nil, nil
}

// begun returns how many rounds have begun, and the id of the last.
func (s *temporalServer) begun() (n int, last string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = len(s.ids); n > 0 {
		last = s.ids[n-1]
	}
	return n, last
}

// end has every round end with the result.
func (s *temporalServer) end(res preemptapi.RoundResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.result = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, res
}

func (s *temporalServer) SignalWithStartWorkflow(_ context.Context, id, signal string, arg any, _ client.StartWorkflowOptions, kind any, args ...any) (client.WorkflowRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := sent{id: id, signal: signal, kind: fmt.Sprint(kind), arg: arg}
	if len(args) > 0 {
		one.input = args[0]
	}
	s.signals = append(s.signals, one)
	return nil, s.startErr
}

func (s *temporalServer) SignalWorkflow(_ context.Context, id, _, signal string, arg any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signals = append(s.signals, sent{id: id, signal: signal, arg: arg})
	if id == "restore-over" {
		return serviceerror.NewNotFound("it has ended")
	}
	return nil
}

func (s *temporalServer) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == 0 {
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	info := &workflowpb.WorkflowExecutionInfo{Status: s.status, CloseTime: timestamppb.Now()}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: info}, nil
}

func (s *temporalServer) GetWorkflow(_ context.Context, id, _ string) client.WorkflowRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.RoundID = id
	return run{value: s.result}
}

func (s *temporalServer) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	page := &workflowservice.ListWorkflowExecutionsResponse{}
	for queue := range s.queues {
		page.Executions = append(page.Executions, &workflowpb.WorkflowExecutionInfo{TaskQueue: queue})
	}
	return page, nil
}

func (s *temporalServer) DescribeTaskQueue(context.Context, string, enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	return &workflowservice.DescribeTaskQueueResponse{Pollers: []*taskqueuepb.PollerInfo{{LastAccessTime: timestamppb.Now()}}}, nil
}

func (s *temporalServer) WorkflowService() workflowservice.WorkflowServiceClient { return s.history }

// run is a workflow that has ended with a value.
type run struct {
	client.WorkflowRun
	value any
}

func (r run) Get(_ context.Context, out any) error {
	b, err := json.Marshal(r.value)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
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
