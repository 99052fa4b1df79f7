package vcentertest

import (
	"context"
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// CPULimits reads the CPU limits of VMs.
func (v *VCenter) CPULimits(_ context.Context, refs []vsphere.Ref) (map[vsphere.Ref]vcenter.CPULimit, error) {
	out := map[vsphere.Ref]vcenter.CPULimit{}
	for ref, vm := range v.some(refs) {
		limit := vcenter.CPULimit{MHz: vm.LimitMHz, Known: !vm.NoLimit, ReservedMHz: vm.CPUReservedMHz, ChangeVersion: version(vm)}
		if vm.LimitMHz == 0 {
			limit.MHz = -1
		}
		out[ref] = limit
	}
	return out, v.fails("CPULimits", vsphere.Ref{})
}

// version changes with the limit.
func version(vm VM) string { return fmt.Sprintf("%d", vm.LimitMHz) }

// SetCPULimit sets the CPU limit of a VM. Its calls are known as "Limit 500 vm-1", and fail as "Limit".
func (v *VCenter) SetCPULimit(_ context.Context, ref vsphere.Ref, mhz int64, changeVersion string) error {
	if err := v.fails("Limit", ref); err != nil {
		return err
	}
	if vm, there := v.some([]vsphere.Ref{ref})[ref]; there && changeVersion != "" && changeVersion != version(vm) {
		return Fault(vcenter.Conflict)
	}
	return v.change(fmt.Sprintf("Limit %d", mhz), ref, func(vm *VM) {
		vm.LimitMHz = max(0, mhz)
		vm.CPULimitMHz = vm.LimitMHz
	})
}
