package simulation

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

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
