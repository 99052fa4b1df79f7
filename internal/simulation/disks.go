package simulation

import (
	"fmt"
	"path"
	"slices"

	"github.com/vmware/govmomi/simulator"
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

// extend makes disks larger, and returns the datastores that they lie on.
func (m *machine) extend(larger map[int32]int64) ([]types.ManagedObjectReference, types.BaseMethodFault) {
	if len(larger) == 0 {
		return nil, nil
	}
	s := &m.vcenter.storage
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.filesOf(m.vm)
	if fault := s.refuseExtend(f, larger); fault != nil {
		return nil, fault
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

// refuseExtend refuses disks that would shrink or have a snapshot, and those that their datastore has no room for.
func (s *storage) refuseExtend(f *files, larger map[int32]int64) types.BaseMethodFault {
	need := map[types.ManagedObjectReference]int64{}
	for _, d := range f.disks {
		bytes, ok := larger[d.key]
		switch {
		case !ok:
			continue
		case bytes < d.capacity, bytes > d.capacity && len(d.links) > 1:
			return &types.InvalidDeviceOperation{BadOp: types.VirtualDeviceConfigSpecOperationEdit}
		case !d.thin() && !d.raw:
			need[d.datastore] += bytes - d.capacity
		}
	}
	for ref, bytes := range need {
		if on := s.stores[ref]; on != nil && bytes > on.free() {
			return noSpace(on, f)
		}
	}
	return nil
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
