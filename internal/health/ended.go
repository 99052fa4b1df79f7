package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// endedFor is how long a workflow that Temporal itself ended is reported.
const endedFor = 30 * time.Minute

// byTemporal is the identity with which Temporal's server ends a workflow that passed a limit, such as that of the size of
// its history or of one answer of a worker.
const byTemporal = "history-service"

// maxEnded is how many terminated workflows one check reads.
const maxEnded = 50

// ended adds the workflows that Temporal ended by itself a short time ago. Nobody was informed, and their open
// requests are lost.
func (l *Looker) ended(ctx context.Context, r *Report) error {
	page, err := l.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: l.Namespace, PageSize: maxEnded,
		Query: fmt.Sprintf("ExecutionStatus = 'Terminated' AND CloseTime > '%s' AND TaskQueue = '%s' AND WorkflowType IN ('%s')",
			l.now().Add(-endedFor).UTC().Format(time.RFC3339), strings.ReplaceAll(l.TaskQueue, "'", "''"), strings.Join(Types(), "','")),
	})
	if err != nil {
		return fmt.Errorf("list the terminated workflows of task queue %s: %w", l.TaskQueue, err)
	}
	for _, info := range page.GetExecutions() {
		if why, is := l.endedByTemporal(ctx, info); is {
			id := info.GetExecution().GetWorkflowId()
			r.Stalled = append(r.Stalled, Stall{
				WorkflowID: id, RunID: info.GetExecution().GetRunId(), Type: info.GetType().GetName(), Kind: Ended, Since: info.GetCloseTime().AsTime(),
				Cause: bounded(why), Remedy: remedyFor(Ended, id),
			})
		}
	}
	return nil
}

// knowingly are the reasons with which Temporal ends workflows that somebody replaced, or whose parent has ended.
var knowingly = []string{"TerminateIfRunning", "parent close policy"}

// endedByTemporal reports whether the server ended the workflow of itself, and why.
func (l *Looker) endedByTemporal(ctx context.Context, info *workflowpb.WorkflowExecutionInfo) (why string, is bool) {
	e := info.GetExecution()
	it := l.Client.GetWorkflowHistory(ctx, e.GetWorkflowId(), e.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	for it.HasNext() {
		event, err := it.Next()
		if err != nil {
			return "", false // deleted in the meantime, or the next check reads it
		}
		if a := event.GetWorkflowExecutionTerminatedEventAttributes(); a.GetIdentity() == byTemporal {
			reason := a.GetReason()
			return "Temporal ended it: " + reason, !slices.ContainsFunc(knowingly, func(k string) bool { return strings.Contains(reason, k) })
		}
	}
	return "", false
}
