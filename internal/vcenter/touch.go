package vcenter

import (
	"context"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Touch is vCenter's record of what somebody did to a VM.
type Touch struct {
	Time  time.Time // of the event, by vCenter's clock
	Event string    // class, such as VmReconfiguredEvent, or the id of an extended event
	User  string    // who did it, according to vCenter
	Ours  bool      // nobody but our session's user touched the VM
}

// reverted is the event of reverting to a snapshot.
const reverted = "com.vmware.vc.vm.VmStateRevertedToSnapshot"

// touchEvents are the events of users' actions on a VM.
var touchEvents = []string{
	"VmStartingEvent", "VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmResumingEvent",
	"VmGuestShutdownEvent", "VmGuestRebootEvent", "VmResettingEvent", "VmStoppingEvent", "VmPoweredOffEvent",
	"VmSuspendingEvent", "VmSuspendedEvent",
	"VmReconfiguredEvent", "VmRenamedEvent", "VmRegisteredEvent",
	reverted,
}

// TouchedSince returns who powered on or off, reconfigured, reset, suspended, reverted, renamed or registered each VM
// since then, by vCenter's clock: if others touched the VM, their last event, else our last one, with Ours. Actions of
// vCenter or the guest itself, which have no user, are not touches, and neither are moves and changes by machines (see
// touches). VMs without any are absent. Four calls whatever the number of VMs, one more per 1000 such events of the
// whole vCenter in that time.
func (g *Gateway) TouchedSince(ctx context.Context, refs []vsphere.Ref, since time.Time) (map[vsphere.Ref]Touch, error) {
	touched := make(map[vsphere.Ref]Touch)
	if len(refs) == 0 {
		return touched, nil
	}
	wanted, us := setOf(refs), account(g.User())
	ours := func(e *types.Event) bool { return us != "" && account(e.UserName) == us }
	keep := func(event types.BaseEvent) bool {
		e := event.GetEvent()
		return wanted[vmOfEvent(event)] && e.UserName != "" && !e.CreatedTime.Before(since) && (ours(e) || g.touches(event))
	}
	events, err := g.readEvents(ctx, "what was done to VMs", touchEvents, since, keep)
	if err != nil {
		return nil, err
	}
	for _, event := range events {
		e, ref := event.GetEvent(), vmOfEvent(event)
		touch := Touch{Time: e.CreatedTime.UTC(), Event: eventName(event), User: e.UserName, Ours: ours(e)}
		if before, ok := touched[ref]; !touch.Ours || !ok || before.Ours {
			touched[ref] = touch
		}
	}
	return touched, nil
}

// vmOfEvent is the VM that the event is about, zero for none. An extended event may name it in its own way.
func vmOfEvent(event types.BaseEvent) vsphere.Ref {
	if vm := event.GetEvent().Vm; vm != nil {
		return fromMoRef(vm.Vm)
	}
	if e, ok := event.(*types.EventEx); ok {
		return vsphere.Ref{Type: e.ObjectType, Value: e.ObjectId}
	}
	return vsphere.Ref{}
}

func eventName(event types.BaseEvent) string {
	if e, ok := event.(*types.EventEx); ok {
		return e.EventTypeId
	}
	return className(event)
}
