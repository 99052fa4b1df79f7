package cli

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// keptWorkflows is a Temporal that lists workflows, and answers nothing else.
type keptWorkflows struct {
	client.Client
	all []*workflowpb.WorkflowExecutionInfo
}

func (k keptWorkflows) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	return &workflowservice.ListWorkflowExecutionsResponse{Executions: k.all}, nil
}

func kept(t *testing.T, id, kind string, status enumspb.WorkflowExecutionStatus, state string) *workflowpb.WorkflowExecutionInfo {
	t.Helper()
	memo, err := converter.GetDefaultDataConverter().ToPayload(state)
	if err != nil {
		t.Fatal(err)
	}
	return &workflowpb.WorkflowExecutionInfo{
		Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "run-of-" + id}, Type: &commonpb.WorkflowType{Name: kind}, Status: status,
		Memo: &commonpb.Memo{Fields: map[string]*commonpb.Payload{"state": memo}},
	}
}

func TestTheStateThatIsAskedForIsTheOneThatIsShown(t *testing.T) {
	const (
		open       = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
		done       = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
		terminated = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	)
	var stderr bytes.Buffer
	s := &session{app: newApp(Options{Stderr: &stderr}), Client: keptWorkflows{all: []*workflowpb.WorkflowExecutionInfo{
		kept(t, "room", preemption.MakeRoomWorkflowName, done, "made"), // its VM was powered on later: of it its result says running
		kept(t, "intake", preemption.WorkflowName, open, "running"),
		kept(t, "round", preemptapi.RoundType, open, "acting"),
		kept(t, "ended", preemptapi.RoundType, terminated, "acting"),
		kept(t, "asked", preemptapi.RestoreType, open, "requested"),
	}}}
	for state, want := range map[string][]string{
		"running": {"intake"}, "made": {"room"}, "ACTING": {"round"}, "terminated": {"ended"}, "requested": {"asked"}, "failed": nil,
	} {
		f := listFlags{filterFlags: filterFlags{state: state}, limit: 20}
		filter, err := f.filter(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		found, err := s.app.listed(t.Context(), s, f, filter)
		var ids []string
		for _, w := range found {
			ids = append(ids, w.WorkflowID)
			if !w.isIn(state) {
				t.Errorf("--state %s: %s is shown as %s", state, w.WorkflowID, w.State)
			}
		}
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("--state %s: %q, %v; want %q", state, ids, err, want)
		}
	}
}
