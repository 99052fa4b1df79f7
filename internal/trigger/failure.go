package trigger

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/serviceerror"

	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// final reports whether Temporal's answer is the same however often the order is sent.
func final(err error) bool {
	var invalid *serviceerror.InvalidArgument
	return errors.As(err, &invalid)
}

// Away reports whether an error comes from an outage, or from settings, that meet every event alike, and not from one
// event: Temporal does not answer, is too busy, or does not let us in.
func Away(err error) bool {
	var (
		unavailable *serviceerror.Unavailable
		deadline    *serviceerror.DeadlineExceeded
		cancelled   *serviceerror.Canceled
		busy        *serviceerror.ResourceExhausted
		denied      *serviceerror.PermissionDenied
		missing     *serviceerror.NamespaceNotFound
		inactive    *serviceerror.NamespaceNotActive
	)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &unavailable) || errors.As(err, &deadline) || errors.As(err, &cancelled) || errors.As(err, &busy) ||
		errors.As(err, &denied) || errors.As(err, &missing) || errors.As(err, &inactive)
}

// Answers reports whether Temporal answers at all at the moment.
func (e *Engine) Answers(ctx context.Context) bool {
	d, ok := e.Temporal.(describer)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	_, err := d.DescribeWorkflowExecution(ctx, workflowid.Of(workflowid.Watch+e.TaskQueue), "")
	return err == nil || errors.As(err, new(*serviceerror.NotFound))
}

// BacklogError says that so much waits at a workflow that no more is sent to it. The event should be brought again.
type BacklogError struct {
	WorkflowID, TaskQueue string
	Events, Bytes         int64 // of the workflow's history
	Attempts              int32 // of the workflow task that waits
}

// Error says what to do about it.
func (e *BacklogError) Error() string {
	why := "no worker takes them: start one, or see preemptctl doctor"
	if e.Attempts > 1 {
		why = fmt.Sprintf("the worker's attempts fail (%d so far): see its log, and preemptctl doctor", e.Attempts)
	}
	return fmt.Sprintf("%d events of %d bytes wait at %s for a worker on task queue %s, and %s", e.Events, e.Bytes, e.WorkflowID, e.TaskQueue, why)
}
