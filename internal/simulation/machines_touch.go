package simulation

import (
	"github.com/vmware/govmomi/vim25/types"
)

// DetachVolumeAs lets a storage driver take a disk off a VM that is off, as the one of a cluster does some minutes
// after its node went.
func (v *VCenter) DetachVolumeAs(ref types.ManagedObjectReference, user string) error {
	disk := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2001, ControllerKey: 1000}}
	spec := types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: disk,
	}}}
	return v.reconfiguredAs(ref, user, spec)
}

// BackUpAs lets a backup touch a VM: it switches change tracking on, and leaves a note.
func (v *VCenter) BackUpAs(ref types.ManagedObjectReference, user string) error {
	return v.reconfiguredAs(ref, user, types.VirtualMachineConfigSpec{
		ChangeTrackingEnabled: types.NewBool(true), Annotation: "last backup: tonight",
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "ctkEnabled", Value: "true"}},
	})
}

// RefitAs lets somebody change a VM's memory: what only its owner, or a service that stands in for it, does.
func (v *VCenter) RefitAs(ref types.ManagedObjectReference, user string) error {
	return v.reconfiguredAs(ref, user, types.VirtualMachineConfigSpec{MemoryMB: 4096})
}

func (v *VCenter) reconfiguredAs(ref types.ManagedObjectReference, user string, spec types.VirtualMachineConfigSpec) error {
	return v.TouchAs(ref, user, func(e types.VmEvent) types.BaseEvent {
		return &types.VmReconfiguredEvent{VmEvent: e, ConfigSpec: spec}
	})
}

// EvacuateAs lets an administrator's maintenance mode move a VM that is off to another host and its files elsewhere.
func (v *VCenter) EvacuateAs(ref types.ManagedObjectReference, user string) error {
	err := v.TouchAs(ref, user, func(e types.VmEvent) types.BaseEvent { return &types.VmMigratedEvent{VmEvent: e} })
	if err != nil {
		return err
	}
	return v.TouchAs(ref, user, func(e types.VmEvent) types.BaseEvent {
		return &types.VmRelocatedEvent{VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: e}}
	})
}
