package simulation

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// ForgetBoot lets the VM be as after a vMotion some time ago: when it was turned on is not known any more, and its
// uptime is that since the vMotion. It does not run on; the next power-on sets both anew.
func (v *VCenter) ForgetBoot(ref types.ManagedObjectReference, ago time.Duration) error {
	ctx := v.context("")
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return fmt.Errorf("there is no VM %s", ref.Value)
	}
	ctx.WithLock(vm, func() {
		vm.Runtime.BootTime, vm.Summary.Runtime.BootTime = nil, nil
		vm.Summary.QuickStats.UptimeSeconds = int32(ago / time.Second)
	})
	return nil
}
