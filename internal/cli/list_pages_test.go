package cli

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// manyWorkflows is a Temporal that keeps pages of workflows, and counts those that were asked for.
type manyWorkflows struct {
	client.Client
	pages, asked int
}

func (m *manyWorkflows) ListWorkflow(_ context.Context, req *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	page := &workflowservice.ListWorkflowExecutionsResponse{}
	for i := range int(req.GetPageSize()) {
		id := strconv.Itoa(m.asked*int(req.GetPageSize()) + i)
		page.Executions = append(page.Executions, &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: id}})
	}
	if m.asked++; m.asked < m.pages {
		page.NextPageToken = []byte("more")
	}
	return page, nil
}

func TestAFilteredListReadsNoFurtherThanItShows(t *testing.T) {
	var stderr bytes.Buffer
	kept := &manyWorkflows{pages: 30}
	s := &session{Client: kept, app: newApp(Options{Stderr: &stderr})}
	found, err := s.findWhere(t.Context(), "", 20, func(*listed) bool { return true })
	if err != nil || len(found) != 20 || kept.asked != 1 || stderr.Len() != 0 {
		t.Errorf("%d found after %d pages, stderr %q, %v; want 20 after one page, in silence", len(found), kept.asked, &stderr, err)
	}
}

func TestAFilteredListThatReadsForLongSaysSo(t *testing.T) {
	var stderr bytes.Buffer
	kept := &manyWorkflows{pages: 30}
	s := &session{Client: kept, app: newApp(Options{Stderr: &stderr})}
	found, err := s.findWhere(t.Context(), "", 20, func(w *listed) bool { return w.WorkflowID == "5999" })
	if err != nil || len(found) != 1 || kept.asked != 30 {
		t.Errorf("%d found after %d pages, %v; want the one of the last page", len(found), kept.asked, err)
	}
	if !strings.Contains(stderr.String(), "read 2000 workflows, 0 of them are as the flags say") {
		t.Errorf("stderr %q does not say how far it is", &stderr)
	}
}
