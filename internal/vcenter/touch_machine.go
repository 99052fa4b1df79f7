package vcenter

import (
	"reflect"

	"github.com/vmware/govmomi/vim25/types"
)

// useEvents count as a touch whoever caused them: the VM was used.
var useEvents = map[string]bool{
	"VmStartingEvent": true, "VmPoweredOnEvent": true, "DrsVmPoweredOnEvent": true, "VmResumingEvent": true,
	"VmGuestShutdownEvent": true, "VmGuestRebootEvent": true, "VmResettingEvent": true, "VmStoppingEvent": true,
	"VmPoweredOffEvent": true, "VmSuspendingEvent": true, "VmSuspendedEvent": true,
}

// touches reports whether an action of somebody else means that the VM is no longer ours. Machines change VMs that are
// off without using them: a storage driver detaches a volume, a backup switches change tracking on and writes a note, an
// evacuation moves files. So it depends on what was changed. For a trusted service user only use counts.
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
// keys that software leaves for software, the note, change tracking, replication, storage policies. If vCenter does not
// say what was changed, it does not count as upkeep.
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
