package preempt

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// powerOff cuts the power of all, or suspends them where that is the action, five calls at a time, waits for them together, and annotates each when
// it is off by its task. What went off otherwise, or did not go off in time, is left to the next check.
func (e *eviction) powerOff(ready []ActTarget, reason string) (left []ActTarget, err error) {
	off := e.VCenter.PowerOff
	if e.in.Action == policy.ActionSuspend {
		off = e.VCenter.Suspend
	}
	waits, left, err := e.send(ready, func(t ActTarget) (policy.Ref, error) { return off(e.ctx, t.Ref) })
	if len(waits) == 0 {
		return left, err
	}
	byRef := map[policy.Ref]ActTarget{}
	for _, t := range ready {
		byRef[t.Ref] = t
	}
	open := map[policy.Ref]bool{}
	for _, w := range waits {
		open[w.VM] = true
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.in.Policy.PowerOffTimeout.D())
	defer cancel()
	waitErr := e.VCenter.AwaitOff(ctx, waits, func(ref policy.Ref, r vcenter.WaitResult) {
		delete(open, ref)
		if again := e.offOrAgain(byRef[ref], r, reason); again {
			left = append(left, byRef[ref])
		}
	})
	for _, t := range ready {
		if open[t.Ref] {
			e.overdue[t.Ref] = e.tooLate(waitErr)
			left = append(left, t)
		}
	}
	return left, err
}

// tooLate says why a power-off that was sent counts as failed where the VM is still on.
func (e *eviction) tooLate(waitErr error) string {
	text := "vCenter did not say within " + e.in.Policy.PowerOffTimeout.String() + " that it is off: look at its power-off task"
	if waitErr != nil && !errors.Is(waitErr, context.DeadlineExceeded) {
		text += ": " + waitErr.Error()
	}
	return text
}

// offOrAgain takes the end of one wait: off by our task, gone, or to be looked at again.
func (e *eviction) offOrAgain(t ActTarget, r vcenter.WaitResult, reason string) (again bool) {
	switch {
	case r.Gone:
		e.settle([]ActTarget{t}, OutcomeSpared, string(policy.Gone))
	case r.Off && !r.ByTask:
		return true // by whom, vCenter's events tell
	case r.Off:
		o := outcome(t, OutcomePoweredOff)
		if !t.SentAt.IsZero() || reason != "" {
			o.Outcome = OutcomeForced
		}
		o.Reason, o.Forced, o.OffAt = reason, true, time.Now().UTC()
		if e.in.Action == policy.ActionSuspend {
			o.Outcome, o.Forced = OutcomeSuspended, false
		}
		e.annotates.Go(func() { e.decide(e.annotate(e.ctx, o, e.in.Attribute, e.in.Asked)) })
	default:
		return e.failed(t, r.Err)
	}
	return false
}

// attributeOff settles targets that were found off. Before anything was sent they were turned off by
// somebody else; later, or after a crash, vCenter's events tell.
func (e *eviction) attributeOff(off []ActTarget) error {
	var unsure []ActTarget
	for _, t := range off {
		if !e.repeated && !e.touched && t.SentAt.IsZero() {
			e.settle([]ActTarget{t}, OutcomeAlreadyOff, "")
			continue
		}
		unsure = append(unsure, t)
	}
	if len(unsure) == 0 {
		return nil
	}
	found, err := e.evidence(e.ctx, unsure, e.since(unsure))
	if vcenter.KindOf(err).Outage() {
		return err
	}
	for _, t := range unsure {
		ev, ok := found[t.Ref]
		switch {
		case err != nil:
			e.settle([]ActTarget{t}, OutcomeUnattributed, err.Error())
		case ok && ev.Ours:
			e.claim(t, ev.User != "", ev.Time)
		case ok:
			e.settle([]ActTarget{t}, OutcomeAlreadyOff, offBy(ev))
		default:
			e.settle([]ActTarget{t}, OutcomeUnattributed, "")
		}
	}
	return nil
}

// evidence looks up who turned the VMs off. vCenter's events may come a moment after the state that they
// tell of, so that it looks again for those it finds none of.
func (a *Activities) evidence(ctx context.Context, targets []ActTarget, since time.Time) (found map[policy.Ref]vcenter.Evidence, err error) {
	for range step.Tries {
		err = a.attempt(ctx, func() (err error) {
			found, err = a.VCenter.PowerOffEvidence(ctx, refs(targets), since)
			return err
		})
		if err != nil || len(found) == len(targets) || !step.Sleep(ctx, a.Settings.Timing.Retry) {
			return found, err
		}
	}
	return found, nil
}

func offBy(ev vcenter.Evidence) string {
	if ev.User == "" {
		return "its guest went off by itself"
	}
	return "turned off by " + clip(ev.User)
}

// since is when evidence begins: well before the first thing that this round can have sent, for clocks
// differ. The latest power-off of a VM counts, and it was on when it was planned.
func (e *eviction) since(targets []ActTarget) time.Time {
	begin := activity.GetInfo(e.asked).ScheduledTime
	for _, t := range targets {
		if !t.SentAt.IsZero() && t.SentAt.Before(begin) {
			begin = t.SentAt
		}
	}
	return begin.Add(-2 * time.Hour)
}

// claim records a VM that is ours and off, and annotates it. cut: its power was cut, not its guest shut down.
func (e *eviction) claim(t ActTarget, cut bool, at time.Time) {
	o := outcome(t, OutcomeShutDown)
	o.OffAt, o.Forced = at.UTC(), cut
	switch {
	case cut && e.in.Action == policy.ActionSuspend:
		o.Outcome, o.Forced = OutcomeSuspended, false
	case cut && e.in.Action == policy.ActionShutdownGuest:
		o.Outcome, o.Reason = OutcomeForced, ReasonForcedNoTools
	case cut && !t.SentAt.IsZero():
		o.Outcome = OutcomeForced
	case cut:
		o.Outcome = OutcomePoweredOff
	}
	e.annotates.Go(func() { e.decide(e.annotate(e.ctx, o, e.in.Attribute, e.in.Asked)) })
}

// annotate writes the attribute of a VM that is off. Its failure is part of the outcome.
func (a *Activities) annotate(ctx context.Context, o VMOutcome, attr Attribute, asked time.Time) VMOutcome {
	attr.Preempted, attr.ForcedShutdown, attr.Outcome, attr.PreemptedAt = true, o.Forced, o.Outcome, o.OffAt
	attr.InstanceUUID, attr.CPUMHz, attr.MemoryMB = o.InstanceUUID, o.CPUMHz, o.MemoryMB
	value, err := json.Marshal(attr)
	if err == nil {
		err = a.attemptThrough(ctx, func() error { return a.VCenter.Annotate(ctx, o.Ref, preemption.AttributeKey, string(value)) })
	}
	if err != nil {
		o.AnnotationError = err.Error()
		return o
	}
	o.Annotated = true
	a.reclaimed(ctx, o, asked)
	return o
}

// attemptThrough is attempt for work that is already ours to finish: an outage is waited out here.
func (a *Activities) attemptThrough(ctx context.Context, f func() error) error {
	pause := a.Settings.Timing.Retry
	for {
		err := a.attempt(ctx, f)
		if err == nil || !vcenter.KindOf(err).Outage() || !step.Sleep(ctx, pause) {
			return err
		}
		pause = min(2*pause, 10*time.Second)
	}
}
