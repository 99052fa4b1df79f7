package simulation

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ReconfigVMTask serves ReconfigVM_Task: the simulator's, but a stale changeVersion and a hardware change that the
// VM cannot take while it is on end the task in the fault that vCenter answers.
func (m *machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	fault := m.refusal(&req.Spec)
	if fault == nil {
		req.Spec.ExtraConfig = m.knownKeys(req.Spec.ExtraConfig)
		res := m.vm.ReconfigVMTask(ctx, req)
		m.noticed(&req.Spec)
		return res
	}
	task := m.vcenter.runTask(ctx, m.vm.Entity(), "reconfigVm", 0, func() (types.AnyType, types.BaseMethodFault) { return nil, fault })
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
}

func (m *machine) refusal(spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	config := m.vm.Config
	if spec.ChangeVersion != "" && spec.ChangeVersion != config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	if m.vm.Runtime.PowerState != on {
		return nil
	}
	cpu := spec.NumCPUs != 0 && spec.NumCPUs != config.Hardware.NumCPU
	memory := spec.MemoryMB != 0 && spec.MemoryMB != int64(config.Hardware.MemoryMB)
	switch {
	case cpu && !allowed(config.CpuHotAddEnabled, spec.NumCPUs > config.Hardware.NumCPU):
		return &types.CpuHotPlugNotSupported{}
	case memory && !allowed(config.MemoryHotAddEnabled, spec.MemoryMB > int64(config.Hardware.MemoryMB)):
		return &types.MemoryHotPlugNotSupported{}
	}
	return nil
}

func allowed(enabled *bool, grows bool) bool { return enabled != nil && *enabled && grows }
