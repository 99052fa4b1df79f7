package vcenter

import (
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const typePool = "ResourcePool"

// Properties of resource pools, and of vApps, which are pools too.
const (
	cpuUnreserved    = "runtime.cpu.unreservedForVm"
	memoryUnreserved = "runtime.memory.unreservedForVm" // in bytes
	cpuExpandable    = "config.cpuAllocation.expandableReservation"
	memoryExpandable = "config.memoryAllocation.expandableReservation"
)

// poolSpec reads the pools above those who ask, and the pools and VMs that these hold.
func poolSpec(askers []vsphere.Ref) types.PropertyFilterSpec {
	of := types.PropertyFilterSpec{PropSet: []types.PropertySpec{
		{Type: typePool, PathSet: []string{"name", "parent", cpuUnreserved, memoryUnreserved, cpuExpandable, memoryExpandable}},
		{Type: vsphere.TypeVM, PathSet: []string{"resourcePool"}},
	}}
	up, down := &types.SelectionSpec{Name: "poolsAbove"}, &types.SelectionSpec{Name: "poolsBelow"}
	below := []types.BaseSelectionSpec{
		&types.TraversalSpec{
			SelectionSpec: *down, Type: typePool, Path: "resourcePool",
			SelectSet: []types.BaseSelectionSpec{down, &types.TraversalSpec{Type: typePool, Path: "vm"}},
		},
		&types.TraversalSpec{Type: typePool, Path: "vm"},
		&types.TraversalSpec{SelectionSpec: *up, Type: typePool, Path: "parent", SelectSet: []types.BaseSelectionSpec{up, down, &types.TraversalSpec{Type: typePool, Path: "vm"}}},
	}
	for _, ref := range askers {
		of.ObjectSet = append(of.ObjectSet, types.ObjectSpec{
			Obj: toMoRef(ref), SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: vsphere.TypeVM, Path: "resourcePool", SelectSet: below}},
		})
	}
	return of
}

// poolsOf are the pools that bound what the asker may reserve of CPU and memory.
func (inv inventory) poolsOf(asker vsphere.Ref, s *vsphere.Snapshot) (cpu, memory *policy.RoomPool) {
	own := inv[asker].refTo("resourcePool")
	return inv.boundedBy(own, cpuUnreserved, cpuExpandable, 1, s), inv.boundedBy(own, memoryUnreserved, memoryExpandable, bytesPerMB, s)
}

// boundedBy is the pool that bounds what VMs of a pool may reserve: the pool itself, unless it takes what it lacks from one
// above, and that one has no more. nil: the cluster's root pool does, which stands for all its hosts, or none is seen.
func (inv inventory) boundedBy(own vsphere.Ref, unreserved, expandable string, unit int64, s *vsphere.Snapshot) *policy.RoomPool {
	_, seen := inv[own].props[unreserved]
	if !seen {
		return nil
	}
	at := own
	for depth := 0; depth < maxDepth && inv.isPool(inv[at].refTo("parent")) && inv[at].flag(expandable); depth++ {
		above := inv[at].refTo("parent")
		if inv[above].number(unreserved) > inv[own].number(unreserved) {
			break // a limit below it bounds
		}
		at = above
	}
	if !inv.isPool(inv[at].refTo("parent")) {
		return nil
	}
	pool := &policy.RoomPool{Pool: at, Name: unescape(inv[at].text("name")), Unreserved: inv[own].number(unreserved) / unit}
	for i := range s.VMs {
		if vm := s.VMs[i].Ref; inv.inPool(vm, at) {
			pool.VMs = append(pool.VMs, vm)
		}
	}
	return pool
}

func (inv inventory) isPool(ref vsphere.Ref) bool {
	_, ok := inv[ref]
	return ok && (ref.Type == typePool || ref.Type == "VirtualApp")
}

// inPool reports whether a VM is in a pool, or in one below it.
func (inv inventory) inPool(vm, pool vsphere.Ref) bool {
	at := inv[vm].refTo("resourcePool")
	for depth := 0; depth < maxDepth && !at.Zero(); depth++ {
		if at == pool {
			return true
		}
		at = inv[at].refTo("parent")
	}
	return false
}
