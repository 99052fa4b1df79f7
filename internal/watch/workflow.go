// Package watch follows vCenter's event history and hands what it reads to the rules of package trigger. It
// is a durable workflow around one long-running activity, whose heartbeat is the checkpoint: when a worker
// dies another goes on where it stopped. It decides nothing about VMs.
package watch

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// Timing says how often the watch polls.
type Timing struct {
	Poll      time.Duration `json:"poll"`      // between polls for new events
	Compare   time.Duration `json:"compare"`   // between comparisons of the alarms' states with what was handed over
	Heartbeat time.Duration `json:"heartbeat"` // after which a silent worker counts as dead
	Lease     time.Duration `json:"lease"`     // how long one activity follows before its checkpoint goes into the history
}

// DefaultTiming returns the timing of production.
func DefaultTiming() Timing {
	return Timing{Poll: time.Second, Compare: 2 * time.Minute, Heartbeat: 4 * time.Second, Lease: time.Hour}
}

// Input starts the watch.
type Input struct {
	State  watchapi.State `json:"state"`
	Timing Timing         `json:"timing"`
}

// WorkflowID returns the id of the watch that serves a task queue.
func WorkflowID(taskQueue string) string { return watchapi.WorkflowID(taskQueue) }

// RegisterWorkflow adds the watch's workflow, for a worker or a replay.
func RegisterWorkflow(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Watch, workflow.RegisterOptions{Name: watchapi.WorkflowType})
}

// Register adds the workflow and its activity to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflow(r)
	r.RegisterActivityWithOptions(a.Follow, activity.RegisterOptions{Name: watchapi.ActivityType})
}

// Watch is the workflow. It keeps the activity going until it is cancelled, and hands its checkpoint from one to the next.
// While paused it keeps its state and does nothing else.
func Watch(ctx workflow.Context, in Input) (watchapi.State, error) {
	w := &watch{state: in.State, timing: in.Timing, control: workflow.GetSignalChannel(ctx, watchapi.ControlSignal)}
	if w.timing == (Timing{}) {
		w.timing = DefaultTiming()
	}
	if err := workflow.SetQueryHandler(ctx, watchapi.StateQuery, func() (watchapi.State, error) { return w.state, nil }); err != nil {
		return w.state, err
	}
	workflow.Go(ctx, w.listen)
	for ctx.Err() == nil {
		w.show(ctx)
		switch {
		case w.roll(ctx):
			w.drain(ctx)
			return w.state, workflow.NewContinueAsNewError(ctx, watchapi.WorkflowType, Input{State: w.state, Timing: w.timing})
		case w.state.Paused:
			_ = workflow.Await(ctx, func() bool { return !w.state.Paused || w.roll(ctx) }) // ends with ctx, as the loop does
		default:
			w.follow(ctx)
		}
	}
	return w.state, nil
}

type watch struct {
	state   watchapi.State
	timing  Timing
	control workflow.ReceiveChannel
}

// versionRoll marks a watch that continues as new also while an activity follows: signals of others let its history grow
// meanwhile, and Temporal ends a workflow whose history is too large.
const versionRoll = "roll-while-following"

// roll reports whether the history has grown so long that a new run should begin.
func (w *watch) roll(ctx workflow.Context) bool {
	return workflow.GetInfo(ctx).GetContinueAsNewSuggested()
}

// listen applies every control as it arrives.
func (w *watch) listen(ctx workflow.Context) {
	for {
		var c watchapi.Control
		if !w.control.Receive(ctx, &c) {
			return
		}
		w.apply(ctx, c)
	}
}

func (w *watch) drain(ctx workflow.Context) {
	for {
		var c watchapi.Control
		if !w.control.ReceiveAsync(&c) {
			return
		}
		w.apply(ctx, c)
	}
}

func (w *watch) apply(ctx workflow.Context, c watchapi.Control) {
	if c.Paused == w.state.Paused {
		return
	}
	w.state.Paused, w.state.Reason, w.state.PausedAt = c.Paused, c.Reason, time.Time{}
	if c.Paused {
		w.state.PausedAt = workflow.Now(ctx).UTC()
	}
}

// follow runs the activity until it returns its checkpoint: at the end of its lease, or because it was
// told to stop by a pause or by the workflow's cancellation.
func (w *watch) follow(ctx workflow.Context) {
	own, _ := workflow.NewDisconnectedContext(ctx)
	own, cancel := workflow.WithCancel(own)
	defer cancel()
	own = workflow.WithActivityOptions(own, workflow.ActivityOptions{
		StartToCloseTimeout: 2*w.timing.Lease + time.Minute,
		HeartbeatTimeout:    w.timing.Heartbeat,
		WaitForCancellation: true,
		// The back-off of a long-lived activity never resets: it stays short.
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 1},
		Summary:     "follow vCenter's events",
	})
	done := workflow.ExecuteActivity(own, watchapi.ActivityType, FollowInput{Checkpoint: w.state.Checkpoint, Timing: w.timing})
	over := func() bool { return done.IsReady() || w.state.Paused }
	_ = workflow.Await(ctx, func() bool { return over() || w.roll(ctx) }) // ends with ctx too
	if !over() && ctx.Err() == nil && workflow.GetVersion(ctx, versionRoll, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		_ = workflow.Await(ctx, over)
	}
	cancel()
	var c watchapi.Checkpoint
	if err := done.Get(own, &c); err != nil {
		w.lost(own, err)
		return
	}
	w.state.Checkpoint = c
}

// lost goes on from the last checkpoint that is known: of an activity that failed, was cancelled before a
// worker took it up, or timed out, the heartbeat carries a later one.
func (w *watch) lost(ctx workflow.Context, err error) {
	var c watchapi.Checkpoint
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) && timeout.HasLastHeartbeatDetails() && timeout.LastHeartbeatDetails(&c) == nil {
		w.state.Checkpoint = c
	}
	if temporal.IsCanceledError(err) {
		var cancelled *temporal.CanceledError
		if errors.As(err, &cancelled) && cancelled.HasDetails() && cancelled.Details(&c) == nil {
			w.state.Checkpoint = c
		}
		return
	}
	workflow.GetLogger(ctx).Warn("the watch lost its activity and goes on from the last checkpoint", "error", err)
	_ = workflow.Sleep(ctx, time.Second) // a workflow that is cancelled meanwhile ends in the loop
}

// show writes the state of the watch on the workflow's page.
func (w *watch) show(ctx workflow.Context) {
	text := "following " + w.state.Checkpoint.VCenter
	if w.state.Paused {
		text = "**paused** " + w.state.Reason
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("%s\n\nreached %s, %d events read, %d handed on",
		shown.Clip(text, 2000), w.state.Checkpoint.Reached.Format(time.RFC3339), w.state.Checkpoint.Events, w.state.Checkpoint.Sent))
}
