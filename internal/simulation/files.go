package simulation

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
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

type image struct {
	datastore types.ManagedObjectReference
	path      string
}

// SetHomeUsage lets what is no disk of the VM (configuration, logs, swap) take so much where its configuration is; 0
// unless set.
func (v *VCenter) SetHomeUsage(ref types.ManagedObjectReference, gb int) error {
	return v.changeFiles(ref, "set the size of the home", func(_ *simulator.VirtualMachine, f *files) error {
		f.homeBytes = int64(gb) * bytesPerGB
		return nil
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

// RefreshStorageInfo serves RefreshStorageInfo: nothing is old here.
func (m *machine) RefreshStorageInfo(*simulator.Context, *types.RefreshStorageInfo) soap.HasFault {
	return &methods.RefreshStorageInfoBody{Res: &types.RefreshStorageInfoResponse{}}
}
