package preempt

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Env is what the activities of intake, round and restore have of the worker that they run in. There is one for all
// three.
type Env struct {
	Temporal  client.Client
	TaskQueue string
	Namespace string
	Settings  Settings
	Log       *slog.Logger
	Tracer    *tracing.Tracer // nil: nothing is traced

	attrs   attributeCheck
	changed atomic.Bool // a VM was preempted or restored since the preempted ones were counted
}

// Attempt tries what concerns one object again, as long as its error is worth it.
func (e *Env) Attempt(ctx context.Context, f func() error) error {
	return step.Attempt(ctx, e.Settings.Timing.Retry, f)
}

// AttemptThrough is Attempt for work that must be finished: it waits while vCenter is away.
func (e *Env) AttemptThrough(ctx context.Context, f func() error) error {
	pause := e.Settings.Timing.Retry
	for {
		err := e.Attempt(ctx, f)
		if err == nil || !vcenter.KindOf(err).Outage() || !clock.Sleep(ctx, pause) {
			return err
		}
		pause = min(2*pause, 10*time.Second)
	}
}

// Beat heartbeats until the returned function is called.
func (e *Env) Beat(ctx context.Context) (stop func()) {
	return step.Beat(ctx, e.Settings.Timing.Heartbeat)
}

// Logger returns the log of an activity, with the ids of its workflow.
func (e *Env) Logger(ctx context.Context) *slog.Logger {
	info := activity.GetInfo(ctx)
	l := e.Log.With("workflow_id", info.WorkflowExecution.ID, "run_id", info.WorkflowExecution.RunID)
	if id := tracing.ID(ctx); id != "" {
		l = l.With("trace_id", id)
	}
	return l
}
