package vcenter

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Relocate moves the VM's disks and configuration files on the source to the destination, and
// returns the task without waiting for it. Its other files, its host and the format of its disks stay.
// Kind InvalidState: it has nothing on the source, as after a move whose end was not seen; or one of its
// disks is on no datastore. Kind NotFound: the VM no longer exists. The files keep their storage policy. Four calls.
func (g *Gateway) Relocate(ctx context.Context, ref vsphere.Ref, source, destination vsphere.Ref) (task vsphere.Ref, err error) {
	const op = "relocate"
	c := call{op: op, object: g.names.describe(ref)}
	if ref.Type != vsphere.TypeVM {
		return vsphere.Ref{}, &Error{Op: op, Object: ref.String(), Kind: NotFound, Err: errNotVM}
	}
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{
			{Type: vsphere.TypeVM, PathSet: append([]string{"name"}, diskProperties...)},
			{Type: vsphere.TypeDatastore, PathSet: []string{"name"}},
		},
		ObjectSet: []types.ObjectSpec{{
			Obj:       toMoRef(ref),
			SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: vsphere.TypeVM, Path: "datastore"}},
		}},
	})
	if err != nil {
		return vsphere.Ref{}, err
	}
	inv := g.inventoryOf(objects)
	vm, ok := inv[ref]
	if !ok {
		return vsphere.Ref{}, &Error{Op: op, Object: c.object, Kind: NotFound, Err: errGone}
	}
	if denied := vm.denied["config.hardware.device"]; denied != nil { // its disks would move with its home
		return vsphere.Ref{}, g.failure(c, denied)
	}
	spec, err := inv.relocateSpec(vm, source, destination)
	if err != nil {
		return vsphere.Ref{}, &Error{Op: op, Object: g.names.describe(ref), Kind: InvalidState, Err: err}
	}
	if err := g.keepPolicies(ctx, vm, &spec); err != nil {
		return vsphere.Ref{}, err
	}
	err = g.onVM(ctx, op, ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.RelocateVM_Task(ctx, s.client, &types.RelocateVM_Task{
			This: toMoRef(ref), Spec: spec, Priority: types.VirtualMachineMovePriorityDefaultPriority,
		})
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	})
	return task, err
}

var errNothingThere = errors.New("it has nothing on the datastore to move it from")

// relocateSpec names the destination of each disk, because disks that are not named would move with the home.
func (inv inventory) relocateSpec(vm object, source, destination vsphere.Ref) (types.VirtualMachineRelocateSpec, error) {
	spec, moves := types.VirtualMachineRelocateSpec{}, false
	if inv.home(vm) == source {
		spec.Datastore, moves = moRefTo(destination), true
	}
	for _, device := range vm.devices() {
		disk, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		at := inv.datastoreOf(vm, disk.Backing)
		switch at {
		case vsphere.Ref{}:
			return spec, fmt.Errorf("disk %d is on no datastore", disk.Key)
		case source:
			at, moves = destination, true
		}
		spec.Disk = append(spec.Disk, types.VirtualMachineRelocateSpecDiskLocator{DiskId: disk.Key, Datastore: toMoRef(at)})
	}
	if !moves {
		return spec, errNothingThere
	}
	return spec, nil
}

func moRefTo(ref vsphere.Ref) *types.ManagedObjectReference {
	r := toMoRef(ref)
	return &r
}

// RecommendDatastore asks Storage DRS where in the storage pod the VM should go. Ok is false if it
// recommends nothing, more than one datastore for the VM, or only with moves of other VMs. The
// recommendation is never applied: use Relocate. One call.
func (g *Gateway) RecommendDatastore(ctx context.Context, vm vsphere.Ref, pod vsphere.Ref) (dest vsphere.Ref, ok bool, err error) {
	c := call{op: "ask for a datastore for", object: g.names.describe(vm)}
	var result types.StoragePlacementResult
	err = g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		manager := s.client.ServiceContent.StorageResourceManager
		if manager == nil {
			return errNoStorageDRS
		}
		res, err := methods.RecommendDatastores(ctx, s.client, &types.RecommendDatastores{
			This: *manager,
			StorageSpec: types.StoragePlacementSpec{
				Type:                      string(types.StoragePlacementSpecPlacementTypeRelocate),
				Vm:                        moRefTo(vm),
				Priority:                  types.VirtualMachineMovePriorityDefaultPriority,
				PodSelectionSpec:          types.StorageDrsPodSelectionSpec{StoragePod: moRefTo(pod)},
				RelocateSpec:              &types.VirtualMachineRelocateSpec{},
				DisallowPrerequisiteMoves: types.NewBool(true),
			},
		})
		if err == nil {
			result = res.Returnval
		}
		return err
	})
	if err != nil {
		return vsphere.Ref{}, false, err
	}
	for _, r := range result.Recommendations {
		if dest, ok := recommended(r); ok {
			return dest, true, nil
		}
	}
	return vsphere.Ref{}, false, nil
}

var errNoStorageDRS = errors.New("this is an ESX host, not a vCenter: it has no Storage DRS")

// recommended is the one datastore of a recommendation.
func recommended(r types.ClusterRecommendation) (dest vsphere.Ref, ok bool) {
	for _, action := range r.Action {
		placement, is := action.(*types.StoragePlacementAction)
		if !is {
			return vsphere.Ref{}, false
		}
		to := fromMoRef(placement.Destination)
		if ok && to != dest {
			return vsphere.Ref{}, false
		}
		dest, ok = to, true
	}
	return dest, ok && len(r.Prerequisite) == 0
}
