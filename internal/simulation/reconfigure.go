package simulation

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ReconfigVMTask serves ReconfigVM_Task: what vCenter refuses ends the task in vCenter's fault and changes nothing.
// Hardware, its hot-plug flags, allocations, extra configuration and larger disks are changed here, all else by the
// simulator. Either way the changeVersion moves.
func (m *machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	spec := &req.Spec
	m.interfere(ctx)
	fault := m.vcenter.methodFault("ReconfigVM_Task", m.Self)
	if fault == nil {
		fault = m.refusal(spec)
	}
	asked := *spec
	spec.ExtraConfig = m.knownKeys(spec.ExtraConfig)
	if fault == nil && !m.simple(spec) {
		return m.reconfigureOther(ctx, req)
	}
	if fault == nil {
		if task := m.hang(ctx, asked); task != nil {
			return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: *task}}
		}
	}
	var stores []types.ManagedObjectReference
	if fault == nil {
		stores, fault = m.apply(ctx, spec)
	}
	task := m.vcenter.runTask(ctx, m.vm.Entity(), "reconfigVm", 0, func() (types.AnyType, types.BaseMethodFault) {
		m.vcenter.publishStores(stores)
		return nil, fault
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
}

// reconfigureOther leaves a reconfiguration to the simulator, and corrects what that says of the VM's files.
func (m *machine) reconfigureOther(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	hardware := m.hardwareChanges(&req.Spec)
	res := m.vm.ReconfigVMTask(ctx, req)
	if body, ok := res.(*methods.ReconfigVM_TaskBody); ok && body.Res != nil {
		_, err := m.vcenter.await(body.Res.Returnval) // it shares the lock that ctx holds
		if err == nil {
			ctx.Update(m.vm, hardware)
			m.noticed(&req.Spec)
		}
	}
	if m.vcenter.storage.knows(m.Self) {
		m.vcenter.publishFiles(ctx, m.vm)
	}
	return res
}

// simple tells whether apply knows all that the spec changes.
func (m *machine) simple(spec *types.VirtualMachineConfigSpec) bool {
	rest := *spec
	rest.ChangeVersion, rest.NumCPUs, rest.MemoryMB, rest.NumCoresPerSocket = "", 0, 0, nil
	rest.CpuHotAddEnabled, rest.CpuHotRemoveEnabled, rest.MemoryHotAddEnabled = nil, nil, nil
	rest.CpuAllocation, rest.MemoryAllocation, rest.ExtraConfig = nil, nil, nil
	if m.larger(spec) != nil {
		rest.DeviceChange = nil
	}
	special := slices.ContainsFunc(spec.ExtraConfig, func(o types.BaseOptionValue) bool {
		key := o.GetOptionValue().Key
		return strings.HasPrefix(key, "SET.") || strings.HasPrefix(key, "RUN.")
	})
	return !special && !m.vm.Config.Template && reflect.DeepEqual(rest, types.VirtualMachineConfigSpec{})
}

// refusal is the fault with which vCenter refuses the spec.
func (m *machine) refusal(spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	if fault := m.vcenter.machines.busy(m.Self, len(m.hardwareChanges(spec)) != 0 || len(spec.DeviceChange) != 0); fault != nil {
		return fault
	}
	if spec.ChangeVersion != "" && spec.ChangeVersion != m.vm.Config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	now := hardwareOf(m.vm)
	next := now.with(spec)
	if fault := m.refuseNow(now, next); fault != nil {
		return fault
	}
	return refuseEver(now, next)
}

// refuseNow refuses what the VM's power state does not allow.
func (m *machine) refuseNow(now, next Hardware) types.BaseMethodFault {
	state := m.vm.Runtime.PowerState
	notNow := &types.InvalidPowerState{RequestedState: off, ExistingState: state}
	switch {
	case state == off || now == next:
		return nil
	case state != on || now.CPUHotAdd != next.CPUHotAdd || now.CPUHotRemove != next.CPUHotRemove ||
		now.MemoryHotAdd != next.MemoryHotAdd || now.CoresPerSocket != next.CoresPerSocket:
		return notNow
	case next.CPUs > now.CPUs && !now.CPUHotAdd, next.CPUs < now.CPUs && !now.CPUHotRemove:
		return &types.CpuHotPlugNotSupported{}
	}
	return m.refuseHotMemory(now, next)
}

// refuseHotMemory refuses a change of the memory that a VM that is on does not take.
func (m *machine) refuseHotMemory(now, next Hardware) types.BaseMethodFault {
	switch {
	case next.MemoryMB == now.MemoryMB:
		return nil
	case next.MemoryMB < now.MemoryMB || !now.MemoryHotAdd:
		return &types.MemoryHotPlugNotSupported{}
	case now.Linux && m.vcenter.machines.bootMemory(m.Self) < linuxHotLimitMB && next.MemoryMB > linuxHotLimitMB:
		return &types.MemoryHotPlugNotSupported{}
	case int64(next.MemoryMB) > m.vm.Config.HotPlugMemoryLimit:
		return memoryNotSupported(next.MemoryMB, int(m.vm.Config.HotPlugMemoryLimit))
	case int64(next.MemoryMB-now.MemoryMB)%m.vm.Config.HotPlugMemoryIncrementSize != 0:
		return &types.InvalidArgument{InvalidProperty: "configSpec.memoryMB"}
	}
	return nil
}

// refuseEver refuses hardware that no VM of these hosts can have.
func refuseEver(now, next Hardware) types.BaseMethodFault {
	const threads = 2 * hostCores
	switch {
	case (next.CPUs != now.CPUs || next.CoresPerSocket != now.CoresPerSocket) && (next.CoresPerSocket < 1 || next.CPUs%next.CoresPerSocket != 0):
		return &types.InvalidArgument{InvalidProperty: "configSpec.numCoresPerSocket"}
	case next.CPUs != now.CPUs && (next.CPUs < 1 || next.CPUs > threads):
		return &types.NumVirtualCpusNotSupported{MaxSupportedVcpusDest: threads, NumCpuVm: int32(next.CPUs)}
	case next.MemoryMB != now.MemoryMB && (next.MemoryMB < 4 || next.MemoryMB%4 != 0 || next.MemoryMB > hostMemoryMB):
		return memoryNotSupported(next.MemoryMB, hostMemoryMB)
	}
	return nil
}

func memoryNotSupported(mb, most int) *types.MemorySizeNotSupported {
	return &types.MemorySizeNotSupported{MemorySizeMB: int32(mb), MinMemorySizeMB: 4, MaxMemorySizeMB: int32(most)}
}

// hardwareChanges are the changes to the VM's properties by which it gets the spec's hardware.
func (m *machine) hardwareChanges(spec *types.VirtualMachineConfigSpec) []types.PropertyChange {
	now := hardwareOf(m.vm)
	return now.changes(now.with(spec))
}

// apply changes the VM as the spec says, which was not refused; the caller holds its lock. It returns the datastores
// on which space was taken.
func (m *machine) apply(ctx *simulator.Context, spec *types.VirtualMachineConfigSpec) ([]types.ManagedObjectReference, types.BaseMethodFault) {
	changes, fault := m.allocations(spec)
	if fault != nil {
		return nil, fault
	}
	stores, fault := m.extend(m.larger(spec))
	if fault != nil {
		return nil, fault
	}
	changes = append(changes, m.hardwareChanges(spec)...)
	if len(spec.ExtraConfig) != 0 {
		changes = append(changes, types.PropertyChange{Name: "config.extraConfig", Val: withOptions(m.vm.Config.ExtraConfig, spec.ExtraConfig)})
	}
	changes = append(changes, changed()...)
	m.vcenter.post(ctx, &types.VmReconfiguredEvent{VmEvent: m.vcenter.vmEvent(ctx, m.vm), ConfigSpec: *spec})
	ctx.Update(m.vm, changes)
	if len(stores) != 0 {
		m.vcenter.publishFiles(ctx, m.vm)
	}
	m.noticed(spec)
	return stores, nil
}

// changed moves the changeVersion.
func changed() []types.PropertyChange {
	return []types.PropertyChange{{Name: "config.changeVersion", Val: newUUID()}, {Name: "config.modified", Val: time.Now()}}
}

// withOptions is a copy of the options with those set; an empty value removes one.
func withOptions(options, set []types.BaseOptionValue) []types.BaseOptionValue {
	for _, option := range set {
		o := option.GetOptionValue()
		options = slices.DeleteFunc(slices.Clone(options), func(has types.BaseOptionValue) bool { return has.GetOptionValue().Key == o.Key })
		if o.Value != "" {
			options = append(options, &types.OptionValue{Key: o.Key, Value: o.Value})
		}
	}
	return options
}

// allocations are the changes to reservations, limits and shares.
func (m *machine) allocations(spec *types.VirtualMachineConfigSpec) ([]types.PropertyChange, types.BaseMethodFault) {
	var changes []types.PropertyChange
	for _, a := range []struct {
		name, reserved string
		now, set       *types.ResourceAllocationInfo
	}{
		{"cpuAllocation", "cpuReservation", m.vm.Config.CpuAllocation, spec.CpuAllocation},
		{"memoryAllocation", "memoryReservation", m.vm.Config.MemoryAllocation, spec.MemoryAllocation},
	} {
		if a.set == nil {
			continue
		}
		next := types.ResourceAllocationInfo{}
		if a.now != nil {
			next = *a.now
		}
		setPointer(&next.Reservation, a.set.Reservation)
		setPointer(&next.Limit, a.set.Limit)
		setPointer(&next.ExpandableReservation, a.set.ExpandableReservation)
		setPointer(&next.Shares, a.set.Shares)
		if r, l := next.Reservation, next.Limit; r != nil && (*r < 0 || l != nil && *l >= 0 && *r > *l) {
			return nil, &types.InvalidArgument{InvalidProperty: "configSpec." + a.name + ".reservation"}
		}
		changes = append(changes, types.PropertyChange{Name: "config." + a.name, Val: next})
		if next.Reservation != nil {
			changes = append(changes, types.PropertyChange{Name: "summary.config." + a.reserved, Val: int32(*next.Reservation)})
		}
	}
	return changes, nil
}

func setPointer[T any](p **T, value *T) {
	if value != nil {
		*p = value
	}
}
