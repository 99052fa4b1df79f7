package health

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// Bounds of a cause.
const (
	maxCause = 400 // bytes
	lastOf   = 30  // events, the newest, in which the cause is searched
)

// cause returns why the workflow's task fails, and since when, by the last failure in its history. A worker records only
// the first failure of a row; the later attempts end by their time.
func (l *Looker) cause(ctx context.Context, id, run string) (text string, since time.Time) {
	resp, err := l.Client.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
		Namespace: l.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: run}, MaximumPageSize: lastOf,
	})
	if err != nil {
		return "its history cannot be read: " + bounded(err.Error()), since
	}
	return causeIn(resp.GetHistory().GetEvents())
}

// causeIn returns the newest cause among events, the newest first, and when it was recorded first.
func causeIn(events []*historypb.HistoryEvent) (text string, since time.Time) {
	text = "its task fails, and its history does not say why; look at the workers' log"
	known := false
	for _, e := range events {
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED:
			f := e.GetWorkflowTaskFailedEventAttributes()
			if !known {
				text = bounded(fmt.Sprintf("%s: %s", f.GetCause(), message(f.GetFailure())))
			}
			known, since = true, e.GetEventTime().AsTime()
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
			if since = e.GetEventTime().AsTime(); !known {
				text = "no worker ends its task in time (" + e.GetWorkflowTaskTimedOutEventAttributes().GetTimeoutType().String() +
					"); if a worker fails it since, only the workers' log says why"
			}
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			return text, since // older failures are over
		}
	}
	return text, since
}

// message is the text of a failure with its causes.
func message(f *failure.Failure) string {
	var parts []string
	for ; f != nil && len(parts) < 3; f = f.GetCause() {
		parts = append(parts, f.GetMessage())
	}
	return strings.Join(parts, ": ")
}

// bounded makes foreign text safe for one line: no secrets, no control characters, not too long.
func bounded(text string) string {
	text = shown.Redact(text)
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return shown.Clip(strings.Join(strings.Fields(text), " "), maxCause)
}
