package simulation

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// publishStores writes what the datastores hold into the model, and the sums of their pods. No lock may be held.
func (v *VCenter) publishStores(refs []types.ManagedObjectReference) {
	pods := map[string]bool{}
	for _, ref := range refs {
		v.storage.mu.Lock()
		if s := v.storage.stores[ref]; s != nil && s.pod != "" {
			pods[s.pod] = true
		}
		v.storage.mu.Unlock()
		ctx := v.context("")
		if ds, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok {
			ctx.WithLock(ds, func() { ctx.Update(ds, v.storage.properties(ds)) })
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		v.publishPod(name)
	}
}

// properties of a datastore, whose lock the caller holds.
func (st *storage) properties(ds *simulator.Datastore) []types.PropertyChange {
	st.mu.Lock()
	defer st.mu.Unlock()
	s, ok := st.stores[ds.Self]
	if !ok {
		return nil
	}
	mode := normalOfStore
	if s.maintenance {
		mode = maintenanceOfStore
	}
	self := ds.Self
	mounts, shared := slices.Clone(ds.Host), len(s.hosts) > 1
	for i := range mounts {
		accessible := !s.inaccessible
		mounts[i].MountInfo.Accessible = &accessible
	}
	return []types.PropertyChange{
		{Name: "summary", Val: types.DatastoreSummary{
			Datastore: &self, Name: s.name, Url: s.url, Capacity: s.capacity, FreeSpace: s.free(), Uncommitted: s.uncommitted,
			Accessible: !s.inaccessible, MultipleHostAccess: &shared, Type: s.kind, MaintenanceMode: mode,
		}},
		{Name: "info", Val: s.info()},
		{Name: "host", Val: mounts},
		{Name: "vm", Val: st.vmsOn(ds, s)},
	}
}

func (s *store) info() types.BaseDatastoreInfo {
	now := time.Now()
	head := types.DatastoreInfo{
		Name: s.name, Url: s.url, FreeSpace: s.free(), MaxFileSize: s.capacity, MaxVirtualDiskCapacity: s.capacity,
		MaxMemoryFileSize: s.capacity, Timestamp: &now,
	}
	switch {
	case strings.EqualFold(s.kind, "vmfs"):
		local := false
		return &types.VmfsDatastoreInfo{DatastoreInfo: head, Vmfs: &types.HostVmfsVolume{
			HostFileSystemVolume: types.HostFileSystemVolume{Type: s.kind, Name: s.name, Capacity: s.capacity},
			BlockSizeMb:          1, MajorVersion: 6, Version: "6.82", Uuid: s.name, Local: &local,
		}}
	case strings.HasPrefix(strings.ToLower(s.kind), "nfs"):
		return &types.NasDatastoreInfo{DatastoreInfo: head}
	case s.kind == "vsan":
		return &types.VsanDatastoreInfo{DatastoreInfo: head}
	}
	return &head
}

// vmsOn are the VMs with files there: those that are known, and those that the simulator put there itself.
func (st *storage) vmsOn(ds *simulator.Datastore, s *store) []types.ManagedObjectReference {
	vms := slices.DeleteFunc(slices.Clone(ds.Vm), func(vm types.ManagedObjectReference) bool { return st.files[vm] != nil && !s.vms[vm] })
	for vm := range s.vms {
		if !slices.Contains(vms, vm) {
			vms = append(vms, vm)
		}
	}
	slices.SortFunc(vms, func(a, b types.ManagedObjectReference) int { return strings.Compare(a.Value, b.Value) })
	return append([]types.ManagedObjectReference{}, vms...)
}

func (v *VCenter) publishPod(name string) {
	v.storage.mu.Lock()
	ref := v.storage.pods[name]
	v.storage.mu.Unlock()
	ctx := v.context("")
	pod, ok := ctx.Map.Get(ref).(*simulator.StoragePod)
	if !ok {
		return
	}
	ctx.WithLock(pod, func() {
		sum := types.StoragePodSummary{Name: name}
		for _, d := range v.Datastores() {
			if d.Pod == name {
				sum.Capacity, sum.FreeSpace = sum.Capacity+d.CapacityBytes, sum.FreeSpace+d.FreeBytes
			}
		}
		ctx.Update(pod, []types.PropertyChange{{Name: "summary", Val: sum}})
	})
}

// datastoreView serves the calls that refresh a datastore, whose numbers are never old here and which the simulator
// would make up.
type datastoreView struct{ Self types.ManagedObjectReference }

// Reference makes it a managed object: the datastore's.
func (d *datastoreView) Reference() types.ManagedObjectReference { return d.Self }

// RefreshDatastore serves RefreshDatastore.
func (*datastoreView) RefreshDatastore(*simulator.Context, *types.RefreshDatastore) soap.HasFault {
	return &methods.RefreshDatastoreBody{Res: &types.RefreshDatastoreResponse{}}
}

// RefreshDatastoreStorageInfo serves RefreshDatastoreStorageInfo.
func (*datastoreView) RefreshDatastoreStorageInfo(*simulator.Context, *types.RefreshDatastoreStorageInfo) soap.HasFault {
	return &methods.RefreshDatastoreStorageInfoBody{Res: &types.RefreshDatastoreStorageInfoResponse{}}
}
