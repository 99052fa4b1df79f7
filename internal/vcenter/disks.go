package vcenter

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// diskProperties are the properties that say where a VM's files are.
var diskProperties = []string{"datastore", "config.files.vmPathName", "config.hardware.device"}

func (o object) devices() []types.BaseVirtualDevice {
	list, _ := o.props["config.hardware.device"].(types.ArrayOfVirtualDevice)
	return list.VirtualDevice
}

// home is the datastore of a VM's configuration files; zero if unknown.
func (inv inventory) home(vm object) vsphere.Ref {
	return inv.datastoreAt(vm, vm.text("config.files.vmPathName"))
}

// datastoreOf is the datastore of a device's file; zero if it has none or it is unknown.
func (inv inventory) datastoreOf(vm object, backing types.BaseVirtualDeviceBackingInfo) vsphere.Ref {
	file, ok := backing.(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return vsphere.Ref{}
	}
	info := file.GetVirtualDeviceFileBackingInfo()
	if info.Datastore != nil {
		return fromMoRef(*info.Datastore)
	}
	return inv.datastoreAt(vm, info.FileName)
}

// datastoreAt finds the datastore of a path such as "[datastore-1] web/web.vmx" among those of the VM: names
// are unique within a data centre only.
func (inv inventory) datastoreAt(vm object, path string) vsphere.Ref {
	name := datastoreName(path)
	if name == "" {
		return vsphere.Ref{}
	}
	for _, ref := range vm.refs("datastore") {
		if known := inv[ref].text("name"); known == name || unescape(known) == unescape(name) {
			return ref
		}
	}
	return vsphere.Ref{}
}

// datastoreName is the text in the brackets of a path, "" for a path that is on no datastore.
func datastoreName(path string) string {
	rest, ok := strings.CutPrefix(path, "[")
	if !ok {
		return ""
	}
	name, _, ok := strings.Cut(rest, "]")
	if !ok {
		return ""
	}
	return name
}

// diskBacking is what the backing of a virtual disk says about it.
type diskBacking struct {
	mode, sharing string
	raw, child    bool // child: it has a parent, of a snapshot or a linked clone
}

func readBacking(backing types.BaseVirtualDeviceBackingInfo) diskBacking {
	switch b := backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return diskBacking{mode: b.DiskMode, sharing: b.Sharing, child: b.Parent != nil}
	case *types.VirtualDiskSeSparseBackingInfo:
		return diskBacking{mode: b.DiskMode, child: b.Parent != nil}
	case *types.VirtualDiskSparseVer2BackingInfo:
		return diskBacking{mode: b.DiskMode, child: b.Parent != nil}
	case *types.VirtualDiskSparseVer1BackingInfo:
		return diskBacking{mode: b.DiskMode, child: b.Parent != nil}
	case *types.VirtualDiskFlatVer1BackingInfo:
		return diskBacking{mode: b.DiskMode, child: b.Parent != nil}
	case *types.VirtualDiskLocalPMemBackingInfo:
		return diskBacking{mode: b.DiskMode}
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		return diskBacking{mode: b.DiskMode, sharing: b.Sharing, raw: true, child: b.Parent != nil}
	case *types.VirtualDiskRawDiskVer2BackingInfo:
		return diskBacking{sharing: b.Sharing, raw: true}
	case *types.VirtualDiskPartitionedRawDiskVer2BackingInfo:
		return diskBacking{sharing: b.Sharing, raw: true}
	}
	return diskBacking{}
}

// sharedBuses are the keys of the controllers whose disks other VMs may use too.
func sharedBuses(devices []types.BaseVirtualDevice) map[int32]bool {
	shared := make(map[int32]bool)
	for _, device := range devices {
		key := device.GetVirtualDevice().Key
		switch c := device.(type) {
		case types.BaseVirtualSCSIController:
			bus := c.GetVirtualSCSIController().SharedBus
			shared[key] = bus != "" && bus != types.VirtualSCSISharingNoSharing
		case *types.VirtualNVMEController:
			shared[key] = c.SharedBus != "" && c.SharedBus != string(types.VirtualNVMEControllerSharingNoSharing)
		}
	}
	return shared
}

// disks lists the virtual disks of a VM; linked reports whether one of them has a parent.
func (inv inventory) disks(vm object) (list []placement.Disk, linked bool) {
	devices := vm.devices()
	shared, used := sharedBuses(devices), vm.usedByDisks()
	for _, device := range devices {
		disk, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		backing := readBacking(disk.Backing)
		linked = linked || backing.child
		d := placement.Disk{
			Datastore:   inv.datastoreOf(vm, disk.Backing),
			Provisioned: provisioned(disk),
			Independent: strings.HasPrefix(backing.mode, "independent_"),
			Raw:         backing.raw,
			Shared:      backing.sharing == string(types.VirtualDiskSharingSharingMultiWriter) || shared[disk.ControllerKey],
		}
		if disk.DeviceInfo != nil {
			d.Label = disk.DeviceInfo.GetDescription().Label
		}
		if bytes, known := used[disk.Key]; known {
			d.Used = bytes
		} else {
			d.Used = d.Provisioned // at most
		}
		list = append(list, d)
	}
	return list, linked
}

func provisioned(disk *types.VirtualDisk) int64 {
	if disk.CapacityInBytes > 0 {
		return disk.CapacityInBytes
	}
	return disk.CapacityInKB << 10
}

// layout is what vCenter knows about a VM's files.
func (o object) layout() types.VirtualMachineFileLayoutEx {
	layout, _ := o.props["layoutEx"].(types.VirtualMachineFileLayoutEx)
	return layout
}

// usedByDisks is the space that the files of each disk take, by the disk's key: all extents of the whole chain.
func (o object) usedByDisks() map[int32]int64 {
	layout := o.layout()
	sizes := make(map[int32]int64, len(layout.File))
	for _, file := range layout.File {
		sizes[file.Key] = file.Size
	}
	used := make(map[int32]int64, len(layout.Disk))
	for _, disk := range layout.Disk {
		for _, unit := range disk.Chain {
			for _, key := range unit.FileKey {
				used[disk.Key] += sizes[key]
			}
		}
	}
	return used
}

// otherBytes is the space that files other than disks take on the datastore: swap, logs, configuration.
func (inv inventory) otherBytes(vm object, datastore vsphere.Ref) (bytes int64) {
	layout := vm.layout()
	ofDisks := make(map[int32]bool)
	for _, disk := range layout.Disk {
		for _, unit := range disk.Chain {
			for _, key := range unit.FileKey {
				ofDisks[key] = true
			}
		}
	}
	for _, file := range layout.File {
		if !ofDisks[file.Key] && !datastore.Zero() && inv.datastoreAt(vm, file.Name) == datastore {
			bytes += file.Size
		}
	}
	return bytes
}

// media lists the ISO and floppy images on datastores that the VM is connected to, or will be when it is
// powered on, and the MoRef values of their datastores.
func (inv inventory) media(vm object) (images, datastores []string) {
	for _, device := range vm.devices() {
		var file string
		switch b := device.GetVirtualDevice().Backing.(type) {
		case *types.VirtualCdromIsoBackingInfo:
			file = b.FileName
		case *types.VirtualFloppyImageBackingInfo:
			file = b.FileName
		}
		connection := device.GetVirtualDevice().Connectable
		if datastoreName(file) == "" || connection == nil || !connection.Connected && !connection.StartConnected {
			continue // none, on the host (as for VMware Tools), or not in use
		}
		images = append(images, file)
		datastores = append(datastores, inv.datastoreOf(vm, device.GetVirtualDevice().Backing).Value)
	}
	return images, datastores
}
