package simulation

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// controller is somebody else's program that keeps a VM on.
type controller struct {
	user  string
	after time.Duration
}

// KeepOn lets a controller of that user power the VM on again so long after it goes off; 0: so soon that nobody sees it
// off, only the events tell. An empty user withdraws that.
func (v *VCenter) KeepOn(ref types.ManagedObjectReference, user string, after time.Duration) {
	v.machines.with(ref, func(b *behaviour) {
		b.keeper = nil
		if user != "" {
			b.keeper = &controller{user: v.writeUser(user), after: after}
		}
	})
}

func (v *VCenter) keeperOf(ref types.ManagedObjectReference) (c *controller) {
	v.machines.with(ref, func(b *behaviour) { c = b.keeper })
	return c
}

// goOff turns a VM off, which its controller may not leave so; the caller holds the VM's lock.
func (v *VCenter) goOff(ctx *simulator.Context, vm *simulator.VirtualMachine, event types.VmEvent) {
	c := v.keeperOf(vm.Self)
	if c == nil || c.after > 0 {
		v.setPower(ctx, vm, off)
		v.post(ctx, &types.VmPoweredOffEvent{VmEvent: event})
		if c != nil {
			v.powerOnAgain(vm.Self, *c)
		}
		return
	}
	v.post(ctx, &types.VmPoweredOffEvent{VmEvent: event})
	other := v.context(c.user)
	v.post(other, &types.VmStartingEvent{VmEvent: event})
	v.setPower(ctx, vm, on)
	v.post(other, &types.VmPoweredOnEvent{VmEvent: event})
}

func (v *VCenter) powerOnAgain(ref types.ManagedObjectReference, c controller) {
	if !v.begin() {
		return
	}
	go func() {
		defer v.work.Done()
		if v.sleep(c.after) {
			_ = v.changePower(ref, on, c.user) // somebody may have been faster
		}
	}()
}
