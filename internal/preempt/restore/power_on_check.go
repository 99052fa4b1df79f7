package restore

import (
	"fmt"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// check settles who needs nothing any more, or must be left alone, and returns those that are off.
func (p *powering) check(todo []policy.Return) (ready []policy.Return, err error) {
	var now map[vsphere.Ref]vsphere.VM
	err = p.Attempt(p.Ctx, func() (err error) {
		if now, err = p.VCenter.State(p.Ctx, p.in.Tag, returnRefs(todo)); err != nil {
			return err
		}
		p.values, err = p.VCenter.Annotations(p.Ctx, returnRefs(todo), preemption.AttributeKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	var on []policy.Return
	for _, t := range todo {
		vm, ok := now[t.Ref]
		attr, done := p.record(t.Ref)
		switch {
		case !ok:
			p.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, policy.Because(policy.Gone))
		case t.InstanceUUID != "" && vm.InstanceUUID != t.InstanceUUID:
			p.Logger(p.Asked).Warn("a MoRef is of another VM than when the restore was planned: was vCenter restored from a backup?", "vm", t.Name, "moref", t.Ref.Value)
			p.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, policy.Because(policy.OtherInstance))
		case done:
			p.decide(preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, OnAt: attr.RestoredAt, Annotated: true})
		case vm.PowerState == vsphere.PoweredOn:
			on = append(on, t)
		case !attr.Preempted:
			p.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, policy.Because(policy.AttributeChanged))
		case !vm.Tagged && !p.Sent:
			p.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, policy.Because(policy.Untagged))
		default:
			ready = append(ready, t)
		}
	}
	return ready, p.attributeOn(on)
}

// maybeStarted returns those that may be coming on by what was sent: by this run, or by one before a crash.
func (p *powering) maybeStarted(ready []policy.Return) (begun []policy.Return) {
	if p.Sent || p.Repeated {
		return ready
	}
	return nil
}

// clearNotices removes what is left of notices: a guest that reads one when it starts may shut down again.
// Who cannot be cleared is not powered on, and is tried again as one that cannot be powered on.
func (p *powering) clearNotices(ready []policy.Return) (clear, again []policy.Return, err error) {
	refs := returnRefs(ready)
	failed := map[vsphere.Ref]error{}
	for _, key := range []string{preempt.NoticeKey, preempt.NoticeReplyKey} {
		var values map[vsphere.Ref]string
		err := p.Attempt(p.Ctx, func() (err error) {
			values, err = p.VCenter.GuestInfo(p.Ctx, refs, key)
			return err
		})
		if err != nil {
			return ready, nil, err
		}
		empty := map[vsphere.Ref]string{}
		for ref := range values {
			empty[ref] = ""
		}
		for ref, err := range p.VCenter.SetGuestInfos(p.Ctx, key, empty) {
			failed[ref] = err
		}
	}
	for _, t := range ready {
		switch err := failed[t.Ref]; {
		case err == nil:
			clear = append(clear, t)
		case vcenter.KindOf(err).Outage():
			return ready, nil, err
		case p.failed(t, fmt.Errorf("its notice could not be cleared: %w", err)):
			again = append(again, t)
		}
	}
	return clear, again, nil
}
