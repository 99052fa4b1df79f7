package simulation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// What memory can be added to a VM that is on: up to sixteen times what it was powered on with, in steps of 128 MB; a
// Linux guest that was powered on with less than 3 GB cannot go beyond that.
const (
	hotLimitFactor  = 16
	hotIncrementMB  = 128
	linuxHotLimitMB = 3072
	linuxGuest      = string(types.VirtualMachineGuestOsIdentifierOtherLinux64Guest)
	otherGuest      = string(types.VirtualMachineGuestOsIdentifierOtherGuest64)
)

// Hardware is a VM's CPUs and memory, and what of it can change while the VM is on.
type Hardware struct {
	CPUs, CoresPerSocket, MemoryMB        int
	CPUHotAdd, CPUHotRemove, MemoryHotAdd bool
	Linux                                 bool // the guest
}

// SetHardware gives the VM this hardware without a task or an event, as if it had been powered on with it, and moves
// its changeVersion. A number that is 0 stays as it is.
func (v *VCenter) SetHardware(ref types.ManagedObjectReference, h Hardware) error {
	if h.CPUs < 0 || h.CoresPerSocket < 0 || h.MemoryMB < 0 {
		return fmt.Errorf("set the hardware of %s: %+v: none may be negative", ref.Value, h)
	}
	return v.mustVM(ref, "set the hardware", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		now := hardwareOf(vm)
		setFrom(&h.CPUs, now.CPUs)
		setFrom(&h.CoresPerSocket, now.CoresPerSocket)
		setFrom(&h.MemoryMB, now.MemoryMB)
		ctx.Update(vm, append(now.changes(h), changed()...))
		ctx.Update(vm, v.machines.hotPlug(vm, vm.Runtime.PowerState))
	})
}

func setFrom(p *int, now int) {
	if *p == 0 {
		*p = now
	}
}

// HardwareOf is the VM's hardware in the model; the zero value if the VM is gone.
func (v *VCenter) HardwareOf(ref types.ManagedObjectReference) (h Hardware) {
	v.withVM(ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) { h = hardwareOf(vm) })
	return h
}

// ChangeVersion is the VM's config.changeVersion in the model; empty if the VM is gone.
func (v *VCenter) ChangeVersion(ref types.ManagedObjectReference) (version string) {
	v.withVM(ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) { version = vm.Config.ChangeVersion })
	return version
}

// ChangeBeforeReconfigure lets somebody else reconfigure the VM just before each of its next times (-1: all)
// reconfigurations, so that one with the changeVersion that was read ends in ConcurrentAccess. 0 withdraws that.
func (v *VCenter) ChangeBeforeReconfigure(ref types.ManagedObjectReference, times int) {
	v.machines.with(ref, func(b *behaviour) { b.interfered = times })
}

// interfere lets somebody else reconfigure the VM if that was ordered; the caller holds its lock.
func (m *machine) interfere(ctx *simulator.Context) {
	ordered := false
	m.vcenter.machines.with(m.Self, func(b *behaviour) {
		ordered = b.interfered != 0
		b.interfered = spend(b.interfered)
	})
	if !ordered {
		return
	}
	other := m.vcenter.context(m.vcenter.writeUser("administrator@vsphere.local"))
	m.vcenter.post(other, &types.VmReconfiguredEvent{VmEvent: m.vcenter.vmEvent(other, m.vm)})
	ctx.Update(m.vm, changed())
}

// hardwareOf reads the VM; the caller holds its lock.
func hardwareOf(vm *simulator.VirtualMachine) Hardware {
	c := vm.Config
	h := Hardware{
		CPUs: int(c.Hardware.NumCPU), CoresPerSocket: 1, MemoryMB: int(c.Hardware.MemoryMB),
		CPUHotAdd: isTrue(c.CpuHotAddEnabled), CPUHotRemove: isTrue(c.CpuHotRemoveEnabled), MemoryHotAdd: isTrue(c.MemoryHotAddEnabled),
		Linux: isLinux(c.GuestId),
	}
	if n := c.Hardware.NumCoresPerSocket; n != nil && *n > 0 {
		h.CoresPerSocket = int(*n)
	}
	return h
}

func isTrue(b *bool) bool { return b != nil && *b }

func isLinux(guest string) bool {
	guest = strings.ToLower(guest)
	return slices.ContainsFunc([]string{
		"linux", "ubuntu", "rhel", "centos", "debian", "sles", "suse", "fedora", "redhat", "photon", "coreos",
	}, func(name string) bool { return strings.Contains(guest, name) })
}

// with is the hardware after the spec.
func (h Hardware) with(spec *types.VirtualMachineConfigSpec) Hardware {
	if spec.NumCPUs != 0 {
		h.CPUs = int(spec.NumCPUs)
	}
	if spec.MemoryMB != 0 {
		h.MemoryMB = int(spec.MemoryMB)
	}
	if n := spec.NumCoresPerSocket; n != nil {
		h.CoresPerSocket = int(*n)
	}
	for _, flag := range []struct {
		set *bool
		has *bool
	}{
		{spec.CpuHotAddEnabled, &h.CPUHotAdd},
		{spec.CpuHotRemoveEnabled, &h.CPUHotRemove},
		{spec.MemoryHotAddEnabled, &h.MemoryHotAdd},
	} {
		if flag.set != nil {
			*flag.has = *flag.set
		}
	}
	return h
}

// changes are the property changes from h to next.
func (h Hardware) changes(next Hardware) []types.PropertyChange {
	var out []types.PropertyChange
	add := func(differs bool, changes ...types.PropertyChange) {
		if differs {
			out = append(out, changes...)
		}
	}
	add(h.CPUs != next.CPUs, types.PropertyChange{Name: "config.hardware.numCPU", Val: int32(next.CPUs)},
		types.PropertyChange{Name: "summary.config.numCpu", Val: int32(next.CPUs)})
	add(h.CoresPerSocket != next.CoresPerSocket, types.PropertyChange{Name: "config.hardware.numCoresPerSocket", Val: int32(next.CoresPerSocket)})
	add(h.MemoryMB != next.MemoryMB, types.PropertyChange{Name: "config.hardware.memoryMB", Val: int32(next.MemoryMB)},
		types.PropertyChange{Name: "summary.config.memorySizeMB", Val: int32(next.MemoryMB)})
	add(h.CPUHotAdd != next.CPUHotAdd, types.PropertyChange{Name: "config.cpuHotAddEnabled", Val: next.CPUHotAdd})
	add(h.CPUHotRemove != next.CPUHotRemove, types.PropertyChange{Name: "config.cpuHotRemoveEnabled", Val: next.CPUHotRemove})
	add(h.MemoryHotAdd != next.MemoryHotAdd, types.PropertyChange{Name: "config.memoryHotAddEnabled", Val: next.MemoryHotAdd})
	guest, family := otherGuest, types.VirtualMachineGuestOsFamilyOtherGuestFamily
	if next.Linux {
		guest, family = linuxGuest, types.VirtualMachineGuestOsFamilyLinuxGuest
	}
	add(h.Linux != next.Linux, types.PropertyChange{Name: "config.guestId", Val: guest},
		types.PropertyChange{Name: "summary.config.guestId", Val: guest},
		types.PropertyChange{Name: "summary.guest.guestId", Val: guest},
		types.PropertyChange{Name: "guest.guestFamily", Val: string(family)})
	return out
}

// hotPlug notes the memory that a VM is powered on with, and says how far memory can be added from there.
func (m *machines) hotPlug(vm *simulator.VirtualMachine, state types.VirtualMachinePowerState) []types.PropertyChange {
	limit, increment := int64(0), int64(0)
	if state == on {
		m.with(vm.Self, func(b *behaviour) { b.bootMemory = int(vm.Config.Hardware.MemoryMB) })
		if isTrue(vm.Config.MemoryHotAddEnabled) {
			limit, increment = hotLimitFactor*int64(vm.Config.Hardware.MemoryMB), hotIncrementMB
		}
	}
	return []types.PropertyChange{
		{Name: "config.hotPlugMemoryLimit", Val: limit},
		{Name: "config.hotPlugMemoryIncrementSize", Val: increment},
	}
}

func (m *machines) bootMemory(ref types.ManagedObjectReference) (mb int) {
	m.with(ref, func(b *behaviour) { mb = b.bootMemory })
	return mb
}
