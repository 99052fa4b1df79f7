package simulation

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// StartTools lets the VM's tools be starting: they execute their scripts, and run after that time; a negative one: never.
// Until then vCenter refuses to shut the guest down.
func (v *VCenter) StartTools(ref types.ManagedObjectReference, after time.Duration) error {
	boots := v.machines.boots(ref)
	err := v.mustVM(ref, "start the tools", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		starting := string(types.VirtualMachineToolsRunningStatusGuestToolsExecutingScripts)
		ctx.Update(vm, []types.PropertyChange{
			{Name: "guest.toolsRunningStatus", Val: starting},
			{Name: "summary.guest.toolsRunningStatus", Val: starting},
		})
	})
	if err != nil || after < 0 || !v.begin() {
		return err
	}
	go func() {
		defer v.work.Done()
		if v.sleep(after) && v.machines.boots(ref) == boots {
			v.withVM(ref, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
				setTools(ctx, vm, vm.Runtime.PowerState == on)
			})
		}
	}()
	return nil
}
