package intake

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// deadline is when the intake completes whatever it has to do, so that its client's execution timeout does not find it
// running; zero where there is none.
func (it *intake) deadline() time.Time {
	limit := it.info.WorkflowExecutionTimeout
	if limit <= 0 {
		return time.Time{}
	}
	margin := max(min(limit/2, 15*time.Second), min(limit/4, 10*time.Minute)) // Temporal's timers and a busy worker may be late
	return it.state.Started.Add(limit - margin)
}

// expired reports whether the deadline has come.
func (it *intake) expired() bool {
	end := it.deadline()
	return !end.IsZero() && !it.now().Before(end) && it.hasVersion(versionExpire)
}

// expire completes an intake that still has something to do, and leaves that to a successor without such a limit.
func (it *intake) expire(ctx workflow.Context) (preemptapi.Response, error) {
	it.drain()
	it.left = it.state.left()
	in := Input{State: it.state, Once: it.once}
	for _, i := range it.inbox {
		if i.done != nil {
			*i.decided, *i.done = preemptapi.Decision{Verdict: preemptapi.Failed, Reason: "the intake reached the execution timeout that its client gave it: ask again", Again: true}, true
			continue
		}
		in.Pending = append(in.Pending, i.Message)
	}
	log := workflow.GetLogger(it.ctx)
	if len(it.left) > 0 || len(in.Pending) > 0 {
		in.State.trimEvents()
		in.State.Started = time.Time{}
		var a *Activities
		local := it.local(10 * time.Second)
		hand := Handover{IntakeID: it.info.WorkflowExecution.ID, RunID: it.info.WorkflowExecution.RunID, Input: in}
		if err := workflow.ExecuteLocalActivity(local, a.HandOverIntake, hand).Get(local, nil); err != nil {
			log.Error("the intake reached its client's execution timeout, and what it has left is lost with it", "left", it.left, "error", err)
			it.left = append(it.left, "it could not be handed over: "+shown.Clip(err.Error(), 200))
		} else {
			log.Warn("the intake completes before its client's execution timeout; its successor goes on", "left", it.left)
		}
	}
	return it.complete()
}

// left says in words what an intake has still to do.
func (s *State) left() (left []string) {
	for _, l := range s.Levels.Active() {
		left = append(left, fmt.Sprintf("alarm %s is %s on %s", l.Alarm, l.Colour, l.Entity))
	}
	for _, d := range s.Deferred {
		left = append(left, fmt.Sprintf("request %s waits until %s: %s", d.Demand.RequestID, d.Until.UTC().Format(time.RFC3339), d.Reason))
	}
	for _, scope := range scopes(s.Active) {
		left = append(left, fmt.Sprintf("round %s goes on by itself", s.Active[scope].RoundID))
	}
	const most = 20
	if n := len(left); n > most {
		left = append(left[:most], fmt.Sprintf("and %d more", n-most))
	}
	for i := range left {
		left[i] = shown.Clip(left[i], 400)
	}
	return left
}
