package round

import (
	"context"
	"errors"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// cut powers the targets off, or suspends them: it sends the action's call for each, five at a time, waits for them
// together, and annotates each when it is off by its task. A VM that went off otherwise, or did not go off in time, is left
// to the next check.
func (e *eviction) cut(ready []ActTarget, what action.Action, reason policy.Explanation) (left []ActTarget, err error) {
	waits, left, err := e.send(ready, func(t ActTarget) (vsphere.Ref, error) {
		task, err := e.VCenter.Cut(e.Ctx, what, t.Ref)
		return task, err
	})
	e.endTurn()
	if len(waits) == 0 {
		return left, err
	}
	byRef := map[vsphere.Ref]ActTarget{}
	for _, t := range ready {
		byRef[t.Ref] = t
	}
	open := map[vsphere.Ref]bool{}
	for i, w := range waits {
		waits[i].Action, open[w.VM] = what, true
	}
	ctx, cancel := context.WithTimeout(e.Ctx, e.in.Policy.PowerOffTimeout.D())
	defer cancel()
	waitErr := e.VCenter.AwaitOff(ctx, waits, func(ref vsphere.Ref, r vcenter.WaitResult) {
		delete(open, ref)
		if again := e.takeWaitResult(byRef[ref], r, reason); again {
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

// takeWaitResult takes the end of one wait: off by our task, gone, or to be looked at again.
func (e *eviction) takeWaitResult(t ActTarget, r vcenter.WaitResult, reason policy.Explanation) (again bool) {
	switch {
	case r.Gone:
		e.decideAll([]ActTarget{t}, action.Spared, policy.Because(policy.Gone))
	case r.Off && !r.ByTask:
		return true // by whom, vCenter's events tell
	case r.On:
		e.onAgain[t.Ref] = true
		return true // the same
	case r.Off:
		what, forced := e.in.Action.Cut(!t.SentAt.IsZero())
		o := outcome(t, what)
		o.Reason, o.Forced, o.OffAt = reason, forced, time.Now().UTC()
		e.annotates.Go(func() { e.decide(e.annotate(e.Ctx, o, e.in.Attribute, e.in.Asked)) })
	default:
		return e.failed(t, r.Err)
	}
	return false
}
