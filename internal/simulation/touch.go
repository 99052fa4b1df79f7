package simulation

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// SuspendAs lets somebody else suspend the VM. It fails if the VM is gone or not on.
func (v *VCenter) SuspendAs(ref types.ManagedObjectReference, user string) error {
	return faultError("suspend "+ref.Value+" as "+user, v.changePower(ref, suspended, v.writeUser(user)))
}

// ReconfigureAs posts the event of a reconfiguration by somebody else, and moves the VM's changeVersion.
func (v *VCenter) ReconfigureAs(ref types.ManagedObjectReference, user string) error {
	ctx := v.context(v.writeUser(user))
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return v.mustVM(ref, "reconfigure", nil)
	}
	ctx.WithLock(vm, func() {
		v.post(ctx, &types.VmReconfiguredEvent{VmEvent: v.vmEvent(ctx, vm)})
		ctx.Update(vm, []types.PropertyChange{{Name: "config.changeVersion", Val: newUUID()}})
	})
	return nil
}

// TouchAs posts, by that user, the event that made makes of an event's head: a reset, a revert, a move.
func (v *VCenter) TouchAs(ref types.ManagedObjectReference, user string, made func(types.VmEvent) types.BaseEvent) error {
	ctx := v.context(v.writeUser(user))
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return v.mustVM(ref, "post an event", nil)
	}
	ctx.WithLock(vm, func() {
		event := made(v.vmEvent(ctx, vm))
		if e, ok := event.(*types.EventEx); ok { // the simulator panics on one that names no object
			e.ObjectType, e.ObjectId, e.ObjectName = ref.Type, ref.Value, vm.Name
		}
		v.post(ctx, event)
	})
	return nil
}
