package simulation

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// publishFiles writes what the VM's files are into the model; the caller holds its lock. Every part is new, since what
// was read before may still be being sent.
func (v *VCenter) publishFiles(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	v.storage.mu.Lock()
	f := v.storage.filesOf(vm)
	p := publication{f: f, names: map[types.ManagedObjectReference]string{}}
	for ref, s := range v.storage.stores {
		p.names[ref] = s.name
	}
	changes := p.changes(vm)
	v.storage.mu.Unlock()
	ctx.Update(vm, changes)
}

// publication makes the properties of a VM out of its files.
type publication struct {
	f     *files
	names map[types.ManagedObjectReference]string
}

func (p *publication) path(on types.ManagedObjectReference, file string) string {
	return fmt.Sprintf("[%s] %s", p.names[on], path.Join(p.f.folder, file))
}

func (p *publication) changes(vm *simulator.VirtualMachine) []types.PropertyChange {
	f, now := p.f, time.Now()
	vmx, dir := p.path(f.home, f.vmx), p.path(f.home, "")
	config := vm.Config.Files
	config.VmPathName, config.SnapshotDirectory, config.SuspendDirectory, config.LogDirectory = vmx, dir, dir, dir
	sum := types.VirtualMachineStorageSummary{Timestamp: now}
	usage := f.usage()
	per := types.VirtualMachineStorageInfo{Timestamp: now}
	for _, ref := range slices.SortedFunc(maps.Keys(usage), func(a, b types.ManagedObjectReference) int { return strings.Compare(a.Value, b.Value) }) {
		u := usage[ref]
		per.PerDatastoreUsage = append(per.PerDatastoreUsage, u)
		sum.Committed, sum.Uncommitted, sum.Unshared = sum.Committed+u.Committed, sum.Uncommitted+u.Uncommitted, sum.Unshared+u.Unshared
	}
	changes := []types.PropertyChange{
		{Name: "config.files", Val: config},
		{Name: "summary.config.vmPathName", Val: vmx},
		{Name: "summary.config.numVirtualDisks", Val: int32(len(f.disks))},
		{Name: "config.hardware.device", Val: p.devices(vm.Config.Hardware.Device)},
		{Name: "layoutEx", Val: p.layout()},
		{Name: "storage", Val: per},
		{Name: "summary.storage", Val: sum},
		{Name: "datastore", Val: f.stores()},
	}
	if n := len(f.snapshots); n != 0 {
		tree := types.VirtualMachineSnapshotInfo{CurrentSnapshot: &f.snapshots[n-1], RootSnapshotList: snapshotTree(vm, f.snapshots)}
		changes = append(changes, types.PropertyChange{Name: "snapshot", Val: tree},
			types.PropertyChange{Name: "rootSnapshot", Val: []types.ManagedObjectReference{f.snapshots[0]}})
	}
	return changes
}

// devices are the VM's devices: disks, images and their controller from the files, all others as they are.
func (p *publication) devices(now []types.BaseVirtualDevice) []types.BaseVirtualDevice {
	out := slices.DeleteFunc(slices.Clone(now), func(device types.BaseVirtualDevice) bool {
		_, isDisk := device.(*types.VirtualDisk)
		key := device.GetVirtualDevice().Key
		return isDisk || key == scsiKey || (key >= cdromKey && key < cdromKey+100)
	})
	if len(p.f.disks) != 0 {
		controller := &types.ParaVirtualSCSIController{}
		controller.Key, controller.ControllerKey, controller.SharedBus, controller.ScsiCtlrUnitNumber = scsiKey, 100, types.VirtualSCSISharingNoSharing, hostUnit
		controller.DeviceInfo = &types.Description{Label: "SCSI controller 0", Summary: "VMware paravirtual SCSI"}
		for _, d := range p.f.disks {
			controller.Device = append(controller.Device, d.key)
		}
		out = append(out, controller)
	}
	for _, d := range p.f.disks {
		out = append(out, p.device(d))
	}
	for i, iso := range p.f.isos {
		file := fmt.Sprintf("[%s] %s", p.names[iso.datastore], iso.path)
		drive := &types.VirtualCdrom{}
		unit := int32(i)
		drive.Key, drive.ControllerKey, drive.UnitNumber = cdromKey+int32(i), ideKey, &unit
		drive.DeviceInfo = &types.Description{Label: fmt.Sprintf("CD/DVD drive %d", i+1), Summary: "ISO " + file}
		drive.Backing = &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: fileBacking(file, iso.datastore)}
		drive.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, Connected: true, AllowGuestControl: true}
		out = append(out, drive)
	}
	return out
}

func fileBacking(file string, on types.ManagedObjectReference) types.VirtualDeviceFileBackingInfo {
	return types.VirtualDeviceFileBackingInfo{FileName: file, Datastore: &on}
}

// link is the name of the descriptor of a link of a disk's chain.
func (d *disk) link(i int) string {
	if i == 0 {
		return d.name + ".vmdk"
	}
	return fmt.Sprintf("%s-%06d.vmdk", d.name, i)
}

func (p *publication) device(d *disk) *types.VirtualDisk {
	out := &types.VirtualDisk{CapacityInKB: d.capacity / 1024, CapacityInBytes: d.capacity}
	unit := d.unit
	out.Key, out.ControllerKey, out.UnitNumber = d.key, scsiKey, &unit
	out.DeviceInfo = &types.Description{Label: d.label, Summary: fmt.Sprintf("%d KB", out.CapacityInKB)}
	mode, sharing := string(types.VirtualDiskModePersistent), string(types.VirtualDiskSharingSharingNone)
	if d.independent {
		mode = string(types.VirtualDiskModeIndependent_persistent)
	}
	if d.shared {
		sharing = string(types.VirtualDiskSharingSharingMultiWriter)
	}
	if d.raw {
		out.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: fileBacking(p.path(d.datastore, d.link(0)), d.datastore),
			LunUuid:                      "lun-" + d.name, DeviceName: "naa." + d.name, DiskMode: string(types.VirtualDiskModeIndependent_persistent),
			CompatibilityMode: string(types.VirtualDiskCompatibilityModePhysicalMode), Sharing: sharing,
		}
		return out
	}
	var backing *types.VirtualDiskFlatVer2BackingInfo
	if d.linked {
		thick := false
		backing = &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: fileBacking(p.template(d), d.datastore), DiskMode: mode, ThinProvisioned: &thick, Uuid: d.name,
		}
	}
	for i := range d.links {
		thin := d.thin() || i > 0 || d.linked
		backing = &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: fileBacking(p.path(d.datastore, d.link(i)), d.datastore),
			DiskMode:                     mode, ThinProvisioned: &thin, Uuid: d.name, Sharing: sharing, Parent: backing,
		}
	}
	out.Backing = backing
	return out
}

// template is the disk that a linked clone begins with.
func (p *publication) template(d *disk) string {
	return fmt.Sprintf("[%s] %s/%s.vmdk", p.names[d.datastore], templateName, templateName)
}

func (p *publication) layout() types.VirtualMachineFileLayoutEx {
	out := types.VirtualMachineFileLayoutEx{Timestamp: time.Now()}
	add := func(name string, kind types.VirtualMachineFileLayoutExFileType, size, unique int64) int32 {
		accessible := true
		key := int32(len(out.File))
		out.File = append(out.File, types.VirtualMachineFileLayoutExFileInfo{
			Key: key, Name: name, Type: string(kind), Size: size, UniqueSize: unique, Accessible: &accessible,
		})
		return key
	}
	stem := strings.TrimSuffix(p.f.vmx, ".vmx")
	add(p.path(p.f.home, p.f.vmx), types.VirtualMachineFileLayoutExFileTypeConfig, 0, 0)
	add(p.path(p.f.home, stem+".nvram"), types.VirtualMachineFileLayoutExFileTypeNvram, 0, 0)
	add(p.path(p.f.home, "vmware.log"), types.VirtualMachineFileLayoutExFileTypeLog, p.f.homeBytes, p.f.homeBytes)
	for _, d := range p.f.disks {
		layout := types.VirtualMachineFileLayoutExDiskLayout{Key: d.key}
		if d.linked {
			size := min(int64(baseBytes), d.capacity)
			layout.Chain = append(layout.Chain, types.VirtualMachineFileLayoutExDiskUnit{FileKey: []int32{
				add(p.template(d), types.VirtualMachineFileLayoutExFileTypeDiskDescriptor, 0, 0),
				add(strings.TrimSuffix(p.template(d), ".vmdk")+"-flat.vmdk", types.VirtualMachineFileLayoutExFileTypeDiskExtent, size, 0),
			}})
		}
		for i, size := range d.links {
			name := p.path(d.datastore, d.link(i))
			extent := "-flat.vmdk"
			switch {
			case d.raw:
				extent = "-rdmp.vmdk"
			case i > 0:
				extent = "-delta.vmdk"
			}
			layout.Chain = append(layout.Chain, types.VirtualMachineFileLayoutExDiskUnit{FileKey: []int32{
				add(name, types.VirtualMachineFileLayoutExFileTypeDiskDescriptor, 0, 0),
				add(strings.TrimSuffix(name, ".vmdk")+extent, types.VirtualMachineFileLayoutExFileTypeDiskExtent, size, size),
			}})
		}
		out.Disk = append(out.Disk, layout)
	}
	for i, ref := range p.f.snapshots {
		data := add(p.path(p.f.home, fmt.Sprintf("%s-Snapshot%d.vmsn", stem, i+1)), types.VirtualMachineFileLayoutExFileTypeSnapshotData, 0, 0)
		out.Snapshot = append(out.Snapshot, types.VirtualMachineFileLayoutExSnapshotLayout{Key: ref, DataKey: data, MemoryKey: memoryless, Disk: p.before(out.Disk, i)})
	}
	return out
}

// before are the disks as snapshot i keeps them: without what was written since.
func (p *publication) before(disks []types.VirtualMachineFileLayoutExDiskLayout, i int) []types.VirtualMachineFileLayoutExDiskLayout {
	var out []types.VirtualMachineFileLayoutExDiskLayout
	for n, d := range p.f.disks {
		keep := max(1, len(disks[n].Chain)-(len(p.f.snapshots)-i))
		if d.independent || d.raw {
			continue
		}
		out = append(out, types.VirtualMachineFileLayoutExDiskLayout{Key: d.key, Chain: slices.Clone(disks[n].Chain[:keep])})
	}
	return out
}
