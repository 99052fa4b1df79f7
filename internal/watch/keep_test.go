package watch

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// fakeServer has a watch in a status.
type fakeServer struct {
	status  enumspb.WorkflowExecutionStatus
	err     error
	started []client.StartWorkflowOptions
	asked   chan struct{} // told of each look
}

func (s *fakeServer) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	s.started = append(s.started, o)
	return nil, s.err
}

func (s *fakeServer) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if s.asked != nil {
		s.asked <- struct{}{}
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: s.status}}, s.err
}

func TestAWatchThatNobodyMeantToEndIsStartedAgain(t *testing.T) {
	for status, want := range map[enumspb.WorkflowExecutionStatus]bool{
		enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:    false,
		enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:   false,
		enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:  false,
		enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED: true,
		enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:     true,
		enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:  true,
	} {
		s := &fakeServer{status: status}
		started, err := restart(t.Context(), s, "q", DefaultTiming())
		if err != nil || started != want || (len(s.started) == 1) != want {
			t.Errorf("%s: %v, %v, %+v", status, started, err, s.started)
		}
		if want && (s.started[0].ID != WorkflowID("q") || s.started[0].WorkflowIDConflictPolicy != enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING) {
			t.Errorf("%s: %+v", status, s.started[0])
		}
	}
	if _, err := restart(t.Context(), &fakeServer{err: errors.New("away")}, "q", DefaultTiming()); err == nil {
		t.Error("an outage is taken for a watch that runs")
	}
	if err := Ensure(t.Context(), &fakeServer{err: errors.New("away")}, "q", DefaultTiming()); err == nil {
		t.Error("a start that failed is taken for one that did not")
	}
}

func TestTheWatchIsCheckedUntilTheWorkerEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &fakeServer{status: enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, asked: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Keep(ctx, s, "q", DefaultTiming(), time.Millisecond, slog.New(slog.DiscardHandler))
	}()
	<-s.asked
	<-s.asked
	cancel()
	select {
	case <-s.asked: // one more may be under way
		<-done
	case <-done:
	}
	if len(s.started) < 1 {
		t.Error("it was not started")
	}
}
