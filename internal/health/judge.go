package health

import (
	"context"
	"fmt"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
)

// replyActivity delivers a reply. An address that does not answer delays nothing else.
const replyActivity = "SendPreemptedEvent"

// outages are the types of the errors by which an activity waits for vCenter: the kinds of vcenter that are an
// outage, which a test compares.
var outages = []string{"Unavailable", "Credentials", "InvalidLogin", "Certificate"}

// judge adds to the report what is wrong with one open workflow.
func (l *Looker) judge(ctx context.Context, r *Report, d *workflowservice.DescribeWorkflowExecutionResponse, polled func() bool) {
	info := d.GetWorkflowExecutionInfo()
	s := Stall{WorkflowID: info.GetExecution().GetWorkflowId(), RunID: info.GetExecution().GetRunId(), Type: info.GetType().GetName()}
	if l.judgeTask(&s, d.GetPendingWorkflowTask(), polled) {
		if s.Kind == TaskFails {
			cause, since := l.cause(ctx, s.WorkflowID, s.RunID)
			if s.Cause = cause; !since.IsZero() {
				s.Since = since // the task is due again at each attempt
				if l.now().Sub(since) < l.Limits.TaskAge {
					return
				}
			}
		}
		s.Remedy = remedyFor(s.Kind, s.WorkflowID)
		r.Stalled = append(r.Stalled, s)
		return
	}
	for _, p := range d.GetPendingActivities() {
		one := s
		switch stalled, waits := l.judgeStep(&one, p, polled); {
		case stalled:
			one.Remedy = remedyFor(one.Kind, one.WorkflowID)
			r.Stalled = append(r.Stalled, one)
			return
		case waits:
			r.Waiting = append(r.Waiting, one)
		}
	}
}

// judgeTask judges a workflow's pending workflow task.
func (l *Looker) judgeTask(s *Stall, task *workflowpb.PendingWorkflowTaskInfo, polled func() bool) bool {
	if task == nil {
		return false
	}
	s.Attempts, s.Since = task.GetAttempt(), earliest(task.GetOriginalScheduledTime(), task.GetScheduledTime(), task.GetStartedTime())
	age := l.now().Sub(s.Since)
	waits := task.GetState() == enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
	switch {
	case s.Since.IsZero():
		return false
	case task.GetAttempt() >= l.Limits.Attempts:
		s.Kind = TaskFails
	case waits && l.now().Sub(task.GetScheduledTime().AsTime()) >= l.Limits.Taken && polled():
		s.Kind, s.Cause = NotTaken, "its task waits, though workers poll the task queue"
	case !waits && age >= l.Limits.Hanging:
		s.Kind, s.Cause = TaskHangs, "a local activity of it does not come to an end"
	default:
		return false
	}
	return true
}

// judgeStep judges a pending activity: stalled, or waiting for vCenter.
func (l *Looker) judgeStep(s *Stall, p *workflowpb.PendingActivityInfo, polled func() bool) (stalled, waits bool) {
	kind, failure := p.GetActivityType().GetName(), p.GetLastFailure()
	first, known := firstDue(p)
	s.Attempts, s.Since = p.GetAttempt(), first
	if kind == watchapi.ActivityType {
		if stalled, waits = l.judgeWatch(s, p); stalled || waits {
			return stalled, waits
		}
	}
	// Between two attempts the scheduled time is that of the next.
	if next := p.GetScheduledTime(); p.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED && next != nil &&
		l.now().Sub(next.AsTime()) >= l.Limits.Taken && p.GetAttempt() <= 1 && polled() {
		s.Kind, s.Cause = StepNotTaken, "activity "+kind+" waits, though workers poll the task queue"
		return true, false
	}
	if failure == nil || p.GetAttempt() < l.Limits.StepAttempts {
		return false, false
	}
	s.Kind, s.Cause = StepFails, "activity "+kind+": "+bounded(failure.GetMessage())
	if kind == replyActivity || slices.Contains(outages, failure.GetApplicationFailureInfo().GetType()) {
		return false, true
	}
	if !known {
		return p.GetAttempt() >= 3*l.Limits.StepAttempts, false
	}
	return l.now().Sub(first) >= l.Limits.StepAge, false
}

// firstDue returns when an activity was first due. The server reports the last attempt, and when all attempts must be
// over. known is false if the first time does not follow from that.
func firstDue(p *workflowpb.PendingActivityInfo) (at time.Time, known bool) {
	if all := p.GetActivityOptions().GetScheduleToCloseTimeout().AsDuration(); all > 0 && p.GetExpirationTime() != nil {
		return p.GetExpirationTime().AsTime().Add(-all), true
	}
	return earliest(p.GetScheduledTime(), p.GetLastStartedTime()), false
}

// judgeWatch judges the last heartbeat of the watch's activity.
func (l *Looker) judgeWatch(s *Stall, p *workflowpb.PendingActivityInfo) (stalled, waits bool) {
	var c watchapi.Checkpoint
	if beat := p.GetHeartbeatDetails(); beat == nil || converter.GetDefaultDataConverter().FromPayloads(beat, &c) != nil {
		return false, false
	}
	if c.Trouble == "" {
		return l.judgeAside(s, c), false
	}
	s.Kind, s.Since, s.Cause = Trouble, c.Since.UTC(), bounded(c.Trouble)
	if c.Away {
		return false, true
	}
	return l.now().Sub(c.Since) >= l.Limits.Troubled, false
}

// judgeAside judges events that the watch could not hand over: alarms on which nobody acts.
func (l *Looker) judgeAside(s *Stall, c watchapi.Checkpoint) (stalled bool) {
	for _, a := range c.Aside {
		if l.now().Sub(a.Since) < l.Limits.Troubled || a.Since.IsZero() {
			continue
		}
		if !stalled || a.Since.Before(s.Since) {
			s.Kind, s.Since = Trouble, a.Since.UTC()
			s.Cause = bounded(fmt.Sprintf("%d event(s) cannot be handed over; %s, tried %d times: %s", c.AsideCount, a.Event, a.Tries, a.Reason))
		}
		stalled = true
	}
	return stalled
}

// earliest returns the first of the times that are known.
func earliest(times ...*timestamppb.Timestamp) (first time.Time) {
	for _, t := range times {
		if t == nil || t.GetSeconds() <= 0 {
			continue
		}
		if at := t.AsTime(); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}
