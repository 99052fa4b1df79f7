package round

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// throttling is how the targets of a throttle are just before it.
type throttling struct {
	vms    map[vsphere.Ref]vsphere.VM
	held   map[vsphere.Ref]policy.Spared
	limits map[vsphere.Ref]vcenter.CPULimit
	record map[vsphere.Ref]preempt.Attribute
}

// passThrottle is pass for a throttle, which leaves VMs on. A VM is done when it has the limit that our record on it names. The
// record is written before the limit is set: whatever ends the worker in between, the owner's limit is on the VM.
func (e *eviction) passThrottle(todo []ActTarget) (left []ActTarget, err error) {
	seen, err := e.seeThrottling(todo)
	if err != nil {
		return todo, err
	}
	ready := make([]ActTarget, 0, len(todo))
	for _, t := range todo {
		switch what, reason := e.beforeThrottle(seen, t); {
		case what == action.Throttled:
			e.claimThrottled(t)
		case what != "":
			e.decideAll([]ActTarget{t}, what, reason)
		default:
			record := seen.record[t.Ref]
			e.busy[t.Ref] = record.RoundID == e.in.RoundID && record.Throttle.Open() // its change may be under way
			ready = append(ready, t)
		}
	}
	switch {
	case e.in.OnlyLook:
		return e.spareUnthrottled(ready, e.in.StillOn), nil
	case e.Cancelled():
		return e.spareUnthrottled(ready, policy.Because(policy.Withdrawn)), nil
	}
	if ready = e.withoutStale(ready); len(ready) == 0 {
		return nil, nil
	}
	return e.setLimits(seen, ready)
}

// seeThrottling reads the state of the targets, their limits and our records on them.
func (e *eviction) seeThrottling(todo []ActTarget) (s throttling, err error) {
	if s.vms, s.held, err = e.stateOf(todo); err != nil {
		return s, err
	}
	err = e.Attempt(e.Ctx, func() (err error) {
		s.limits, err = e.VCenter.CPULimits(e.Ctx, refs(todo))
		return err
	})
	if err != nil {
		return s, err
	}
	s.record, err = e.records(e.Ctx, refs(todo))
	return s, err
}

// records reads our records on VMs. A value that is not ours is none.
func (a *Activities) records(ctx context.Context, vms []vsphere.Ref) (map[vsphere.Ref]preempt.Attribute, error) {
	var values map[vsphere.Ref]string
	err := a.Attempt(ctx, func() (err error) {
		values, err = a.VCenter.Annotations(ctx, vms, preemption.AttributeKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make(map[vsphere.Ref]preempt.Attribute, len(values))
	for ref, value := range values {
		var attr preempt.Attribute
		if json.Unmarshal([]byte(value), &attr) == nil {
			out[ref] = attr
		}
	}
	return out, nil
}

// beforeThrottle decides about a target as it is now; "" where it is to be throttled.
func (e *eviction) beforeThrottle(s throttling, t ActTarget) (action.Outcome, policy.Explanation) {
	vm, there := s.vms[t.Ref]
	limit, record := s.limits[t.Ref], s.record[t.Ref]
	mine := record.RoundID == e.in.RoundID && record.Throttle.Active(limit.MHz)
	reason := whyNotNow(vm, e.in.Scope)
	switch {
	case !there:
		return action.Spared, policy.Because(policy.Gone)
	case mine:
		return action.Throttled, policy.Explanation{}
	case vm.PowerState != vsphere.PoweredOn:
		return action.AlreadyOff, policy.Explanation{}
	case reason == policy.PendingOperation && (e.Repeated || e.Sent): // most likely our own of before a crash
		return "", policy.Explanation{}
	case reason != "":
		return action.Spared, policy.Because(reason)
	case s.held[t.Ref].Reason != "":
		return action.Spared, s.held[t.Ref].Explanation()
	}
	return limitAllows(t, limit, record.Throttle)
}

// whyNotNow is why the VM takes no new limit at this moment; "" where it does.
func whyNotNow(vm vsphere.VM, scope vsphere.Ref) policy.Reason {
	reason := policy.Recheck(vm, scope)
	if slices.Contains(vm.DisabledMethods, "ReconfigVM_Task") && reason == "" {
		return policy.PendingOperation
	}
	return reason
}

// limitAllows decides about a target by the limit that it has; "" where it is to be throttled.
func limitAllows(t ActTarget, limit vcenter.CPULimit, record *policy.Throttled) (action.Outcome, policy.Explanation) {
	switch {
	case !limit.Known:
		return action.Spared, policy.Because(policy.LimitUnseen)
	case record.Active(limit.MHz):
		return action.Spared, policy.Because(policy.AlreadyThrottled)
	case t.LimitMHz < policy.LeastLimitMHz: // it was planned for something else
		return action.Failed, policy.InWords(fmt.Sprintf("no VM is throttled to %d MHz", t.LimitMHz))
	case limit.MHz >= 0 && limit.MHz <= allowed(t, limit):
		return action.Spared, policy.Because(policy.OwnLimit)
	}
	return "", policy.Explanation{}
}

// allowed is the limit that the target gets: vCenter refuses one below the reservation.
func allowed(t ActTarget, limit vcenter.CPULimit) int64 { return max(t.LimitMHz, limit.ReservedMHz) }

// spareUnthrottled spares targets that are not throttled. One of which our record says that its limit was about to be set is
// looked at once more.
func (e *eviction) spareUnthrottled(ready []ActTarget, reason policy.Explanation) (left []ActTarget) {
	for _, t := range ready {
		if !e.waited && e.busy[t.Ref] {
			left = append(left, t)
			continue
		}
		e.decideAll([]ActTarget{t}, action.Spared, reason)
	}
	e.waited = true
	return left
}

// setLimits writes the record of each target and sets its limit, five at a time. What it returns is looked at again.
func (e *eviction) setLimits(s throttling, ready []ActTarget) (left []ActTarget, err error) {
	var done sync.Map
	sent, left, err := e.send(ready, func(t ActTarget) (vsphere.Ref, error) {
		err := e.setLimit(s, t)
		if err == nil {
			done.Store(t.Ref, true)
		}
		return vsphere.Ref{}, err
	})
	e.endTurn()
	waiting := make(map[vsphere.Ref]bool, len(sent))
	for _, w := range sent {
		waiting[w.VM] = true
	}
	for _, t := range ready {
		switch _, ok := done.Load(t.Ref); {
		case ok:
			e.claimThrottled(t)
		case waiting[t.Ref]:
			left = append(left, t)
		}
	}
	return left, err
}

// setLimit throttles one VM. The limit is read again between the record and the change, and vCenter refuses the change if the
// VM was changed since: so the record has the limit that the change replaces.
func (e *eviction) setLimit(s throttling, t ActTarget) error {
	ctx, cancel := context.WithTimeout(e.Ctx, e.in.Policy.PowerOffTimeout.D())
	defer cancel()
	was := s.limits[t.Ref]
	ours := &policy.Throttled{WasMHz: was.MHz, LimitMHz: allowed(t, was), FreedMHz: t.CPUMHz}
	ours.Remember(s.record[t.Ref].Throttle)
	o := outcome(t, action.Throttled)
	o.OffAt, o.Throttle = time.Now().UTC(), ours
	if _, err := e.writeRecord(ctx, o, e.in.Attribute); err != nil {
		return err
	}
	now, err := e.VCenter.CPULimits(ctx, []vsphere.Ref{t.Ref})
	if err != nil {
		return err
	}
	if now[t.Ref].MHz != was.MHz {
		return &vcenter.Error{Op: "set the CPU limit of", Object: t.Name, Kind: vcenter.Conflict, Err: errLimitMoved}
	}
	return e.VCenter.SetCPULimit(ctx, t.Ref, ours.LimitMHz, now[t.Ref].ChangeVersion)
}

var errLimitMoved = fmt.Errorf("somebody else changed it a moment ago")

// claimThrottled records a VM that has our limit. Its attribute says so already.
func (e *eviction) claimThrottled(t ActTarget) {
	o := outcome(t, action.Throttled)
	o.OffAt, o.Annotated, o.Throttle = time.Now().UTC(), true, nil
	e.reclaimed(e.Ctx, o, e.in.Asked)
	e.decide(o)
}

// keepLimits notes on targets that are about to go off which limit of ours they have, so that their new record names it too: the
// restore takes it back as well.
func (e *eviction) keepLimits(todo []ActTarget, now map[vsphere.Ref]vsphere.VM) error {
	limited := slices.ContainsFunc(todo, func(t ActTarget) bool { return now[t.Ref].CPULimitMHz > 0 })
	if !limited && !e.in.Policy.Throttles() {
		return nil
	}
	records, err := e.records(e.Ctx, refs(todo))
	if err != nil {
		return err
	}
	for i, t := range todo {
		if record := records[t.Ref]; record.Throttle.Open() && record.InstanceUUID == t.InstanceUUID {
			todo[i].Throttle = record.Throttle
		}
	}
	return nil
}
