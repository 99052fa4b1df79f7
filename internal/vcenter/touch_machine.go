package vcenter

import (
	"reflect"

	"github.com/vmware/govmomi/vim25/types"
)

// useEvents are what counts as a touch whoever did it: the VM was used.
var useEvents = map[string]bool{
	"VmStartingEvent": true, "VmPoweredOnEvent": true, "DrsVmPoweredOnEvent": true, "VmResumingEvent": true,
	"VmGuestShutdownEvent": true, "VmGuestRebootEvent": true, "VmResettingEvent": true, "VmStoppingEvent": true,
	"VmPoweredOffEvent": true, "VmSuspendingEvent": true, "VmSuspendedEvent": true,
}

// touches reports whether what somebody else did to a VM makes it theirs. Machines change VMs that are off without
// using them: a storage driver takes a volume off, a backup switches change tracking on and leaves a note, an evacuation
// moves files. So what was changed decides; of a trusted service user only use counts.
func (g *Gateway) touches(event types.BaseEvent) bool {
	if useEvents[className(event)] {
		return true
	}
	if g.trusted[account(event.GetEvent().UserName)] {
		return false
	}
	reconfigured, ok := event.(*types.VmReconfiguredEvent)
	return !ok || !upkeep(reconfigured.ConfigSpec)
}

// upkeep reports whether a reconfiguration changed nothing but what machines change: disks and their controllers,
// keys that software leaves for software, the note, change tracking, replication, storage policies. One of which vCenter
// does not say what it changed is none.
func upkeep(spec types.VirtualMachineConfigSpec) bool {
	if reflect.ValueOf(spec).IsZero() {
		return false
	}
	for _, change := range spec.DeviceChange {
		if !storageDevice(change.GetVirtualDeviceConfigSpec().Device) {
			return false
		}
	}
	spec.DeviceChange, spec.ExtraConfig, spec.Annotation, spec.ChangeVersion = nil, nil, "", ""
	spec.ChangeTrackingEnabled, spec.RepConfig, spec.VmProfile = nil, nil, nil
	return reflect.ValueOf(spec).IsZero()
}

func storageDevice(device types.BaseVirtualDevice) bool {
	switch device.(type) {
	case *types.VirtualDisk, types.BaseVirtualSCSIController, types.BaseVirtualSATAController, *types.VirtualNVMEController:
		return true
	}
	return false
}
