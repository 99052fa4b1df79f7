package preempt

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
)

// errHandOver is the type of the error of an activity that another worker is to go on with.
const errHandOver = "HandOver"

// HandOver is the error of an activity that another worker goes on with: its worker stops, or was taken for dead, or its
// time is over.
func HandOver(ctx context.Context) error {
	return temporal.NewApplicationErrorWithOptions("cut off, another worker goes on: "+context.Cause(ctx).Error(), errHandOver,
		temporal.ApplicationErrorOptions{NextRetryDelay: 100 * time.Millisecond})
}

// EndedByCancel reports whether an activity that the workflow has cancelled ended because of that. If its worker died
// or stopped meanwhile, Temporal gives it to no other worker, and its error is that of the worker's end.
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

// WhenEnded returns the error of an activity that has sent nothing, when its context has ended: cancelled, or handed
// over to another worker. Otherwise it returns err.
func WhenEnded(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case step.Cancelled(ctx):
		return temporal.NewCanceledError()
	}
	return HandOver(ctx)
}
