package takeover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/intake"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// maxPending is how much of what is pending travels with the start; the rest is signalled right behind it.
const maxPending = 512 << 10

// prototypes takes over every open intake that another program began. It returns which are left.
func (k *Keeper) prototypes(ctx context.Context) (left []string, err error) {
	if err := k.settle(ctx); err != nil { // it holds up no other
		left = append(left, err.Error())
		k.complain(ctx, err)
	}
	open, err := k.running(ctx, preemption.WorkflowName)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(open))
	for _, info := range open {
		if run := info.GetExecution().GetRunId(); k.known[run] {
			known[run] = true
		}
	}
	k.known = known // what has ended is forgotten
	for _, info := range open {
		run := info.GetExecution()
		if known[run.GetRunId()] {
			continue
		}
		o, begun, err := k.origin(ctx, run)
		if err == nil && o == foreign {
			err = k.take(ctx, run)
		}
		if err == nil && o == ours {
			err = k.finish(ctx, run, begun)
		}
		switch {
		case ctx.Err() != nil:
			return left, fmt.Errorf("not all of %d open intakes were looked at: %w", len(open), ctx.Err())
		case err != nil:
			left = append(left, err.Error())
			k.complain(ctx, err)
		case o == ours:
			known[run.GetRunId()] = true
		}
	}
	return left, nil
}

// origin is who began a run.
type origin int

const (
	unclear origin = iota // no worker has done anything in it yet, or one is about to
	ours
	foreign
)

// judge reads from a run's history who began it. Our intake schedules no activity, only local ones, which leave markers,
// and rests on a timer where nothing is to do; the prototype schedules activities, and leaves nothing at all of a
// signal that it skips. A run that no worker has completed a task of is whoever's takes it up, and so ours.
type judge struct {
	queue    string
	verdict  origin
	begun    *historypb.WorkflowExecutionStartedEventAttributes
	answered bool // a worker has completed a task
}

// see takes the next event, and reports whether it wants more.
func (j *judge) see(e *historypb.HistoryEvent) (more bool) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		a := e.GetWorkflowExecutionStartedEventAttributes()
		j.begun = a
		if a.GetTaskQueue().GetName() != j.queue || len(a.GetInput().GetPayloads()) > 0 {
			j.verdict = ours // or another queue's; the prototype's clients start it with no argument
		}
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		j.verdict = foreign
	case enumspb.EVENT_TYPE_MARKER_RECORDED, enumspb.EVENT_TYPE_TIMER_STARTED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
		j.verdict = ours
	case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
		j.answered = true
	}
	return j.verdict == unclear
}

// origin finds out who began a run, and how.
func (k *Keeper) origin(ctx context.Context, run *commonpb.WorkflowExecution) (origin, *historypb.WorkflowExecutionStartedEventAttributes, error) {
	j := judge{queue: k.TaskQueue}
	if err := k.history(ctx, run, j.see); err != nil || j.verdict != unclear || !j.answered {
		return j.verdict, j.begun, err
	}
	d, err := k.Temporal.DescribeWorkflowExecution(ctx, run.GetWorkflowId(), run.GetRunId())
	if err != nil {
		return unclear, nil, fmt.Errorf("look at %s: %w", run.GetWorkflowId(), err)
	}
	// A task under way for the first time may be ours, which has a long local activity to do.
	if task := d.GetPendingWorkflowTask(); task != nil && task.GetAttempt() < 2 {
		return unclear, nil, nil
	}
	return foreign, j.begun, nil
}

// signal is one that reached a run.
type signal struct {
	id    int64 // of its event
	name  string
	input *commonpb.Payloads
}

// estate is what a run leaves to the one in its place.
type estate struct {
	pending []signal
	// known are the events of all signals that were read. The last event would not tell: a task that is tried again
	// shows as events that are none yet, and whose numbers signals may get.
	known       map[int64]bool
	interrupted string // the activity that was under way and had begun to act; empty: none
}

// debt is what is still to be signalled to the run in place of one that was ended.
type debt struct {
	run     *commonpb.WorkflowExecution
	signals []signal
	known   map[int64]bool // events of the ended run's signals that were read
	to      string         // only to this run; empty: to the id's current run, or a new one
}

// take ends a run of another program and starts our intake with what that had not dealt with.
func (k *Keeper) take(ctx context.Context, run *commonpb.WorkflowExecution) error {
	left, err := k.read(ctx, run)
	if err != nil {
		return err
	}
	in, rest := input(left.pending)
	k.owed = append(k.owed, debt{run: run, signals: rest, known: left.known}) // before: an answer may be lost
	did, replaced, err := k.replace(ctx, run, preemption.WorkflowName, "In place of a run of another program, "+run.GetRunId(), in)
	if err != nil {
		return err
	}
	if !replaced {
		k.owed = k.owed[:len(k.owed)-1]
	}
	if did {
		k.took(Prototype, fmt.Sprintf("%s, which another program had begun (run %s), with %s that it had not handled",
			run.GetWorkflowId(), run.GetRunId(), shown.Count(len(left.pending), "request")), "workflow_id", run.GetWorkflowId(), "run_id", run.GetRunId())
	}
	if did && left.interrupted != "" {
		k.Log.Warn("the program before was interrupted while it acted: VMs may be off that do not carry the attribute, and are not restored",
			"workflow_id", run.GetWorkflowId(), "run_id", run.GetRunId(), "activity", left.interrupted,
			"remedy", "look at the run's history and at the VMs, and power on by hand what should be on")
	}
	return k.settle(ctx)
}

// settle passes on what did not travel with the start, and what reached the old run since it was read: that is in its
// history, which does not change any more. One that cannot be passed on now stays owed, and holds up no other.
func (k *Keeper) settle(ctx context.Context) error {
	var errs []error
	var still []debt
	for _, d := range k.owed {
		if err := k.pay(ctx, &d); err != nil {
			errs, still = append(errs, err), append(still, d)
		}
	}
	k.owed = still
	return errors.Join(errs...)
}

// pay passes one ended run's signals on.
func (k *Keeper) pay(ctx context.Context, d *debt) error {
	id, run := d.run.GetWorkflowId(), d.run.GetRunId()
	now, err := k.Temporal.DescribeWorkflowExecution(ctx, id, run)
	var gone *serviceerror.NotFound
	switch {
	case errors.As(err, &gone): // Temporal keeps it no longer: what was read is all that there will be
	case err != nil:
		return fmt.Errorf("look at run %s of %s: %w", run, id, err)
	case now.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return nil // it was not replaced after all
	default:
		err = k.history(ctx, d.run, func(e *historypb.HistoryEvent) bool {
			if s, ok := signalled(e); ok && !d.known[s.id] {
				d.known[s.id] = true
				d.signals = append(d.signals, s)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	for len(d.signals) > 0 {
		if err := k.pass(ctx, d.run, d.to, preemption.WorkflowName, d.signals[0]); err != nil {
			return err
		}
		d.signals = d.signals[1:]
	}
	return nil
}

// input is what our intake starts with, and what is to be signalled right behind it.
func input(pending []signal) (in intake.Input, rest []signal) {
	size := 0
	for i, s := range pending {
		m, ok := message(s)
		size += len(m.JSON)
		// What a start cannot carry is an array of alarm changes, or nothing at all: the intake says what it makes of it.
		if !ok || size > maxPending {
			return in, pending[i:]
		}
		in.Pending = append(in.Pending, m)
	}
	return in, nil
}

// message is a signal as an intake carries it; false: it cannot be carried so.
func message(s signal) (m intake.Message, ok bool) {
	payloads := s.input.GetPayloads()
	if len(payloads) == 0 || len(payloads[0].GetData()) > preemption.MaxRequestBytes ||
		string(payloads[0].GetMetadata()[converter.MetadataEncoding]) != converter.MetadataEncodingJSON {
		return m, false
	}
	m = intake.Message{Alarm: s.name == preemption.AlarmSignal, JSON: payloads[0].GetData()}
	return m, json.Valid(m.JSON) && (!m.Alarm || m.JSON[0] != '[')
}

// signalled returns the signal that an event records, if it is one for an intake.
func signalled(e *historypb.HistoryEvent) (s signal, ok bool) {
	a := e.GetWorkflowExecutionSignaledEventAttributes()
	s = signal{id: e.GetEventId(), name: a.GetSignalName(), input: a.GetInput()}
	return s, s.name == preemption.SignalChannel || s.name == preemption.AlarmSignal
}

// read finds out what a run of the prototype leaves.
func (k *Keeper) read(ctx context.Context, run *commonpb.WorkflowExecution) (estate, error) {
	var r reader
	err := k.history(ctx, run, func(e *historypb.HistoryEvent) bool {
		r.see(e)
		return true
	})
	return r.estate(), err
}
