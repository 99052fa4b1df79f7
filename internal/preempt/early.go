package preempt

import (
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// endedEarly reports whether a step that the workflow has cancelled ended for that. Where its worker died or stopped,
// Temporal gives it to no other: its error is then that of the worker's end.
func endedEarly(ctx workflow.Context, err error) bool {
	if err == nil || temporal.IsCanceledError(err) {
		return err != nil
	}
	var app *temporal.ApplicationError
	if !temporal.IsTimeoutError(err) && (!errors.As(err, &app) || app.Type() != errHandOver) {
		return false
	}
	return workflow.GetVersion(ctx, "cancelled-with-its-worker", workflow.DefaultVersion, 1) != workflow.DefaultVersion
}
