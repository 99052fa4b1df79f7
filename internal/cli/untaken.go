package cli

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
)

// untakenLimit is how long to look for why there was no answer.
const untakenLimit = 2 * time.Second

// untaken reports why a workflow that was started has no answer in time, where no worker has begun it: so says an error, with what
// follows from it. nil: a worker has, or that is not known. ctx may have ended.
func (s *session) untaken(ctx context.Context, id, so string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), untakenLimit)
	defer cancel()
	if polled, err := s.polled(ctx); err == nil && !polled {
		return s.app.noWorker(so)
	}
	d, err := s.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return nil
	}
	info := d.GetWorkflowExecutionInfo()
	begun := d.GetPendingWorkflowTask().GetState() == enumspb.PENDING_WORKFLOW_TASK_STATE_STARTED || info.GetHistoryLength() > eventsUntaken
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING && d.GetPendingWorkflowTask() == nil {
		begun = true
	}
	if begun {
		return nil
	}
	return failedf("no worker polls task queue %s in namespace %s any more, or those that do are too busy: %s", s.app.target.queue, s.app.target.namespace, so)
}

// eventsUntaken is how many events a workflow has at most that no worker has begun: its start, its first task, and its end.
const eventsUntaken = 3

// startOne says what to do where no worker polls, after what follows from that.
func (a *app) startOne(so string) string {
	return so + "; start one, or compare its TEMPORAL_NAMESPACE and TEMPORAL_TASKQUEUE with --namespace and --queue; look: " + a.command("doctor")
}
