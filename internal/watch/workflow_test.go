package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
)

// run runs the watch with an activity of our own until that has been called so often, or an hour is over, and returns its
// state.
func run(t *testing.T, follow func(context.Context, FollowInput) (watchapi.Checkpoint, error), calls int, steps func(*testsuite.TestWorkflowEnvironment)) watchapi.State {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(slog.New(slog.DiscardHandler))
	env := suite.NewTestWorkflowEnvironment()
	RegisterWorkflow(env)
	env.RegisterActivityWithOptions(follow, activity.RegisterOptions{Name: watchapi.ActivityType})
	env.SetOnActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) {
		if calls--; calls == 0 {
			env.CancelWorkflow()
		}
	})
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour)
	steps(env)
	env.ExecuteWorkflow(watchapi.WorkflowType, Input{})
	var state watchapi.State
	if err := env.GetWorkflowResult(&state); err != nil {
		t.Fatal(err)
	}
	return state
}

// counting is an activity that reads one event and returns at once.
func counting(_ context.Context, in FollowInput) (watchapi.Checkpoint, error) {
	in.Checkpoint.Events++
	return in.Checkpoint, nil
}

func TestTheCheckpointGoesFromOneActivityToTheNext(t *testing.T) {
	var calls atomic.Int64
	state := run(t, func(ctx context.Context, in FollowInput) (watchapi.Checkpoint, error) {
		if in.Checkpoint.Events != calls.Add(1)-1 || in.Timing != DefaultTiming() {
			t.Errorf("call %d begins with %+v", calls.Load(), in)
		}
		return counting(ctx, in)
	}, 3, func(*testsuite.TestWorkflowEnvironment) {})
	if state.Checkpoint.Events < 3 || state.Checkpoint.Events > calls.Load() {
		t.Errorf("%d calls, %+v", calls.Load(), state)
	}
}

func TestAPausedWatchKeepsItsCheckpointAndFollowsNothing(t *testing.T) {
	state := run(t, func(ctx context.Context, in FollowInput) (watchapi.Checkpoint, error) {
		t.Error("it follows while it is paused")
		return counting(ctx, in)
	}, 1, func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() {
			env.SignalWorkflow(watchapi.ControlSignal, watchapi.Control{Paused: true, Reason: "maintenance"})
		}, 0)
		env.RegisterDelayedCallback(func() {
			value, err := env.QueryWorkflow(watchapi.StateQuery)
			var s watchapi.State
			if err != nil || value.Get(&s) != nil || !s.Paused || s.Reason != "maintenance" || s.PausedAt.IsZero() {
				t.Errorf("%+v, %v", s, err)
			}
		}, time.Second)
	})
	if !state.Paused {
		t.Errorf("%+v", state)
	}
}

func TestALostActivityIsFollowedByAnotherFromTheLastCheckpointKnown(t *testing.T) {
	var calls atomic.Int64
	state := run(t, func(ctx context.Context, in FollowInput) (watchapi.Checkpoint, error) {
		if calls.Add(1) == 1 {
			in.Checkpoint.Events = 100
			return in.Checkpoint, temporal.NewNonRetryableApplicationError("lost", "Lost", errors.New("lost"))
		}
		if in.Checkpoint.Events > 10 {
			t.Errorf("an activity that failed has moved the checkpoint: %+v", in.Checkpoint)
		}
		return counting(ctx, in)
	}, 2, func(*testsuite.TestWorkflowEnvironment) {})
	if calls.Load() < 2 || state.Checkpoint.Events == 0 {
		t.Errorf("%d calls, %+v", calls.Load(), state)
	}
}
