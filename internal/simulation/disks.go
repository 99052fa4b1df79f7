package simulation

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The devices that disks and images hang on.
const (
	scsiKey      = 1000
	ideKey       = 200
	diskKey      = 2000
	cdromKey     = 3000
	baseBytes    = 10 * bytesPerGB // of the disk that a linked clone begins with
	hostUnit     = 7               // of a SCSI controller is its own
	memoryless   = -1              // the memory file of a snapshot that has none
	templateName = "golden-image"
)

// files are a VM's files.
type files struct {
	home      types.ManagedObjectReference // datastore of the configuration
	folder    string
	vmx       string
	homeBytes int64
	disks     []*disk
	isos      []image
	snapshots []types.ManagedObjectReference
}

// disk is a virtual disk: a base and a delta for each snapshot since.
type disk struct {
	key         int32
	unit        int32
	label, name string // name of the file of the first link, without .vmdk
	datastore   types.ManagedObjectReference
	capacity    int64
	links       []int64 // bytes, the base first
	independent bool
	raw         bool
	shared      bool
	linked      bool // begins with another VM's disk
}

type image struct {
	datastore types.ManagedObjectReference
	path      string
}

func (d *disk) used() (bytes int64) {
	for _, n := range d.links {
		bytes += n
	}
	return bytes
}

func (d *disk) uncommitted() int64 {
	if d.raw {
		return 0
	}
	return max(0, d.capacity-d.used())
}

// moved is what the disk takes where it is moved to: a linked clone becomes a whole disk.
func (d *disk) moved() int64 {
	if d.linked {
		return d.used() + min(baseBytes, d.capacity)
	}
	return d.used()
}

func (d *disk) thin() bool { return d.links[0] < d.capacity }

// DiskOptions describe a disk.
type DiskOptions struct {
	Label       string // default Hard disk 1, 2, ...
	CapacityGB  int
	UsedGB      int                          // the disk is thick if that is its capacity, else thin
	Datastore   types.ManagedObjectReference // default where the VM's configuration is
	Independent bool                         // of snapshots
	Raw         bool                         // a physical raw device; only its pointer is on the datastore, UsedGB does not count
	Shared      bool                         // with other VMs, by multi-writer
	LinkedClone bool                         // of a disk of 10 GB that belongs to no VM; UsedGB is what changed since
}

// AddDisk gives the VM a disk, without a task or an event, and returns its key.
func (v *VCenter) AddDisk(ref types.ManagedObjectReference, o DiskOptions) (key int32, err error) {
	if o.CapacityGB <= 0 || o.UsedGB < 0 || o.UsedGB > o.CapacityGB {
		return 0, fmt.Errorf("add a disk to %s: it needs 0 <= UsedGB %d <= CapacityGB %d, and some capacity", ref.Value, o.UsedGB, o.CapacityGB)
	}
	err = v.changeFiles(ref, "add a disk", func(vm *simulator.VirtualMachine, f *files) error {
		d := f.newDisk(vm.Name, o)
		s, ok := v.storage.stores[d.datastore]
		switch {
		case !ok:
			return fmt.Errorf("there is no datastore %s; Datastores lists them", d.datastore.Value)
		case !s.hosts[*vm.Runtime.Host]:
			return fmt.Errorf("the VM's host does not mount %s", s.name)
		case d.used() > s.free():
			return fmt.Errorf("%s has %d bytes free", s.name, s.free())
		}
		f.disks, key = append(f.disks, d), d.key
		return nil
	})
	return key, err
}

func (f *files) newDisk(vm string, o DiskOptions) *disk {
	n := len(f.disks)
	d := &disk{
		key: diskKey + int32(n), unit: int32(n), label: o.Label, name: path.Base(vm), datastore: o.Datastore,
		capacity: int64(o.CapacityGB) * bytesPerGB, links: []int64{int64(o.UsedGB) * bytesPerGB},
		independent: o.Independent, raw: o.Raw, shared: o.Shared, linked: o.LinkedClone,
	}
	for slices.ContainsFunc(f.disks, func(other *disk) bool { return other.key == d.key || other.unit == d.unit }) || d.unit == hostUnit {
		d.key, d.unit = d.key+1, d.unit+1
	}
	setString(&d.label, fmt.Sprintf("Hard disk %d", n+1))
	if n > 0 {
		d.name = fmt.Sprintf("%s_%d", d.name, n)
	}
	if d.datastore.Value == "" {
		d.datastore = f.home
	}
	if d.raw {
		d.links = []int64{0}
	}
	return d
}

// SetHomeUsage lets what is no disk of the VM (configuration, logs, swap) take so much where its configuration is; 0
// unless set.
func (v *VCenter) SetHomeUsage(ref types.ManagedObjectReference, gb int) error {
	return v.changeFiles(ref, "set the size of the home", func(_ *simulator.VirtualMachine, f *files) error {
		f.homeBytes = int64(gb) * bytesPerGB
		return nil
	})
}

// AddSnapshot gives the VM a snapshot, without a task or an event. Its disks that are not independent go on in a delta,
// which is empty.
func (v *VCenter) AddSnapshot(ref types.ManagedObjectReference) error {
	snapshot := &simulator.VirtualMachineSnapshot{}
	if err := v.mustVM(ref, "add a snapshot", func(_ *simulator.Context, vm *simulator.VirtualMachine) {
		snapshot.Vm, snapshot.Config = vm.Self, *vm.Config
	}); err != nil {
		return err
	}
	made := v.service.Context.Map.Put(snapshot).Reference()
	return v.changeFiles(ref, "add a snapshot", func(_ *simulator.VirtualMachine, f *files) error {
		f.snapshots = append(f.snapshots, made)
		for _, d := range f.disks {
			if !d.independent && !d.raw {
				d.links = append(d.links, 0)
			}
		}
		return nil
	})
}

// snapshotTree is the chain of the snapshots, the oldest at the root.
func snapshotTree(vm *simulator.VirtualMachine, refs []types.ManagedObjectReference) []types.VirtualMachineSnapshotTree {
	var children []types.VirtualMachineSnapshotTree
	for i := len(refs) - 1; i >= 0; i-- {
		children = []types.VirtualMachineSnapshotTree{{
			Snapshot: refs[i], Vm: vm.Self, Name: fmt.Sprintf("snapshot %d", i+1), Id: int32(i + 1), CreateTime: time.Now(),
			State: vm.Runtime.PowerState, ChildSnapshotList: children,
		}}
	}
	return children
}

// AttachISO puts an image that lies on the datastore into the VM's drive. It takes no space of the VM's.
func (v *VCenter) AttachISO(ref, datastore types.ManagedObjectReference, file string) error {
	return v.changeFiles(ref, "attach an image", func(_ *simulator.VirtualMachine, f *files) error {
		if v.storage.stores[datastore] == nil {
			return fmt.Errorf("there is no datastore %s; Datastores lists them", datastore.Value)
		}
		f.isos = append(f.isos, image{datastore: datastore, path: file})
		return nil
	})
}

// SetFaultTolerant makes the VM the primary of a fault-tolerant pair, whose other half is not simulated. vCenter does
// not relocate such a VM.
func (v *VCenter) SetFaultTolerant(ref types.ManagedObjectReference) error {
	return v.mustVM(ref, "make it fault-tolerant", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		info := types.FaultToleranceConfigInfo{Role: 1, InstanceUuids: []string{vm.Config.InstanceUuid}, ConfigPaths: []string{vm.Config.Files.VmPathName}}
		ctx.Update(vm, append(changed(),
			types.PropertyChange{Name: "config.ftInfo", Val: &types.FaultTolerancePrimaryConfigInfo{FaultToleranceConfigInfo: info}},
			types.PropertyChange{Name: "summary.config.ftInfo", Val: &types.FaultTolerancePrimaryConfigInfo{FaultToleranceConfigInfo: info}},
			types.PropertyChange{Name: "runtime.faultToleranceState", Val: types.VirtualMachineFaultToleranceStateRunning},
			types.PropertyChange{Name: "summary.runtime.faultToleranceState", Val: types.VirtualMachineFaultToleranceStateRunning},
		))
	})
}

// StoredOn are the datastores that the VM's configuration, disks and images lie on; none if the VM is gone.
func (v *VCenter) StoredOn(ref types.ManagedObjectReference) (refs []types.ManagedObjectReference) {
	v.withVM(ref, func(ctx *simulator.Context, vm *simulator.VirtualMachine) { refs = slices.Clone(vm.Datastore) })
	return refs
}

// changeFiles changes a VM's files under its lock and the storage's, and tells the model. change may not block.
func (v *VCenter) changeFiles(ref types.ManagedObjectReference, what string,
	change func(*simulator.VirtualMachine, *files) error,
) error {
	var err error
	var stores []types.ManagedObjectReference
	if gone := v.mustVM(ref, what, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		if fault := v.machines.busy(ref, false); fault != nil {
			err = fmt.Errorf("%s of %s: %T", what, ref.Value, fault)
			return
		}
		v.storage.mu.Lock()
		f := v.storage.filesOf(vm)
		v.storage.account(ref, f, -1)
		if err = change(vm, f); err != nil {
			err = fmt.Errorf("%s of %s: %w", what, ref.Value, err)
		}
		v.storage.account(ref, f, 1)
		stores = f.stores()
		v.storage.mu.Unlock()
		ctx.Update(vm, changed())
		v.publishFiles(ctx, vm)
	}); gone != nil {
		return gone
	}
	v.publishStores(stores)
	return err
}

// filesOf are the VM's files: what is known, else what the VM's configuration says. The caller holds the VM's lock
// and the storage's.
func (s *storage) filesOf(vm *simulator.VirtualMachine) *files {
	if f := s.files[vm.Self]; f != nil {
		return f
	}
	f := &files{}
	f.home, f.vmx = s.locate(vm.Config.Files.VmPathName)
	f.folder, f.vmx = path.Dir(f.vmx), path.Base(f.vmx)
	for _, device := range vm.Config.Hardware.Device {
		d, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		kept := f.newDisk(vm.Name, DiskOptions{})
		kept.key, kept.capacity = d.Key, d.CapacityInBytes
		if d.UnitNumber != nil {
			kept.unit = *d.UnitNumber
		}
		if b, ok := d.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
			on, file := s.locate(b.GetVirtualDeviceFileBackingInfo().FileName)
			kept.datastore, kept.name = on, strings.TrimSuffix(path.Base(file), ".vmdk")
		}
		if b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && !isTrue(b.ThinProvisioned) {
			kept.links = []int64{kept.capacity}
		}
		f.disks = append(f.disks, kept)
	}
	s.files[vm.Self] = f
	s.account(vm.Self, f, 1)
	return f
}

// locate is the datastore and the rest of a path as vCenter writes it.
func (s *storage) locate(file string) (ref types.ManagedObjectReference, rest string) {
	var p object.DatastorePath
	p.FromString(file)
	for ref, on := range s.stores {
		if on.name == p.Datastore {
			return ref, p.Path
		}
	}
	return ref, p.Path
}

func (s *storage) knows(vm types.ManagedObjectReference) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[vm] != nil
}

// account adds the VM's files to their datastores, or with -1 takes them off; the caller holds the lock.
func (s *storage) account(vm types.ManagedObjectReference, f *files, sign int64) {
	for ref, u := range f.usage() {
		if on := s.stores[ref]; on != nil {
			on.used += sign * u.Committed
			on.uncommitted += sign * u.Uncommitted
		}
	}
	for _, ref := range f.stores() {
		on := s.stores[ref]
		switch {
		case on == nil:
		case sign > 0:
			on.vms[vm] = true
		default:
			delete(on.vms, vm)
		}
	}
}

// usage is what the VM takes of each datastore.
func (f *files) usage() map[types.ManagedObjectReference]types.VirtualMachineUsageOnDatastore {
	out := map[types.ManagedObjectReference]types.VirtualMachineUsageOnDatastore{}
	add := func(ref types.ManagedObjectReference, committed, uncommitted int64) {
		u := out[ref]
		u.Datastore, u.Committed, u.Uncommitted = ref, u.Committed+committed, u.Uncommitted+uncommitted
		u.Unshared = u.Committed
		out[ref] = u
	}
	add(f.home, f.homeBytes, 0)
	for _, d := range f.disks {
		add(d.datastore, d.used(), d.uncommitted())
	}
	return out
}

// stores are the datastores that the VM touches, that of its configuration first.
func (f *files) stores() []types.ManagedObjectReference {
	refs := []types.ManagedObjectReference{f.home}
	for _, d := range f.disks {
		refs = append(refs, d.datastore)
	}
	for _, i := range f.isos {
		refs = append(refs, i.datastore)
	}
	var out []types.ManagedObjectReference
	for _, ref := range refs {
		if !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

// forgetFiles frees what a VM that is gone took. The simulator calls it under the VM's lock.
func (v *VCenter) forgetFiles(vm types.ManagedObjectReference) {
	v.storage.mu.Lock()
	f := v.storage.files[vm]
	if f != nil {
		v.storage.account(vm, f, -1)
		delete(v.storage.files, vm)
	}
	v.storage.mu.Unlock()
	if f == nil || !v.begin() {
		return
	}
	go func() {
		defer v.work.Done()
		v.publishStores(f.stores())
	}()
}

// extend makes disks larger, and returns the datastores that they lie on.
func (m *machine) extend(larger map[int32]int64) ([]types.ManagedObjectReference, types.BaseMethodFault) {
	if len(larger) == 0 {
		return nil, nil
	}
	s := &m.vcenter.storage
	s.mu.Lock()
	defer s.mu.Unlock()
	f, need := s.filesOf(m.vm), map[types.ManagedObjectReference]int64{}
	for _, d := range f.disks {
		bytes, ok := larger[d.key]
		switch {
		case !ok:
			continue
		case bytes < d.capacity, bytes > d.capacity && len(d.links) > 1:
			return nil, &types.InvalidDeviceOperation{BadOp: types.VirtualDeviceConfigSpecOperationEdit}
		case !d.thin() && !d.raw:
			need[d.datastore] += bytes - d.capacity
		}
	}
	for ref, bytes := range need {
		if on := s.stores[ref]; on != nil && bytes > on.free() {
			return nil, noSpace(on, f)
		}
	}
	s.account(m.Self, f, -1)
	for _, d := range f.disks {
		bytes, ok := larger[d.key]
		if ok && !d.thin() && !d.raw {
			d.links[0] = bytes
		}
		if ok {
			d.capacity = bytes
		}
	}
	s.account(m.Self, f, 1)
	return f.stores(), nil
}

func noSpace(on *store, f *files) *types.NoDiskSpace {
	return &types.NoDiskSpace{FileFault: types.FileFault{File: fmt.Sprintf("[%s] %s", on.name, f.folder)}, Datastore: on.name}
}

// larger is the new size of the disks whose size the spec changes; nil if it changes other devices, or none.
func (m *machine) larger(spec *types.VirtualMachineConfigSpec) map[int32]int64 {
	if len(spec.DeviceChange) == 0 {
		return nil
	}
	s, out := &m.vcenter.storage, map[int32]int64{}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.filesOf(m.vm).disks
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		d, ok := c.Device.(*types.VirtualDisk)
		if !ok || c.Operation != types.VirtualDeviceConfigSpecOperationEdit || c.FileOperation != "" ||
			!slices.ContainsFunc(known, func(has *disk) bool { return has.key == d.Key }) {
			return nil
		}
		out[d.Key] = max(d.CapacityInBytes, d.CapacityInKB*1024)
	}
	return out
}

// RefreshStorageInfo serves RefreshStorageInfo: nothing is old here.
func (m *machine) RefreshStorageInfo(*simulator.Context, *types.RefreshStorageInfo) soap.HasFault {
	return &methods.RefreshStorageInfoBody{Res: &types.RefreshStorageInfoResponse{}}
}

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
