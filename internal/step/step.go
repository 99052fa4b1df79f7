// Package step holds what the activities of all our workflows do alike while vCenter is slow, away or unwilling:
// attempts on one object, errors that Temporal retries or not, heartbeats, and the question whether a context
// ended because somebody cancelled.
package step

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Tries is how often one object is tried before its failure is final. Time during which vCenter is away does not
// count.
const Tries = 3

// Typed turns an error of the gateway into a Temporal error named by its kind. Temporal retries an outage, and what was cut
// off because its worker stopped or was taken for dead. Everything else has had its attempts and is final.
func Typed(err error) error {
	if err == nil {
		return nil
	}
	kind := vcenter.KindOf(err)
	if kind.Outage() || kind == vcenter.Interrupted {
		return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind), temporal.ApplicationErrorOptions{})
	}
	return temporal.NewNonRetryableApplicationError(err.Error(), string(kind), nil)
}

// Attempt calls f up to Tries times, with growing pauses between, as long as its error is worth it. An outage is
// returned at once: who calls decides how long to wait it out.
func Attempt(ctx context.Context, pause time.Duration, f func() error) error {
	for i := 1; ; i++ {
		err := f()
		kind := vcenter.KindOf(err)
		if err == nil || i == Tries || kind.Outage() || !kind.Retryable() {
			return err
		}
		if !clock.Sleep(ctx, pause) {
			return err
		}
		pause *= 2
	}
}

// Cancelled tells whether Temporal's server cancelled the activity. A stopping worker and lost heartbeats end the
// context too, and mean nothing for any VM.
func Cancelled(ctx context.Context) bool {
	return ctx.Err() != nil && temporal.IsCanceledError(context.Cause(ctx))
}

// Superseded reports whether Temporal's server knows the activity no more: it has given it to another worker, or its
// workflow has ended. Nobody takes what it returns.
func Superseded(ctx context.Context) bool {
	var gone *serviceerror.NotFound
	return ctx.Err() != nil && errors.As(context.Cause(ctx), &gone)
}

// Beat heartbeats until the returned function is called, so that a dead worker is noticed within the heartbeat
// timeout and a cancellation arrives. It goes on after a cancellation and while the worker stops: with the
// activity's own context the SDK would send no more, and the server would give up work that is still under way.
func Beat(ctx context.Context, timeout time.Duration) (stop func()) {
	ctx = context.WithoutCancel(ctx)
	return clock.Every(min(timeout/4, time.Second), func() { activity.RecordHeartbeat(ctx) })
}
