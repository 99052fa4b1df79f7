package restore

import (
	"encoding/json"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// record reads a VM's attribute; done tells that this restore has written it.
func (p *powering) record(ref vsphere.Ref) (attr preempt.Attribute, done bool) {
	if json.Unmarshal([]byte(p.values[ref]), &attr) != nil {
		return preempt.Attribute{}, false
	}
	return attr, attr.Restored && attr.RestoreID == p.in.RestoreID && !attr.RestoredAt.Before(activity.GetInfo(p.Asked).ScheduledTime.Add(-time.Minute))
}

// attributeOn settles VMs that were found on. Before anything was sent somebody else powered them on; later,
// or after a crash, vCenter's events tell.
func (p *powering) attributeOn(on []policy.Return) error {
	if len(on) == 0 {
		return nil
	}
	if !p.Repeated && !p.Sent {
		p.decideAll(on, preemptapi.OutcomeLeft, string(policy.AlreadyOn))
		return nil
	}
	touched, err := p.awaitTouches(on)
	if vcenter.KindOf(err).Outage() {
		return err
	}
	for _, t := range on {
		p.attribute(t, touched[t.Ref], err)
	}
	return nil
}

// attribute claims a VM that is on if it is our doing, and leaves it alone if not. err says why vCenter's events
// could not be read.
func (p *powering) attribute(t policy.Return, touch vcenter.Touch, err error) {
	reason := policy.NoEvidence
	switch attr, _ := p.record(t.Ref); {
	case attr.Restored && attr.RestoreID != p.in.RestoreID && attr.RestoredAt.After(t.OffSince):
		reason = policy.AlreadyOn // by another restore
	case err != nil:
		p.Logger(p.Asked).Warn("who powered the VM on could not be looked up", "vm", t.Name, "moref", t.Ref.Value, "reason", err)
	case touch.Ours && slices.Contains(poweredOnEvents, touch.Event):
		p.claimOn(t, touch.Time)
		return
	case !touch.Ours && touch.User != "" && !touch.Time.Before(t.OffSince):
		reason = policy.TouchedByOwner
	case p.byDRS[t.Ref]: // it was off, we had it powered on, and nobody else did
		p.claimOn(t, time.Now())
		return
	}
	p.decideAll([]policy.Return{t}, preemptapi.OutcomeLeft, string(reason))
}

// poweredOnEvents are what our power-on leaves behind.
var poweredOnEvents = []string{"VmStartingEvent", "VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmResumingEvent"}

// awaitTouches finds out who touched the VMs since they went off, and waits for the events of their power-on, which may come
// after the state that they tell of.
func (p *powering) awaitTouches(on []policy.Return) (found map[vsphere.Ref]vcenter.Touch, err error) {
	since := on[0].OffSince
	for _, t := range on {
		if t.OffSince.Before(since) {
			since = t.OffSince
		}
	}
	complete := func(t policy.Return) bool {
		touch, ok := found[t.Ref]
		return ok && (!touch.Ours || slices.Contains(poweredOnEvents, touch.Event))
	}
	err = p.VCenter.AwaitEvents(p.Ctx, func() (bool, error) {
		err := p.Attempt(p.Ctx, func() (err error) {
			found, err = p.VCenter.TouchedSince(p.Ctx, returnRefs(on), since)
			return err
		})
		return !slices.ContainsFunc(on, func(t policy.Return) bool { return !complete(t) }), err
	})
	return found, err
}
