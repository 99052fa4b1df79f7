package simulation

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// DRS is how a cluster that DRS manages powers VMs on: PowerOnMultiVM_Task names no task of theirs.
type DRS struct {
	Delay time.Duration // until the VM is on
	Lag   time.Duration // of the event behind the state
	// NoUser leaves the event without the name of who asked.
	NoUser bool
	// NoEvent leaves no event at all.
	NoEvent bool
}

// SetDRS lets DRS manage all clusters; nil ends that.
func (v *VCenter) SetDRS(d *DRS) {
	v.machines.mu.Lock()
	defer v.machines.mu.Unlock()
	v.machines.drs = d
}

func (m *machines) managed() *DRS {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drs
}

// placeLater powers a VM on as DRS does: some time after the call that asked for it is over.
func (v *VCenter) placeLater(ref types.ManagedObjectReference, user string, d DRS) {
	if !v.begin() {
		return
	}
	go func() {
		defer v.work.Done()
		if !v.sleep(d.Delay) || v.PowerState(ref) == on || v.refusePowerOn(ref) != nil {
			return
		}
		ctx := v.context(user)
		vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
		if !ok {
			return
		}
		ctx.WithLock(vm, func() { v.setPower(ctx, vm, on) })
		if d.NoEvent || !v.sleep(d.Lag) {
			return
		}
		if d.NoUser {
			ctx = v.context("")
		}
		ctx.WithLock(vm, func() {
			v.post(ctx, &types.DrsVmPoweredOnEvent{VmPoweredOnEvent: types.VmPoweredOnEvent{VmEvent: v.vmEvent(ctx, vm)}})
		})
	}()
}
