package preempt

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// WithOptions bounds an activity: by time in all, by heartbeats, and not by attempts, for an outage is waited out; each
// activity bounds its own attempts on an object. each is how long one attempt may take.
func (t Timing) WithOptions(ctx workflow.Context, each time.Duration, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: each, ScheduleToCloseTimeout: t.Outage + each, HeartbeatTimeout: t.Heartbeat,
		WaitForCancellation: true, Summary: summary,
		// At first soon: of a worker that died, another goes on with the work.
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: min(t.Retry, takeOver), BackoffCoefficient: 2, MaximumInterval: 5 * t.Retry},
	})
}

// TaskTimeout is how long a worker that died in the middle of a workflow task holds up a round or a restore. It is many
// times what the longest task takes, see docs/architecture.md.
const TaskTimeout = 5 * time.Second

// takeOver is how long after a worker's death was noticed another one goes on with its activities.
const takeOver = 200 * time.Millisecond

// Reply sends a CloudEvent to the reply address of a request, and tries again for as long as the timing says.
func (t Timing) Reply(ctx workflow.Context, in ReplyInput) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second, ScheduleToCloseTimeout: t.ReplyFor, Summary: "reply to " + Clip(shown.Redact(in.Target)),
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: t.Retry, BackoffCoefficient: 2, MaximumInterval: time.Minute},
	})
	var a *Replies
	err := workflow.ExecuteActivity(ctx, a.SendPreemptedEvent, in).Get(ctx, nil)
	if err != nil {
		workflow.GetLogger(ctx).Error("the reply could not be delivered", "target", Clip(shown.Redact(in.Target)), "error", err)
	}
	return err
}

// Note appends what changed in the course of a round or restore, with its time, and logs it.
func Note(ctx workflow.Context, changes []string, text, alarmName, scope string) []string {
	workflow.GetLogger(ctx).Info(text, "alarm", alarmName, "cluster", scope)
	return append(changes, workflow.Now(ctx).UTC().Format(time.RFC3339)+" "+text)
}

// ErrorType is the type of an error that ended a round or restore.
func ErrorType(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Type()
	}
	return RoundFailed
}
