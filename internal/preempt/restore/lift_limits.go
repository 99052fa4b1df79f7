package restore

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// LiftLimits gives the targets back the CPU limit that their owners had set, or none, and writes so into their attributes. A limit
// that its owner has changed since is the owner's: it stays, and the attribute says so. VMs may be on or off. Of a VM that is off by
// our doing the attribute stays open otherwise.
//
// It may be repeated after a crash at any instant: the attribute is open until the VM has its own limit.
func (a *Activities) LiftLimits(ctx context.Context, in PowerOnInput) (PowerOnResult, error) {
	run, end := a.Change(ctx, in.RestoreID, in.OnlyLook)
	defer end()
	l := &lifting{powering: &powering{Changing: run, Activities: a, in: in, byDRS: map[vsphere.Ref]bool{}, values: map[vsphere.Ref]string{}}}
	err := preempt.UntilDecided(run, in.Targets, l.pass, l.giveUp)
	l.recorded.Wait()
	if err != nil {
		return PowerOnResult{}, err
	}
	return l.result, nil
}

// lifting is one run of LiftLimits.
type lifting struct{ *powering }

// liftsAtOnce bounds the calls under way. The worker's own limit on vCenter calls holds besides.
const liftsAtOnce = 5

// lift is a target as it is now.
type lift struct {
	policy.Return
	now    vcenter.CPULimit
	record preempt.Attribute
}

// pass looks at all that is left and takes their limits back; it returns what is undecided.
func (l *lifting) pass(todo []policy.Return) (left []policy.Return, err error) {
	ready, err := l.look(todo)
	if err != nil {
		return todo, err
	}
	if l.in.OnlyLook || l.Cancelled() {
		return nil, nil // the others are not sent
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	gate := make(chan struct{}, liftsAtOnce)
	for _, t := range ready {
		gate <- struct{}{}
		if l.Cancelled() || l.Superseded() {
			<-gate
			continue
		}
		l.Sent = true
		wg.Go(func() {
			defer func() { <-gate }()
			failure := l.takeBack(t)
			mu.Lock()
			defer mu.Unlock()
			if failure == nil {
				return
			}
			if vcenter.KindOf(failure).Outage() {
				err = failure
			}
			if l.failed(t.Return, failure) {
				left = append(left, t.Return)
			}
		})
	}
	wg.Wait()
	return left, err
}

// look settles whose limit is not ours any more, and returns the others.
func (l *lifting) look(todo []policy.Return) (ready []lift, err error) {
	var vms map[vsphere.Ref]vsphere.VM
	var limits map[vsphere.Ref]vcenter.CPULimit
	err = l.Attempt(l.Ctx, func() (err error) {
		if vms, err = l.VCenter.State(l.Ctx, "", returnRefs(todo)); err != nil {
			return err
		}
		if limits, err = l.VCenter.CPULimits(l.Ctx, returnRefs(todo)); err != nil {
			return err
		}
		l.values, err = l.VCenter.Annotations(l.Ctx, returnRefs(todo), preemption.AttributeKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, t := range todo {
		if limit := limits[t.Ref]; l.ours(t, vms, limit) {
			attr, _ := l.record(t.Ref)
			ready = append(ready, lift{t, limit, attr})
		}
	}
	return ready, nil
}

// ours reports whether the VM has a limit to take back, and decides about it if not.
func (l *lifting) ours(t policy.Return, vms map[vsphere.Ref]vsphere.VM, limit vcenter.CPULimit) bool {
	vm, there := vms[t.Ref]
	attr, done := l.record(t.Ref)
	switch {
	case !there:
		l.left(t, policy.Gone)
	case t.InstanceUUID != "" && vm.InstanceUUID != t.InstanceUUID:
		l.left(t, policy.OtherInstance)
	case done && attr.Throttle.EndedAs(policy.ThrottleLifted):
		l.decide(preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, Reason: policy.InWords(limitBack), OnAt: attr.RestoredAt, Annotated: true})
	case attr.Throttle.EndedAs(policy.ThrottleChanged):
		l.left(t, policy.LimitChanged)
	case !attr.Throttle.Open():
		l.left(t, policy.AttributeChanged)
	case !limit.Known:
		l.notRestored(t, policy.LimitUnseen.Explain(), true)
	case attr.Throttle.Active(limit.MHz), limit.MHz == attr.Throttle.WasMHz:
		return true
	case !l.in.OnlyLook && !l.Cancelled():
		l.end(t, policy.ThrottleChanged)
	}
	return false
}

func (l *lifting) left(t policy.Return, reason policy.Reason) {
	l.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, policy.Because(reason))
}

const limitBack = "its CPU limit is as it was"

// takeBack gives one VM its own limit back. It is set although the VM has it, as when the worker that throttled it died before it
// did so: vCenter refuses that while an earlier change of ours is held up, which would come after it.
func (l *lifting) takeBack(t lift) error {
	ctx, cancel := context.WithTimeout(l.Ctx, max(l.in.Timeout.D(), l.Settings.Timing.Retry))
	defer cancel()
	if err := l.VCenter.SetCPULimit(ctx, t.Ref, t.record.Throttle.WasMHz, t.now.ChangeVersion); err != nil {
		return err
	}
	l.end(t.Return, policy.ThrottleLifted)
	return nil
}

// end closes the record of a limit, and decides about the VM.
func (l *lifting) end(t policy.Return, how policy.ThrottleEnd) {
	vm := preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, Reason: policy.InWords(limitBack), OnAt: time.Now().UTC()}
	if how == policy.ThrottleChanged {
		vm.Outcome, vm.Reason = preemptapi.OutcomeLeft, policy.Because(policy.LimitChanged)
	}
	value, err := l.endedValue(t, how, vm.OnAt)
	l.recordAndDecide(vm, value, err)
}

// endedValue is the attribute of a VM whose limit is not ours any more: what was there, and how the throttle ended. Where that was
// all that we did to it, the record is closed.
func (l *lifting) endedValue(t policy.Return, how policy.ThrottleEnd, at time.Time) (string, error) {
	attr, _ := l.record(t.Ref)
	ended := *attr.Throttle
	ended.Ended = how
	set := map[string]any{"throttle": ended}
	if !t.StaysOff {
		set["preempted"] = false
	}
	if !t.StaysOff && how == policy.ThrottleLifted {
		set["restored"], set["restoredAt"], set["restoredBy"], set["restoreID"] = true, at, l.in.By, l.in.RestoreID
	}
	return l.valueWith(t.Ref, set)
}

// valueWith is the VM's attribute with these fields; whatever else was there stays.
func (p *powering) valueWith(ref vsphere.Ref, set map[string]any) (string, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(p.values[ref]), &fields); err != nil {
		fields = map[string]json.RawMessage{} // somebody changed it a moment ago
	}
	for key, value := range set {
		b, err := json.Marshal(value)
		if err != nil {
			return "", err
		}
		fields[key] = b
	}
	b, err := json.Marshal(fields)
	return string(b), err
}

// failed is powering's, for a change of the limit: that the VM was changed a moment ago is tried again.
func (l *lifting) failed(t policy.Return, err error) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := vcenter.KindOf(err)
	if kind.Outage() {
		return true
	}
	l.Failures[t.Ref]++
	if kind.Retryable() && l.Failures[t.Ref] < step.Tries {
		return true
	}
	l.result.VMs = append(l.result.VMs, preemptapi.RestoredVM{
		Return: t, Outcome: preemptapi.OutcomeNotRestored, Reason: policy.InWords(err.Error()), Again: kind.Retryable() || kind == vcenter.Interrupted,
	})
	return false
}
