package takeover

import (
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// lookActivity is the prototype's first step of a run: it only reads vCenter. All others of its steps act, or come after
// what acted.
const lookActivity = "GetPreemptibleVMs"

// reader goes through a history of the prototype, and tells what it had dealt with from what it had not.
//
// The prototype takes one signal after the other. What was delivered to it, in a workflow task that it completed, it has
// dealt with: it ran, or skipped the request for the run before. Except for a run that had only begun to look: that one
// acted on nothing, and what it was for is still to be done.
type reader struct {
	signals   []signal
	last      int64           // event
	delivered int64           // the last event that a completed workflow task was given
	tasks     map[int64]int64 // completed workflow task → the last event that it was given
	steps     []step          // the activities, in their order
	cancelled int64           // event of the cancel request; 0: none
}

// step is an activity of the prototype.
type step struct {
	kind   string
	id     int64 // event of its scheduling
	given  int64 // the last event that the workflow had been given when it scheduled it
	closed int64 // event of its end; 0: under way
}

// open reports whether the workflow had not been given the step's end.
func (r *reader) open(s step) bool { return s.closed == 0 || s.closed > r.delivered }

func (r *reader) see(e *historypb.HistoryEvent) {
	r.last = e.GetEventId()
	if s, ok := signalled(e); ok {
		r.signals = append(r.signals, s)
		return
	}
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
		if r.tasks == nil {
			r.tasks = map[int64]int64{}
		}
		r.delivered = e.GetWorkflowTaskCompletedEventAttributes().GetStartedEventId()
		r.tasks[e.GetEventId()] = r.delivered
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		r.cancelled = e.GetEventId()
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		a := e.GetActivityTaskScheduledEventAttributes()
		r.steps = append(r.steps, step{kind: a.GetActivityType().GetName(), id: e.GetEventId(), given: r.tasks[a.GetWorkflowTaskCompletedEventId()]})
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		r.close(e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		r.close(e.GetActivityTaskFailedEventAttributes().GetScheduledEventId())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		r.close(e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
		r.close(e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId())
	}
}

func (r *reader) close(scheduled int64) {
	for i := len(r.steps) - 1; i >= 0; i-- {
		if r.steps[i].id == scheduled {
			r.steps[i].closed = r.last
			return
		}
	}
}

// estate says what is left to do.
func (r *reader) estate() estate {
	e := estate{known: map[int64]bool{}}
	after := r.delivered
	if n := len(r.steps); n > 0 && r.open(r.steps[n-1]) {
		if last := r.steps[n-1]; last.kind == lookActivity {
			after = r.before(n - 1)
		} else {
			e.interrupted = last.kind
		}
	}
	for _, s := range r.signals {
		e.known[s.id] = true
		// An alarm change is a signal that the prototype does not know: none was dealt with. What was cancelled is over.
		if (s.id > after || s.name == preemption.AlarmSignal) && s.id > r.cancelled {
			e.pending = append(e.pending, s)
		}
	}
	return e
}

// before returns the event after which the requests of a run begin that is only looking: what had been delivered when
// the run before began, and where nothing came since, all but the last of that.
func (r *reader) before(look int) (after int64) {
	for _, s := range r.steps[:look] {
		if s.kind == lookActivity {
			after = s.given
		}
	}
	newest := int64(0)
	for _, s := range r.signals {
		if s.name == preemption.SignalChannel && s.id < r.steps[look].id {
			newest = s.id
		}
	}
	if newest > 0 && newest <= after {
		return newest - 1
	}
	return after
}
