package simulation

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// ReplaceVM lets the MoRef be of another VM from now on, as after vCenter was restored from a backup: all that this
// vCenter holds by MoRef stays, and the instance UUID is another.
func (v *VCenter) ReplaceVM(ref types.ManagedObjectReference) error {
	ctx := v.context("")
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return v.mustVM(ref, "replace", nil)
	}
	uuid := newUUID()
	ctx.WithLock(vm, func() {
		ctx.Update(vm, []types.PropertyChange{
			{Name: "config.instanceUuid", Val: uuid},
			{Name: "summary.config.instanceUuid", Val: uuid},
		})
	})
	return nil
}
