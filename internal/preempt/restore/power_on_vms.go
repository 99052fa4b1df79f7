package restore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// PowerOnInput asks for one wave to be powered on.
type PowerOnInput struct {
	RestoreID string          `json:"restoreID"`
	By        string          `json:"by"`
	Tag       string          `json:"tag"`
	Targets   []policy.Return `json:"targets"`
	Timeout   clock.Duration  `json:"timeout"`   // of one power-on
	PlannedAt time.Time       `json:"plannedAt"` // what was planned too long ago is left to a new plan
	// OnlyLook sends nothing: it only tells what became of the targets, when an earlier call was cut short.
	OnlyLook bool `json:"settle,omitempty"`
}

// PowerOnResult is what became of the targets. Of those it does not name nothing was sent.
type PowerOnResult struct {
	VMs []preemptapi.RestoredVM `json:"vms"`
}

// PowerOnVMs clears what is left of notices, powers the targets on where DRS finds room for them, waits until
// vCenter says that they are on, and writes so into their attributes.
//
// From the first call that powers on it works on a context of its own: a cancellation keeps back what was not
// yet sent, and a stopping worker or lost heartbeats interrupt nothing. It may be repeated after a crash at
// any instant: a VM found on then is ours only if vCenter's events name us and nobody else.
func (a *Activities) PowerOnVMs(ctx context.Context, in PowerOnInput) (PowerOnResult, error) {
	run, end := a.Change(ctx, in.RestoreID, in.OnlyLook)
	defer end()
	p := &powering{Changing: run, Activities: a, in: in, byDRS: map[vsphere.Ref]bool{}, values: map[vsphere.Ref]string{}}
	err := preempt.UntilDecided(run, in.Targets, p.pass, p.giveUp)
	p.recorded.Wait()
	if err != nil {
		return PowerOnResult{}, err
	}
	place := make(map[vsphere.Ref]int, len(in.Targets))
	for i, t := range in.Targets {
		place[t.Ref] = i
	}
	slices.SortFunc(p.result.VMs, func(a, b preemptapi.RestoredVM) int { return place[a.Ref] - place[b.Ref] }) // not as they came
	return p.result, nil
}

// powering is one run of PowerOnVMs.
type powering struct {
	*preempt.Changing
	*Activities
	in PowerOnInput

	byDRS  map[vsphere.Ref]bool   // DRS was told in this run to power it on
	values map[vsphere.Ref]string // of the attributes, before we change them

	mu       sync.Mutex
	result   PowerOnResult
	recorded sync.WaitGroup
}

// giveUp ends the VMs that are left.
func (p *powering) giveUp(left []policy.Return, err error) {
	reason := "vCenter stayed away"
	if err != nil && !vcenter.KindOf(err).Outage() {
		reason = err.Error()
	}
	p.decideAll(left, preemptapi.OutcomeNotRestored, policy.InWords(reason))
}

// pass looks at all that is left, powers on those that are off and waits; it returns what is undecided.
func (p *powering) pass(todo []policy.Return) ([]policy.Return, error) {
	ready, err := p.check(todo)
	if err != nil {
		return todo, err
	}
	if p.in.OnlyLook || p.Cancelled() || time.Since(p.in.PlannedAt) > p.Settings.Timing.StalePlan {
		ready = p.maybeStarted(ready) // the others were not sent, and are not
		return nil, p.await(ready)
	}
	ready, again, err := p.clearNotices(ready)
	if err != nil || len(ready) == 0 {
		return append(ready, again...), err
	}
	left, err := p.powerOn(ready)
	return append(left, again...), err
}

// powerOn powers the VMs on and waits for them; it returns what to look at again.
func (p *powering) powerOn(ready []policy.Return) (left []policy.Return, err error) {
	if p.Cancelled() {
		return nil, nil
	}
	p.Sent = true
	var waits []vcenter.Wait
	var waiting []policy.Return
	started := p.VCenter.PowerOnMany(p.Ctx, returnRefs(ready))
	for _, t := range ready {
		s := started[t.Ref]
		p.noteDRS(t.Ref, s)
		if s.Err == nil || vcenter.KindOf(s.Err) == vcenter.Busy && (p.Repeated || p.Lost[t.Ref]) {
			waits = append(waits, vcenter.Wait{VM: t.Ref, Task: s.Task})
			waiting = append(waiting, t)
			continue
		}
		if vcenter.KindOf(s.Err).Outage() {
			err, p.Lost[t.Ref] = s.Err, true
		}
		if p.failed(t, s.Err) {
			left = append(left, t)
		}
	}
	again := func(t policy.Return) { left = append(left, t) }
	if waitErr := p.awaitAll(waiting, waits, again); waitErr != nil {
		err = errors.Join(err, waitErr)
	}
	return left, err
}

// await waits for what may be under way, and settles who came on. The others stay undecided: they are off.
func (p *powering) await(begun []policy.Return) error {
	if len(begun) == 0 {
		return nil
	}
	// A power-on of before a crash names no task any more: it is given a moment.
	ctx, cancel := context.WithTimeout(p.Ctx, min(p.in.Timeout.D(), 5*p.Settings.Timing.Retry))
	defer cancel()
	var waits []vcenter.Wait
	for _, t := range begun {
		waits = append(waits, vcenter.Wait{VM: t.Ref})
	}
	var on []policy.Return
	_ = p.VCenter.AwaitOn(ctx, waits, func(ref vsphere.Ref, r vcenter.WaitResult) {
		for _, t := range begun {
			if t.Ref == ref && r.On {
				on = append(on, t)
			}
		}
	})
	return p.attributeOn(on)
}

// awaitAll waits until the VMs are on, and claims those that our tasks powered on.
func (p *powering) awaitAll(waiting []policy.Return, waits []vcenter.Wait, again func(policy.Return)) error {
	if len(waits) == 0 {
		return nil
	}
	open := map[vsphere.Ref]policy.Return{}
	for _, t := range waiting {
		open[t.Ref] = t
	}
	ctx, cancel := context.WithTimeout(p.Ctx, p.in.Timeout.D())
	defer cancel()
	err := p.VCenter.AwaitOn(ctx, waits, func(ref vsphere.Ref, r vcenter.WaitResult) {
		t := open[ref]
		delete(open, ref)
		switch {
		case r.Gone:
			p.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, policy.Because(policy.Gone))
		case r.On && r.ByTask:
			p.claimOn(t, time.Now())
		case r.On:
			again(t) // by whom, vCenter's events tell
		default:
			if p.failed(t, r.Err) {
				again(t)
			}
		}
	})
	for _, t := range waiting {
		if _, still := open[t.Ref]; still {
			p.notRestored(t, p.timeoutReason(t.Ref), true)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// failed counts a failure of one VM; it returns true while another attempt is due.
func (p *powering) failed(t policy.Return, err error) (again bool) {
	kind := vcenter.KindOf(err)
	if kind.Outage() {
		return true
	}
	p.Failures[t.Ref]++
	n := p.Failures[t.Ref]
	switch {
	case kind == vcenter.NoRoom:
		p.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, policy.Because(policy.NoHost))
		return false
	case kind == vcenter.InvalidState && n == 1, kind.Retryable() && n < step.Tries:
		return true
	}
	p.notRestored(t, err.Error(), kind.Retryable())
	return false
}

// noteDRS notes what DRS powers on: vCenter then names no task, and the VM goes on some time later.
func (p *powering) noteDRS(ref vsphere.Ref, s vcenter.Started) {
	if s.Err == nil && s.Task.Zero() {
		p.byDRS[ref] = true
	}
}

// timeoutReason is why a VM has failed of which vCenter did not say in time that it is on.
func (p *powering) timeoutReason(ref vsphere.Ref) string {
	if p.byDRS[ref] {
		return "DRS did not power it on within " + p.in.Timeout.String() + ": look at the faults and recommendations of DRS"
	}
	return "vCenter did not say within " + p.in.Timeout.String() + " that it is on: look at its power-on task"
}
