package intake

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// originLookUp bounds how long the origins of one batch of messages are looked up in vCenter. What is not known by then,
// as while vCenter is away, the round asks before it plans.
const originLookUp = 4 * time.Second

// checkOrigin rejects a decoded message whose event is of another vCenter. ctx bounds how long vCenter may take: a rise that
// could not be verified in that time is marked, and a fall is believed, as it only spares VMs.
func (a *Activities) checkOrigin(ctx context.Context, d Decoded) Decoded {
	of, ok := originOf(d)
	if !ok || a.VCenter.Named(of.Source) {
		return d
	}
	known, err := a.VCenter.Knows(ctx, of)
	if err == nil && known {
		return d
	}
	var reason string
	if err == nil {
		d.Uncertain = true
		reason, err = a.VCenter.Unlike(ctx, of)
	}
	switch {
	case err != nil && d.Demand != nil:
		d.Demand.Unverified = true
	case err == nil && reason != "":
		return Decoded{Rejected: reason, AnotherVCenter: true, Person: d.Demand != nil && d.Demand.Person}
	}
	return d
}

// originOf returns where a decoded message comes from; ok is false where it does not say, or is about no alarm.
func originOf(d Decoded) (of vcenter.AlarmEvent, ok bool) {
	change := d.Change
	if change == nil && d.Demand != nil {
		change = d.Demand.Change
	}
	if change == nil {
		return of, false
	}
	of = vcenter.AlarmEvent{Source: d.source, Name: change.Alarm, To: change.To, Key: change.EventKey, Time: change.Time}
	if d.Demand != nil {
		if al, err := alarm.FromCloudEvent(d.Demand.Event); err == nil {
			of.Source, of.Alarm, of.Name = al.VCenter, preempt.RefOf(al.Ref), al.Name
		}
	}
	of.Entity, ok = vsphere.ParseRef(change.Entity)
	return of, ok && of.Source != ""
}
