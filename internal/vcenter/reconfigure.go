package vcenter

import (
	"context"
	"errors"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Reconfigure changes the settings that the change names, and no others, and returns the task without
// waiting for it. With a changeVersion, the task fails with kind Conflict if the VM was changed since that was
// read, also by an earlier call whose answer was lost. Kind Invalid: there
// is nothing to change. One call.
func (g *Gateway) Reconfigure(ctx context.Context, ref vsphere.Ref, c placement.Change, changeVersion string) (task vsphere.Ref, err error) {
	const op = "reconfigure"
	if c.Empty() {
		return vsphere.Ref{}, &Error{Op: op, Object: g.names.describe(ref), Kind: Invalid, Err: errNoChange}
	}
	spec := configSpec(c)
	spec.ChangeVersion = changeVersion
	err = g.onVM(ctx, op, ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.ReconfigVM_Task(ctx, s.client, &types.ReconfigVM_Task{This: toMoRef(ref), Spec: spec})
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	})
	return task, err
}

var errNoChange = errors.New("there is nothing to change")

// configSpec writes a change as vCenter has it.
func configSpec(c placement.Change) types.VirtualMachineConfigSpec {
	spec := types.VirtualMachineConfigSpec{
		CpuHotAddEnabled:    c.CPUHotAdd,
		CpuHotRemoveEnabled: c.CPUHotRemove,
		MemoryHotAddEnabled: c.MemoryHotAdd,
	}
	if c.CPUs != nil {
		spec.NumCPUs = int32(*c.CPUs)
	}
	if c.CoresPerSocket != nil {
		spec.NumCoresPerSocket = types.NewInt32(int32(*c.CoresPerSocket))
	}
	if c.MemoryMB != nil {
		spec.MemoryMB = int64(*c.MemoryMB)
	}
	return spec
}
