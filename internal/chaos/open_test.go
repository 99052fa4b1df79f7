package chaos

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
)

// tellOpen logs which workflows run, what their memos say, and which activities they wait for.
func (w *world) tellOpen() {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	list, err := w.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: namespace, PageSize: 100, Query: fmt.Sprintf("ExecutionStatus = 'Running' AND TaskQueue = %q", queue),
	})
	if err != nil {
		w.t.Logf("what runs: %v", err)
		return
	}
	for _, e := range list.GetExecutions() {
		id := e.GetExecution().GetWorkflowId()
		d, err := w.client.DescribeWorkflowExecution(ctx, id, e.GetExecution().GetRunId())
		if err != nil {
			w.t.Logf("%s runs: %v", id, err)
			continue
		}
		said := map[string]string{}
		for key, payload := range d.GetWorkflowExecutionInfo().GetMemo().GetFields() {
			said[key] = converter.GetDefaultDataConverter().ToString(payload)
		}
		w.t.Logf("%s runs, %d events: %v", id, d.GetWorkflowExecutionInfo().GetHistoryLength(), said)
		for _, a := range d.GetPendingActivities() {
			w.t.Logf("  it waits for %s: %s, attempt %d, %s", a.GetActivityType().GetName(), a.GetState(), a.GetAttempt(), a.GetLastFailure().GetMessage())
		}
	}
}
