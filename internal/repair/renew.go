package repair

import (
	"context"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/intake"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// takes bounds the wait until a new intake has taken one message: they are handed over one by one, so that they never
// are together what the last one choked on.
const takes = 5 * time.Second

// newLedger starts the ledger anew from what its history holds: the state that the run began with, and every update
// that it took since.
func (a *Activities) newLedger(ctx context.Context, r *health.RepairResult) error {
	events, err := a.history(ctx, r.WorkflowID, r.RunID)
	if err != nil {
		return err
	}
	in, ok := input[ledger.Input](events)
	if !ok {
		r.Unproven = append(r.Unproven, "the ledger's state cannot be read: reservations, cooldowns and evictions of the last day are forgotten")
	}
	state := in.Begin()
	n := retake(events, &state)
	r.Steps = append(r.Steps, fmt.Sprintf("read the ledger's state: %d VM(s) reserved, %d scope(s), %d request(s) seen, after %d update(s)",
		len(state.Reserved), len(state.Scopes), len(state.Seen), n))
	return a.replace(ctx, r, ledger.WorkflowType, ledger.NewInput(state, in.Sweep))
}

// retake applies to a ledger's state the updates that a run has accepted.
func retake(events []*historypb.HistoryEvent, state *ledger.State) (n int) {
	for _, e := range events {
		call := e.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput()
		if call == nil {
			continue
		}
		now, args := e.GetEventTime().AsTime(), call.GetArgs()
		n++
		switch call.GetName() {
		case ledger.UpdateAdmit:
			with(args, func(r ledger.AdmitRequest) { state.Admit(now, r) })
		case ledger.UpdateReserve:
			with(args, func(r ledger.ReserveRequest) { state.Reserve(r) })
		case ledger.UpdateComplete:
			with(args, func(r ledger.CompleteRequest) { state.Complete(now, r) })
		case ledger.UpdateRaise:
			with(args, func(r ledger.RaiseRequest) { state.Raise(r.Owner, r.Rank) })
		case ledger.UpdateEvicted:
			with(args, func(r ledger.EvictedRequest) { state.Evicted(now, r) })
		case ledger.UpdateActive:
			with(args, func(r ledger.ActiveRequest) { state.SetActive(now, r) })
		case ledger.UpdateFacts:
			with(args, func(r ledger.FactsRequest) { state.Facts(now, r) })
		case ledger.UpdateRemedy:
			with(args, func(r ledger.RemedyRequest) { state.Remedy(now, r) })
		case ledger.UpdateRemedied:
			with(args, func(r ledger.RemediedRequest) { state.Remedied(now, r) })
		}
	}
	return n
}

func with[T any](args *commonpb.Payloads, f func(T)) {
	var r T
	if converter.GetDefaultDataConverter().FromPayloads(args, &r) == nil {
		f(r)
	}
}

// newWatch starts the watch anew from its last checkpoint: the heartbeat's, else that with which the run began.
func (a *Activities) newWatch(ctx context.Context, r *health.RepairResult) error {
	events, err := a.history(ctx, r.WorkflowID, r.RunID)
	if err != nil {
		return err
	}
	in, _ := input[watch.Input](events)
	if in.Timing == (watch.Timing{}) {
		in.Timing = watch.DefaultTiming()
	}
	from := "the one with which its run began"
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, r.WorkflowID, r.RunID)
	if err != nil {
		return fmt.Errorf("look up the watch: %w", err)
	}
	for _, p := range d.GetPendingActivities() {
		var c watchapi.Checkpoint
		if beat := p.GetHeartbeatDetails(); beat != nil && converter.GetDefaultDataConverter().FromPayloads(beat, &c) == nil {
			in.State.Checkpoint, from = c, "its last heartbeat's"
		}
	}
	r.Steps = append(r.Steps, "took the checkpoint: "+from+", reached "+in.State.Checkpoint.Reached.Format(time.RFC3339))
	return a.replace(ctx, r, watchapi.WorkflowType, in)
}

// leftover is what an intake had not dealt with.
type leftover struct {
	in       intake.Input
	signals  []*historypb.WorkflowExecutionSignaledEventAttributes
	unproven []string
}

// leftIn reads what an intake left: the state that its run began with, and the signals since its last task that ended
// well. A run whose task never did had not looked at what it was started with either.
func leftIn(events []*historypb.HistoryEvent) (l leftover) {
	var ok bool
	l.in, ok = input[intake.Input](events)
	done := false
	for _, e := range events {
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			l.signals, done = nil, true
		}
		if s := e.GetWorkflowExecutionSignaledEventAttributes(); s != nil {
			l.signals = append(l.signals, s)
		}
	}
	if done {
		l.in.Pending = nil
		l.unproven = append(l.unproven, "which alarms rose or fell, and what was decided, between its start and its last task: the next change of each alarm, "+
			"or the watch's comparison of states, brings them in again")
	}
	if !ok && len(events) > 0 && len(events[0].GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()) > 0 {
		l.unproven = append(l.unproven, "what it was started with cannot be read")
	}
	return l
}

// newIntake starts the intake anew and hands it, one by one, what the old one had not dealt with.
func (a *Activities) newIntake(ctx context.Context, r *health.RepairResult) error {
	events, err := a.history(ctx, r.WorkflowID, r.RunID)
	if err != nil {
		return err
	}
	if err := a.replace(ctx, r, preemption.WorkflowName, leftIn(events).in); err != nil {
		return err
	}
	// Read again: what reached the old run until its end is in its history, which does not change any more.
	if events, err = a.history(ctx, r.WorkflowID, r.RunID); err != nil {
		return err
	}
	left := leftIn(events)
	for _, s := range left.signals {
		raw := converter.NewRawValue(&commonpb.Payload{})
		if p := s.GetInput().GetPayloads(); len(p) > 0 {
			raw = converter.NewRawValue(p[0])
		}
		err := a.Temporal.SignalWorkflow(ctx, r.WorkflowID, "", s.GetSignalName(), raw)
		var missing *serviceerror.NotFound
		if errors.As(err, &missing) { // the new one is idle between two messages, and has completed
			_, err = a.Temporal.SignalWithStartWorkflow(ctx, r.WorkflowID, s.GetSignalName(), raw, client.StartWorkflowOptions{ID: r.WorkflowID, TaskQueue: a.TaskQueue}, preemption.WorkflowName)
		}
		if err != nil {
			return fmt.Errorf("hand a message to intake %s: %w", r.WorkflowID, err)
		}
		a.await(ctx, r.WorkflowID)
	}
	r.Steps = append(r.Steps, fmt.Sprintf("handed it %d message(s)", len(left.signals)))
	return nil
}

// await waits until the workflow has no task any more, or for a while.
func (a *Activities) await(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, takes)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		d, err := a.Temporal.DescribeWorkflowExecution(ctx, id, "")
		if err != nil || d.GetPendingWorkflowTask() == nil {
			return
		}
		if !clock.Sleep(ctx, pause) {
			return
		}
	}
}
