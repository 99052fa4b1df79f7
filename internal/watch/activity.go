package watch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Activities are the steps of the watch that reach outside.
type Activities struct {
	VCenter VCenter
	Engine  *trigger.Engine
	Source  string // of the events: https://<vCenter>/sdk
	Log     *slog.Logger
}

// NewActivities returns the activities of a worker of the task queue; host is vCenter's host and port.
func NewActivities(g *vcenter.Gateway, c client.Client, taskQueue string, rules []trigger.Rule, host string, log *slog.Logger) *Activities {
	return &Activities{
		VCenter: gateway{g}, Engine: &trigger.Engine{Temporal: c, TaskQueue: taskQueue, Rules: rules},
		Source: "https://" + host + "/sdk", Log: log,
	}
}

// Checked has the rules ask, before they send something, whether the workflow would take it.
func (a *Activities) Checked(takes func(payload any) error) *Activities {
	a.Engine.Check = takes
	return a
}

// FollowInput says from where to follow the events.
type FollowInput struct {
	Checkpoint watchapi.Checkpoint `json:"checkpoint"`
	Timing     Timing              `json:"timing"`
}

// errNoRules is the type of the error of a worker that has no rules: another may have some.
const errNoRules = "NoRules"

// Follow reads vCenter's events and hands them to the rules until it is cancelled or its lease ends, and
// returns its checkpoint. Its heartbeat carries the checkpoint, from which another attempt goes on. While
// vCenter or Temporal is away it stays and tries again.
func (a *Activities) Follow(ctx context.Context, in FollowInput) (watchapi.Checkpoint, error) {
	c := in.Checkpoint
	if activity.HasHeartbeatDetails(ctx) {
		var last watchapi.Checkpoint
		if err := activity.GetHeartbeatDetails(ctx, &last); err == nil {
			c = last
		}
	}
	if len(a.Engine.Rules) == 0 {
		return c, temporal.NewApplicationErrorWithOptions(
			"this worker's configuration has no rules: the watch waits for a worker that has some; preemptctl watch stop ends the wait",
			errNoRules, temporal.ApplicationErrorOptions{NextRetryDelay: 5 * time.Second})
	}
	f := a.newFollower(ctx, c, in.Timing)
	defer f.close()
	defer f.heartbeats()()
	err := f.follow(ctx)
	return f.checkpoint, err
}

func (a *Activities) newFollower(ctx context.Context, c watchapi.Checkpoint, t Timing) *follower {
	info := activity.GetInfo(ctx)
	c.VCenter, c.Worker = a.Source, thisProcess()
	return &follower{
		Activities: a, timing: t, checkpoint: c, handled: newHandledEvents(c.Seen), idle: map[instance]string{},
		log:     a.Log.With("workflow_id", info.WorkflowExecution.ID, "run_id", info.WorkflowExecution.RunID),
		metrics: activity.GetMetricsHandler(ctx),
		beat:    func(c watchapi.Checkpoint) { activity.RecordHeartbeat(ctx, c) },
	}
}

// follow polls until the lease ends, the activity is cancelled or its worker stops. An error says that the activity was
// lost.
func (f *follower) follow(ctx context.Context) error {
	polling, stop := untilWorkerStops(ctx)
	defer stop()
	for end := time.Now().Add(f.timing.Lease); time.Now().Before(end); {
		f.poll(polling)
		f.record()
		if f.rest(polling); polling.Err() != nil {
			return ended(ctx)
		}
	}
	return nil
}

// untilWorkerStops returns a context that ends with ctx, or when the worker stops.
func untilWorkerStops(ctx context.Context) (context.Context, context.CancelFunc) {
	polling, stop := context.WithCancel(ctx)
	stopping := activity.GetWorkerStopChannel(ctx)
	go func() {
		select {
		case <-stopping:
			stop()
		case <-polling.Done():
		}
	}()
	return polling, stop
}

// ended says why the follower may not go on: nil where that was asked for, or where its worker stops and the
// next activity takes the checkpoint from its result.
func ended(ctx context.Context) error {
	if ctx.Err() == nil || temporal.IsCanceledError(context.Cause(ctx)) {
		return nil
	}
	return fmt.Errorf("the watch lost touch with Temporal: %w", context.Cause(ctx))
}

// thisProcess names this process as Temporal's list of pollers does.
func thisProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%d@%s", os.Getpid(), host)
}
