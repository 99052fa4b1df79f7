package round

import (
	"sync"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// send calls f for every target at once, within the gateway's limit, until the round is withdrawn. It
// returns what to wait for and what to try again.
func (e *eviction) send(ready []ActTarget, f func(ActTarget) (vsphere.Ref, error)) (waits []vcenter.Wait, left []ActTarget, outage error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	gate := make(chan struct{}, sendAtOnce)
	for _, t := range ready {
		gate <- struct{}{}
		if e.Superseded() {
			<-gate
			mu.Lock()
			left = append(left, t)
			mu.Unlock()
			continue
		}
		if e.Cancelled() {
			<-gate
			e.decideAll([]ActTarget{t}, action.Spared, policy.Because(policy.Withdrawn))
			continue
		}
		e.Sent = true
		wg.Go(func() {
			defer func() { <-gate }()
			task, err := f(t)
			kind := vcenter.KindOf(err)
			mu.Lock()
			// A VM that is busy after a crash, or after a lost answer, is most likely in our own power-off of before.
			wait := err == nil || kind == vcenter.Busy && (e.Repeated || e.Lost[t.Ref])
			e.Lost[t.Ref] = kind.Outage()
			mu.Unlock()
			again := !wait && e.failed(t, err)
			mu.Lock()
			defer mu.Unlock()
			if wait {
				waits = append(waits, vcenter.Wait{VM: t.Ref, Task: task})
			}
			if again {
				left = append(left, t)
			}
			if kind.Outage() {
				outage = err
			}
		})
	}
	wg.Wait()
	return waits, left, outage
}

// sendAtOnce bounds the calls that one round has under way, so that a withdrawal finds targets that were
// not yet sent. The worker's own limit on vCenter calls holds besides.
const sendAtOnce = 5

// failed counts a failure of one VM; it returns true while another attempt is due.
func (e *eviction) failed(t ActTarget, err error) (again bool) {
	kind := vcenter.KindOf(err)
	if kind.Outage() {
		return true
	}
	e.mu.Lock()
	e.Failures[t.Ref]++
	n := e.Failures[t.Ref]
	e.toolless[t.Ref] = e.toolless[t.Ref] || kind == vcenter.ToolsUnavailable
	e.mu.Unlock()
	switch kind {
	case vcenter.ToolsUnavailable, vcenter.InvalidState: // it changed since it was checked
		again = n == 1
	case vcenter.NotFound:
		e.decideAll([]ActTarget{t}, action.Spared, policy.Because(policy.Gone))
		return false
	default:
		again = kind.Retryable() && n < step.Tries
	}
	if !again {
		e.decideAll([]ActTarget{t}, action.Failed, policy.InWords(err.Error()))
	}
	return again
}

func (e *eviction) giveUp(todo []ActTarget, err error) {
	reason := "vCenter stayed away"
	if err != nil {
		reason = err.Error()
	}
	e.decideAll(todo, action.Failed, policy.InWords(reason))
}

func (e *eviction) decideAll(targets []ActTarget, what action.Outcome, reason policy.Explanation) {
	for _, t := range targets {
		o := outcome(t, what)
		o.Reason = reason
		e.decide(o)
	}
}

func (e *eviction) decide(o preemptapi.VMOutcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.result.Outcomes = append(e.result.Outcomes, o)
	e.Logger(e.Asked).Info("decided", "alarm", e.in.Alarm, "vm", o.Name, "moref", o.Ref.Value, "outcome", o.Outcome, "reason", o.Reason.String(),
		"annotated", o.Annotated)
}

func outcome(t ActTarget, what action.Outcome) preemptapi.VMOutcome {
	return preemptapi.VMOutcome{
		Ref: t.Ref, Name: t.Name, Outcome: what, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host, InstanceUUID: t.InstanceUUID, Why: t.Why,
		Throttle: t.Throttle,
	}
}

func refs(targets []ActTarget) []vsphere.Ref {
	out := make([]vsphere.Ref, 0, len(targets))
	for _, t := range targets {
		out = append(out, t.Ref)
	}
	return out
}
