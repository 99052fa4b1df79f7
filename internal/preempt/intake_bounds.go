package preempt

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// Bounds of what the intake does in one workflow task, and carries from run to run.
const (
	// maxTaskBytes is about how much may come of decoding in one workflow task. Its answer to Temporal repeats that, and
	// may have 4 MB.
	maxTaskBytes = 2 << 20
	// maxDemandBytes is about what a demand has besides its event: the policy that is pinned with it, above all.
	maxDemandBytes = 3 << 10
	// maxDecodedBytes is about what a change has, or the reason of a rejection.
	maxDecodedBytes = 512
	// maxCarriedEvents is up to where causing events are carried to the next run as they are.
	maxCarriedEvents = 512 << 10
)

// pace counts what was decoded in this workflow task, and ends the task where that is enough: what follows comes in
// the next one.
func (it *intake) pace(out Decode) {
	for _, d := range out.Decoded {
		it.spent += maxDecodedBytes
		if d.Demand != nil {
			it.spent += len(d.Demand.Event) + maxDemandBytes
		}
	}
	if it.spent < maxTaskBytes || !it.paces() {
		return
	}
	it.spent = 0
	_ = workflow.Sleep(it.ctx, time.Millisecond) // never cancelled
}

// paces reports whether the run ends such tasks. Where an earlier version went on instead, and could, that is
// remembered for this occasion alone: the next may be the one that is too much.
func (it *intake) paces() bool {
	if !it.paced {
		it.occasions++
		it.paced = it.knows(fmt.Sprintf("%s-%d", versionPaced, it.occasions))
	}
	return it.paced
}

// lighten bounds what is carried to the next run: beside many scopes' events, each keeps what names its alarm alone.
func (s *IntakeState) lighten() {
	total := 0
	visit := func(f func(*preemptapi.Demand)) {
		for _, scope := range scopes(s.Standing) {
			d := s.Standing[scope]
			f(&d)
			s.Standing[scope] = d
		}
		for i := range s.Deferred {
			f(&s.Deferred[i].Demand)
		}
		if s.LastDemand != nil {
			last := *s.LastDemand
			f(&last)
			s.LastDemand = &last
		}
	}
	visit(func(d *preemptapi.Demand) { total += len(d.Event) })
	if total > maxCarriedEvents {
		// Pure, and of recorded input alone.
		visit(func(d *preemptapi.Demand) { d.Event = alarm.Shorten(d.Event) }) //workflowcheck:ignore
	}
}

// reserved says why an intake of that id takes nothing: the id belongs to a workflow of another kind, which a client's
// request must not stand in for. It is "" for every id of an intake.
func (it *intake) reserved() string {
	id := it.info.WorkflowExecution.ID
	what, ok := workflowid.Reserved(id)
	if !ok || !it.knows(versionReserved) {
		return ""
	}
	return fmt.Sprintf("the workflow id %q is reserved for %s: ask under another id", id, what)
}

// refuse rejects all that reached an intake under a reserved id, and completes it.
func (it *intake) refuse() (preemptapi.Response, error) {
	it.drain()
	for len(it.inbox) > 0 {
		for _, i := range it.inbox {
			it.reject(refused, it.refused)
			if i.done != nil {
				*i.decided, *i.done = preemptapi.Decision{Verdict: preemptapi.Rejected, Reason: it.refused, IntakeID: it.info.WorkflowExecution.ID}, true
			}
		}
		it.inbox = nil
		it.drain()
	}
	return it.complete()
}

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
	return !end.IsZero() && !it.now().Before(end) && it.knows(versionExpire)
}

// expire completes an intake that still has something to do, and leaves that to a successor without such a limit.
func (it *intake) expire(ctx workflow.Context) (preemptapi.Response, error) {
	it.drain()
	it.left = it.state.left()
	in := IntakeInput{State: it.state, Once: it.once}
	for _, i := range it.inbox {
		if i.done != nil {
			*i.decided, *i.done = preemptapi.Decision{Verdict: preemptapi.Failed, Reason: "the intake reached the execution timeout that its client gave it: ask again", Again: true}, true
			continue
		}
		in.Pending = append(in.Pending, i.Message)
	}
	log := workflow.GetLogger(it.ctx)
	if len(it.left) > 0 || len(in.Pending) > 0 {
		in.State.lighten()
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
func (s *IntakeState) left() (left []string) {
	for _, l := range s.Levels.Standing() {
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

// keptEvent is a causing event as far as it is kept, or why it cannot be.
func keptEvent(raw json.RawMessage) (json.RawMessage, error) {
	kept := alarm.Trim(raw)
	if len(kept) > 4*alarm.MaxKept {
		return nil, fmt.Errorf("the event's attributes make %d bytes: at most %d are taken", len(kept), 4*alarm.MaxKept)
	}
	return kept, nil
}
