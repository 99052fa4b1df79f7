package preempt

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
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
	// Settle sends nothing: it only tells what became of the targets, when an earlier call was cut short.
	Settle bool `json:"settle,omitempty"`
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
	stop := a.beat(ctx)
	defer stop()
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Settings.Timing.Outage)
	defer cancel()
	p := &powering{
		Activities: a, in: in, ctx: own, asked: ctx, repeated: in.Settle || activity.GetInfo(ctx).Attempt > 1,
		failures: map[vsphere.Ref]int{}, lost: map[vsphere.Ref]bool{}, byDRS: map[vsphere.Ref]bool{}, values: map[vsphere.Ref]string{},
	}
	return p.run()
}

// powering is one run of PowerOnVMs.
type powering struct {
	*Activities
	in       PowerOnInput
	ctx      context.Context // our own
	asked    context.Context // the activity's: tells whether we are cancelled
	repeated bool
	sent     bool // a power-on was sent in this run

	failures map[vsphere.Ref]int
	lost     map[vsphere.Ref]bool   // the answer to its power-on was lost: it may be under way
	byDRS    map[vsphere.Ref]bool   // DRS was told in this run to power it on
	values   map[vsphere.Ref]string // of the attributes, before we change them

	mu       sync.Mutex
	result   PowerOnResult
	recorded sync.WaitGroup
}

func (p *powering) run() (PowerOnResult, error) {
	todo, pause := p.in.Targets, p.Settings.Timing.Retry
	for len(todo) > 0 {
		left, err := p.pass(todo)
		if vcenter.KindOf(err).Outage() && !p.sent {
			p.recorded.Wait()
			return PowerOnResult{}, step.Typed(err) // Temporal waits the outage out, on whichever worker
		}
		if err != nil && !vcenter.KindOf(err).Outage() {
			p.settle(left, preemptapi.OutcomeNotRestored, err.Error())
			break
		}
		if todo = left; len(todo) == 0 {
			break
		}
		if !clock.Sleep(p.ctx, pause) {
			p.settle(todo, preemptapi.OutcomeNotRestored, "vCenter stayed away")
			break
		}
		pause = min(2*pause, time.Minute)
	}
	p.recorded.Wait()
	place := make(map[vsphere.Ref]int, len(p.in.Targets))
	for i, t := range p.in.Targets {
		place[t.Ref] = i
	}
	slices.SortFunc(p.result.VMs, func(a, b preemptapi.RestoredVM) int { return place[a.Ref] - place[b.Ref] }) // not as they came
	return p.result, nil
}

// pass looks at all that is left, powers on those that are off and waits; it returns what is undecided.
func (p *powering) pass(todo []policy.Return) ([]policy.Return, error) {
	if !p.sent && p.asked.Err() != nil && !step.Cancelled(p.asked) {
		return todo, &vcenter.Error{Op: "hand over", Object: p.in.RestoreID, Kind: vcenter.Unavailable, Err: context.Cause(p.asked)}
	}
	ready, err := p.check(todo)
	if err != nil {
		return todo, err
	}
	if p.in.Settle || step.Cancelled(p.asked) || time.Since(p.in.PlannedAt) > p.Settings.Timing.StalePlan {
		ready = p.begun(ready) // the others were not sent, and are not
		return nil, p.await(ready)
	}
	if ready, err = p.clearNotices(ready); err != nil || len(ready) == 0 {
		return ready, err
	}
	return p.powerOn(ready)
}

// check settles who needs nothing any more, or must be left alone, and returns those that are off.
func (p *powering) check(todo []policy.Return) (ready []policy.Return, err error) {
	var now map[vsphere.Ref]vsphere.VM
	err = p.attempt(p.ctx, func() (err error) {
		if now, err = p.VCenter.State(p.ctx, p.in.Tag, returnRefs(todo)); err != nil {
			return err
		}
		p.values, err = p.VCenter.Annotations(p.ctx, returnRefs(todo), preemption.AttributeKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	var on []policy.Return
	for _, t := range todo {
		vm, ok := now[t.Ref]
		attr, done := p.attribute(t.Ref)
		switch {
		case !ok:
			p.settle([]policy.Return{t}, preemptapi.OutcomeLeft, string(policy.Gone))
		case t.InstanceUUID != "" && vm.InstanceUUID != t.InstanceUUID:
			p.logger(p.asked).Warn("a MoRef is of another VM than when the restore was planned: was vCenter restored from a backup?", "vm", t.Name, "moref", t.Ref.Value)
			p.settle([]policy.Return{t}, preemptapi.OutcomeLeft, string(policy.OtherInstance))
		case done:
			p.decide(preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, OnAt: attr.RestoredAt, Annotated: true})
		case vm.PowerState == vsphere.PoweredOn:
			on = append(on, t)
		case !attr.Preempted:
			p.settle([]policy.Return{t}, preemptapi.OutcomeLeft, string(policy.AttributeChanged))
		case !vm.Tagged && !p.sent:
			p.settle([]policy.Return{t}, preemptapi.OutcomeLeft, string(policy.Untagged))
		default:
			ready = append(ready, t)
		}
	}
	return ready, p.attributeOn(on)
}

// begun returns those that may be coming on by what was sent: by this run, or by one before a crash.
func (p *powering) begun(ready []policy.Return) (begun []policy.Return) {
	if p.sent || p.repeated {
		return ready
	}
	return nil
}

// clearNotices removes what is left of notices: a guest that reads one when it starts may shut down again.
// Who cannot be cleared is not powered on.
func (p *powering) clearNotices(ready []policy.Return) (clear []policy.Return, err error) {
	refs := returnRefs(ready)
	failed := map[vsphere.Ref]error{}
	for _, key := range []string{noticeKey, replyKey} {
		var values map[vsphere.Ref]string
		err := p.attempt(p.ctx, func() (err error) {
			values, err = p.VCenter.GuestInfo(p.ctx, refs, key)
			return err
		})
		if err != nil {
			return ready, err
		}
		empty := map[vsphere.Ref]string{}
		for ref := range values {
			empty[ref] = ""
		}
		for ref, err := range p.VCenter.SetGuestInfos(p.ctx, key, empty) {
			failed[ref] = err
		}
	}
	for _, t := range ready {
		switch err := failed[t.Ref]; {
		case err == nil:
			clear = append(clear, t)
		case vcenter.KindOf(err).Outage():
			return ready, err
		default:
			p.settle([]policy.Return{t}, preemptapi.OutcomeNotRestored, "its notice could not be cleared: "+err.Error())
		}
	}
	return clear, nil
}

// powerOn powers the VMs on and waits for them; it returns what to look at again.
func (p *powering) powerOn(ready []policy.Return) (left []policy.Return, err error) {
	if step.Cancelled(p.asked) {
		return nil, nil
	}
	p.sent = true
	var waits []vcenter.Wait
	var waiting []policy.Return
	started := p.VCenter.PowerOnMany(p.ctx, returnRefs(ready))
	for _, t := range ready {
		s := started[t.Ref]
		p.placed(t.Ref, s)
		if s.Err == nil || vcenter.KindOf(s.Err) == vcenter.Busy && (p.repeated || p.lost[t.Ref]) {
			waits = append(waits, vcenter.Wait{VM: t.Ref, Task: s.Task})
			waiting = append(waiting, t)
			continue
		}
		if vcenter.KindOf(s.Err).Outage() {
			err, p.lost[t.Ref] = s.Err, true
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
	ctx, cancel := context.WithTimeout(p.ctx, min(p.in.Timeout.D(), 5*p.Settings.Timing.Retry))
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
	ctx, cancel := context.WithTimeout(p.ctx, p.in.Timeout.D())
	defer cancel()
	err := p.VCenter.AwaitOn(ctx, waits, func(ref vsphere.Ref, r vcenter.WaitResult) {
		t := open[ref]
		delete(open, ref)
		switch {
		case r.Gone:
			p.settle([]policy.Return{t}, preemptapi.OutcomeLeft, string(policy.Gone))
		case r.On && r.ByTask:
			p.claim(t, time.Now())
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
			p.settle([]policy.Return{t}, preemptapi.OutcomeNotRestored, p.silent(t.Ref))
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
	p.failures[t.Ref]++
	n := p.failures[t.Ref]
	switch {
	case kind == vcenter.NoRoom:
		p.settle([]policy.Return{t}, preemptapi.OutcomeLeft, string(policy.NoHost))
		return false
	case kind == vcenter.InvalidState && n == 1, kind.Retryable() && n < step.Tries:
		return true
	}
	p.settle([]policy.Return{t}, preemptapi.OutcomeNotRestored, err.Error())
	return false
}

// claim records a VM that we powered on, in its attribute too.
func (p *powering) claim(t policy.Return, at time.Time) {
	vm := preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, OnAt: at.UTC()}
	value, err := p.restored(t.Ref, vm.OnAt)
	p.recorded.Go(func() {
		if err == nil {
			err = p.attemptThrough(p.ctx, func() error { return p.VCenter.Annotate(p.ctx, t.Ref, preemption.AttributeKey, value) })
		}
		vm.Annotated = err == nil
		p.preempted.changed.Store(true)
		if err != nil {
			vm.AnnotationError = err.Error()
		}
		p.decide(vm)
	})
}

// restored is the attribute of a VM that came back: what was there, whoever wrote it, and by what and when it
// was restored.
func (p *powering) restored(ref vsphere.Ref, at time.Time) (string, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(p.values[ref]), &fields); err != nil {
		fields = map[string]json.RawMessage{} // somebody changed it a moment ago
	}
	for key, value := range map[string]any{
		"preempted": false, "restored": true, "restoredAt": at, "restoredBy": p.in.By, "restoreID": p.in.RestoreID,
	} {
		b, err := json.Marshal(value)
		if err != nil {
			return "", err
		}
		fields[key] = b
	}
	b, err := json.Marshal(fields)
	return string(b), err
}

func (p *powering) settle(targets []policy.Return, what, reason string) {
	for _, t := range targets {
		p.decide(preemptapi.RestoredVM{Return: t, Outcome: what, Reason: reason})
	}
}

func (p *powering) decide(vm preemptapi.RestoredVM) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.VMs = append(p.result.VMs, vm)
	p.logger(p.asked).Info("decided", "alarm", p.in.By, "vm", vm.Name, "moref", vm.Ref.Value, "outcome", vm.Outcome, "reason", vm.Reason, "annotated", vm.Annotated)
}

func returnRefs(list []policy.Return) []vsphere.Ref {
	refs := make([]vsphere.Ref, 0, len(list))
	for _, t := range list {
		refs = append(refs, t.Ref)
	}
	return refs
}
