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
		if !v.sleep(d.Delay) || !v.startPlaced(ref, user) || d.NoEvent || !v.sleep(d.Lag) {
			return
		}
		ctx := v.context(user)
		if d.NoUser {
			ctx = v.context("")
		}
		vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
		if !ok {
			return
		}
		ctx.WithLock(vm, func() {
			v.post(ctx, &types.DrsVmPoweredOnEvent{VmPoweredOnEvent: types.VmPoweredOnEvent{VmEvent: v.vmEvent(ctx, vm)}})
		})
	}()
}

// startPlaced turns on a VM that DRS has placed, and reports whether it did.
func (v *VCenter) startPlaced(ref types.ManagedObjectReference, user string) bool {
	v.admission.gate.Lock()
	defer v.admission.gate.Unlock()
	defer v.admission.settle(ref)
	if v.PowerState(ref) == on || v.refused(ref, types.ManagedObjectReference{}, user) != nil {
		return false
	}
	return v.withVM(ref, func(ctx *simulator.Context, vm *simulator.VirtualMachine) { v.setPower(ctx, vm, on) })
}

// placeAdmitted moves the VM to the host where admission control lets DRS start it, and promises it what it asks for.
// Where it is admitted nowhere, the event says for lack of what: NotEnoughResourcesToStartVmEvent is that of lacking
// resources.
func (v *VCenter) placeAdmitted(s *standing, user string) types.BaseMethodFault {
	host, fault := s.place(false)
	if fault == nil {
		if host != s.vm.host {
			v.moveVM(s.vm.ref, s.vm.host, host)
		}
		v.admission.promise(s.vm.ref, host)
		return nil
	}
	ctx := v.context(user)
	v.withVM(s.vm.ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) {
		if _, room := fault.(types.BaseInsufficientResourcesFault); room {
			v.post(ctx, &types.NotEnoughResourcesToStartVmEvent{VmEvent: v.vmEvent(ctx, vm), Reason: words(fault)})
			return
		}
		v.post(ctx, &types.VmFailedToPowerOnEvent{VmEvent: v.vmEvent(ctx, vm), Reason: localized(fault)})
	})
	return fault
}
