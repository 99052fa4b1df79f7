package preempt

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
)

// errHandOver is the type of the error of a step that another worker is to take over.
const errHandOver = "HandOver"

// HandOver is the error of a step that has nothing at stake when its worker stops: another takes over.
func HandOver(ctx context.Context) error {
	return temporal.NewApplicationErrorWithOptions("the worker stops: "+context.Cause(ctx).Error(), errHandOver,
		temporal.ApplicationErrorOptions{NextRetryDelay: 100 * time.Millisecond})
}

// EndedByCancel reports whether a step that the workflow has cancelled ended for that. Where its worker died or stopped,
// Temporal gives it to no other: its error is then that of the worker's end.
func EndedByCancel(ctx workflow.Context, err error) bool {
	if err == nil || temporal.IsCanceledError(err) {
		return err != nil
	}
	var app *temporal.ApplicationError
	if !temporal.IsTimeoutError(err) && (!errors.As(err, &app) || app.Type() != errHandOver) {
		return false
	}
	return workflow.GetVersion(ctx, "cancelled-with-its-worker", workflow.DefaultVersion, 1) != workflow.DefaultVersion
}

// WhenEnded returns what a step that has nothing at stake answers when it failed because its context ended:
// that it was cancelled, or that another worker should take over. Otherwise it returns err.
func WhenEnded(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case step.Cancelled(ctx):
		return temporal.NewCanceledError()
	}
	return HandOver(ctx)
}
