package trigger_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// behind is a Temporal at which so many events wait; it answers signals with err.
type behind struct {
	events int64
	err    error
	looks  int
	sent   int
}

func (b *behind) SignalWithStartWorkflow(context.Context, string, string, any, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	b.sent++
	return nil, b.err
}

func (b *behind) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	b.looks++
	return &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{HistoryLength: b.events, HistorySizeBytes: b.events * 1000},
		PendingWorkflowTask:   &workflowpb.PendingWorkflowTaskInfo{State: enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED},
	}, nil
}

func TestWhatTemporalNeverTakesIsRefusedAndWhatItMayTakeLaterIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		refused bool
		away    bool
	}{
		"an invalid argument":        {serviceerror.NewInvalidArgument("WorkflowId length exceeds limit"), true, false},
		"an outage":                  {serviceerror.NewUnavailable("connection refused"), false, true},
		"a call that took too long":  {serviceerror.NewDeadlineExceeded("late"), false, true},
		"too many calls":             {serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "rps"), false, true},
		"a namespace that is not":    {serviceerror.NewNamespaceNotFound("x"), false, true},
		"a fault that nobody knows":  {serviceerror.NewInternal("header key contains value with non-printable ASCII characters"), false, false},
		"no permission for a moment": {serviceerror.NewPermissionDenied("rotated", ""), false, true},
	} {
		e := &trigger.Engine{Temporal: &behind{err: c.err}, TaskQueue: "q", Rules: []trigger.Rule{{Alarm: "*", Action: trigger.Preempt{Tag: "spot"}}}}
		_, err := e.Handle(t.Context(), changed(t, "red", "green"))
		if errors.Is(err, trigger.ErrRefused) != c.refused || trigger.Away(err) != c.away {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnIntakeThatIsBehindGetsNoMoreAndTheErrorSaysWhy(t *testing.T) {
	b := &behind{events: 9000}
	e := &trigger.Engine{Temporal: b, TaskQueue: "site-1", Rules: []trigger.Rule{{Alarm: "*", Action: trigger.Preempt{Tag: "spot"}}}}
	var late *trigger.BacklogError
	for range 100 {
		_, err := e.Handle(t.Context(), changed(t, "red", "green"))
		if !errors.As(err, &late) || !strings.Contains(err.Error(), "9000 events") || !strings.Contains(err.Error(), "task queue site-1") || errors.Is(err, trigger.ErrRefused) {
			t.Fatalf("%v", err)
		}
	}
	if b.sent != 0 || b.looks > 20 {
		t.Errorf("%d sent, %d looks", b.sent, b.looks)
	}
}

func TestHealthyIntakesAreSeldomLookedAt(t *testing.T) {
	b := &behind{events: 10}
	e := &trigger.Engine{Temporal: b, TaskQueue: "site-1", Rules: []trigger.Rule{{Alarm: "*", Action: trigger.Preempt{Tag: "spot"}}}}
	for range 640 {
		if _, err := e.Handle(t.Context(), changed(t, "red", "green")); err != nil {
			t.Fatal(err)
		}
	}
	if b.looks > 11 {
		t.Errorf("%d looks at 640 events", b.looks)
	}
}
