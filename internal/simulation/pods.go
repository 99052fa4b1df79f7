package simulation

import (
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// RecommendedWith lets every later recommendation be this datastore, whatever is free; the zero value withdraws that.
func (v *VCenter) RecommendedWith(datastore types.ManagedObjectReference) {
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	v.storage.recommended = datastore
}

// storageManager serves one RecommendDatastores.
type storageManager struct {
	Self    types.ManagedObjectReference
	vcenter *VCenter
}

// Reference makes it a managed object: the storage resource manager's.
func (s *storageManager) Reference() types.ManagedObjectReference { return s.Self }

// RecommendDatastores serves RecommendDatastores for relocations: the datastore of the pod with the most free space
// that can take all of the VM, or none. Other placements are the simulator's.
func (s *storageManager) RecommendDatastores(ctx *simulator.Context, req *types.RecommendDatastores) soap.HasFault {
	spec, body := &req.StorageSpec, &methods.RecommendDatastoresBody{}
	pods := []*types.ManagedObjectReference{spec.PodSelectionSpec.StoragePod}
	for i := range spec.PodSelectionSpec.InitialVmConfig {
		pods = append(pods, &spec.PodSelectionSpec.InitialVmConfig[i].StoragePod)
	}
	for _, ref := range pods {
		if _, ok := podOf(ctx, ref); ref != nil && !ok {
			body.Fault_ = simulator.Fault("there is no such datastore cluster", &types.InvalidArgument{InvalidProperty: "podSelectionSpec.storagePod"})
			return body
		}
	}
	if spec.Type != string(types.StoragePlacementSpecPlacementTypeRelocate) {
		return ctx.Map.Get(s.Self).(*simulator.StorageResourceManager).RecommendDatastores(ctx, req)
	}
	fault := s.recommend(ctx, spec, body)
	if fault != nil {
		body.Fault_ = simulator.Fault("the placement cannot be recommended", fault)
	}
	return body
}

func podOf(ctx *simulator.Context, ref *types.ManagedObjectReference) (*simulator.StoragePod, bool) {
	if ref == nil {
		return nil, false
	}
	pod, ok := ctx.Map.Get(*ref).(*simulator.StoragePod)
	return pod, ok
}

func (s *storageManager) recommend(ctx *simulator.Context, spec *types.StoragePlacementSpec, body *methods.RecommendDatastoresBody) types.BaseMethodFault {
	if spec.Vm == nil {
		return &types.InvalidArgument{InvalidProperty: "vm"}
	}
	vm, ok := ctx.Map.Get(*spec.Vm).(*simulator.VirtualMachine)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: *spec.Vm}
	}
	pod, ok := podOf(ctx, spec.PodSelectionSpec.StoragePod)
	if !ok {
		return &types.InvalidArgument{InvalidProperty: "podSelectionSpec.storagePod"}
	}
	name, enabled := "", false
	ctx.WithLock(pod, func() {
		name, enabled = pod.Name, pod.PodStorageDrsEntry.StorageDrsConfig.PodConfig.Enabled
	})
	if !enabled {
		return &types.InvalidArgument{InvalidProperty: "podSelectionSpec.storagePod"}
	}
	body.Res = &types.RecommendDatastoresResponse{}
	var action *types.StoragePlacementAction
	ctx.WithLock(vm, func() { action = s.vcenter.storage.place(vm, name) })
	if action != nil {
		body.Res.Returnval.Recommendations = []types.ClusterRecommendation{{
			Key: "1", Type: "V1", Time: time.Now(), Rating: 1, Reason: "storagePlacement",
			ReasonText: "Satisfy storage initial placement requests", Action: []types.BaseClusterAction{action}, Target: &pod.Self,
		}}
	}
	return nil
}

// place is where in the pod the VM can go; nil if nowhere. The caller holds the VM's lock.
func (s *storage) place(vm *simulator.VirtualMachine, pod string) *types.StoragePlacementAction {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, to := s.filesOf(vm), s.recommended
	for _, ref := range s.order {
		on := s.stores[ref]
		fits := on.pod == pod && on.usable() && on.hosts[*vm.Runtime.Host] && !slices.Contains(f.stores(), ref) && f.need(ref) <= on.free()
		if s.recommended.Value == "" && fits && (to.Value == "" || on.free() > s.stores[to].free()) {
			to = ref
		}
	}
	if to.Value == "" {
		return nil
	}
	action := &types.StoragePlacementAction{
		ClusterAction: types.ClusterAction{Type: "StoragePlacementV1", Target: &to}, Vm: &vm.Self, Destination: to,
		RelocateSpec: types.VirtualMachineRelocateSpec{Datastore: &to},
	}
	for _, d := range f.disks {
		action.RelocateSpec.Disk = append(action.RelocateSpec.Disk, types.VirtualMachineRelocateSpecDiskLocator{DiskId: d.key, Datastore: to})
	}
	if on := s.stores[to]; on != nil && on.capacity > 0 {
		action.SpaceUtilBefore = 100 * float32(on.capacity-on.free()) / float32(on.capacity)
		action.SpaceUtilAfter = 100 * float32(on.capacity-on.free()+f.need(to)) / float32(on.capacity)
	}
	return action
}

// need is what the VM takes of the datastore when all of it goes there.
func (f *files) need(to types.ManagedObjectReference) (bytes int64) {
	if f.home != to {
		bytes = f.homeBytes
	}
	for _, d := range f.disks {
		if d.datastore != to {
			bytes += d.moved()
		}
	}
	return bytes
}
