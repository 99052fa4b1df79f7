package simulation

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// PoolShare is what a resource pool may give of one resource, in MHz or MB.
type PoolShare struct {
	Reservation int64
	Limit       int64 // 0: none
	Expandable  bool  // what the reservation lacks is taken from the pool above
}

// pool is a resource pool that PutInPool made; CPU first, then memory.
type pool struct {
	ref, parent types.ManagedObjectReference
	cluster     types.ManagedObjectReference
	shares      [2]PoolShare
	vms         []types.ManagedObjectReference
}

// PutInPool makes a resource pool in a cluster, in its root pool or in one that was made before, and puts VMs into it. Its
// runtime says what is unreserved; power-ons that it cannot give their reservations are refused where SetAdmission says so.
func (v *VCenter) PutInPool(cluster string, in types.ManagedObjectReference, name string, cpu, memory PoolShare, vms ...types.ManagedObjectReference) (types.ManagedObjectReference, error) {
	ctx := v.context("")
	var none types.ManagedObjectReference
	c, ok := ctx.Map.Get(v.Cluster(cluster).Ref).(*simulator.ClusterComputeResource)
	if !ok {
		return none, fmt.Errorf("make pool %q: the simulated vCenter has no cluster %s", name, cluster)
	}
	if in.Value == "" {
		in = *c.ResourcePool
	}
	above, ok := ctx.Map.Get(in).(*simulator.ResourcePool)
	if !ok {
		return none, fmt.Errorf("make pool %q: there is no resource pool %s", name, in.Value)
	}
	spec := types.DefaultResourceConfigSpec()
	cpu.fill(&spec.CpuAllocation)
	memory.fill(&spec.MemoryAllocation)
	body, ok := above.CreateResourcePool(ctx, &types.CreateResourcePool{This: in, Name: name, Spec: spec}).(*methods.CreateResourcePoolBody)
	if !ok || body.Res == nil {
		return none, fmt.Errorf("make pool %q: refused", name)
	}
	made := &pool{ref: body.Res.Returnval, parent: in, cluster: c.Self, shares: [2]PoolShare{cpu, memory}, vms: slices.Clone(vms)}
	for _, ref := range vms {
		if err := v.moveToPool(ref, made.ref); err != nil {
			return none, err
		}
	}
	v.admission.mu.Lock()
	defer v.admission.mu.Unlock()
	v.admission.pools = append(v.admission.pools, made)
	return made.ref, nil
}

func (s PoolShare) fill(a *types.ResourceAllocationInfo) {
	a.Reservation, a.ExpandableReservation, a.Limit = &s.Reservation, &s.Expandable, types.NewInt64(-1)
	if s.Limit > 0 {
		a.Limit = &s.Limit
	}
}

func (v *VCenter) moveToPool(vm, to types.ManagedObjectReference) error {
	ctx := v.context("")
	m, ok := ctx.Map.Get(vm).(*simulator.VirtualMachine)
	if !ok {
		return fmt.Errorf("there is no VM %s", vm.Value)
	}
	if m.ResourcePool != nil {
		if from, ok := ctx.Map.Get(*m.ResourcePool).(*simulator.ResourcePool); ok {
			ctx.WithLock(from, func() { simulator.RemoveReference(&from.Vm, vm) })
		}
	}
	if in, ok := ctx.Map.Get(to).(*simulator.ResourcePool); ok {
		ctx.WithLock(in, func() { in.Vm = append(in.Vm, vm) })
	}
	ctx.WithLock(m, func() { ctx.Update(m, []types.PropertyChange{{Name: "resourcePool", Val: to}}) })
	return nil
}

// poolsNow are the pools that were made.
func (a *admission) poolsNow() []*pool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.pools)
}

// poolOf is the pool that a VM was put into; nil: none that was made.
func (v *VCenter) poolOf(vm types.ManagedObjectReference) *pool {
	for _, p := range v.admission.poolsNow() {
		if slices.Contains(p.vms, vm) {
			return p
		}
	}
	return nil
}

// reservedIn is what the VMs of a pool that are on reserve, or its pools below keep.
func (v *VCenter) reservedIn(p *pool) (used [2]int64) {
	for _, vm := range p.vms {
		if c, powered := v.claimOf(vm); powered {
			used[0], used[1] = used[0]+c.mhz, used[1]+c.mb
		}
	}
	for _, child := range v.admission.poolsNow() {
		if child.parent == p.ref {
			for r, n := range v.reservedIn(child) {
				used[r] += max(n, child.shares[r].Reservation)
			}
		}
	}
	return used
}

// unreserved is what VMs of a pool may still reserve, of CPU and memory.
func (v *VCenter) unreserved(p *pool) (free [2]int64) {
	used := v.reservedIn(p)
	for r, share := range p.shares {
		free[r] = max(0, share.Reservation-used[r])
		if share.Expandable {
			free[r] += v.unreservedAbove(p)[r]
		}
		if share.Limit > 0 {
			free[r] = min(free[r], max(0, share.Limit-used[r]))
		}
	}
	return free
}

// unreservedAbove is what a pool may take from the one above.
func (v *VCenter) unreservedAbove(p *pool) [2]int64 {
	for _, above := range v.admission.poolsNow() {
		if above.ref == p.parent {
			return v.unreserved(above)
		}
	}
	return v.unreservedRoot(p.cluster)
}

// unreservedRoot is what the root pool of a cluster has: the capacity of its hosts, less what is reserved in it.
func (v *VCenter) unreservedRoot(cluster types.ManagedObjectReference) (free [2]int64) {
	inventory := v.Inventory()
	at := slices.IndexFunc(inventory.Clusters, func(c Cluster) bool { return c.Ref == cluster })
	if at < 0 {
		return free
	}
	for _, h := range inventory.Clusters[at].Hosts {
		v.load.mu.Lock()
		size := v.load.size[h.Ref]
		v.load.mu.Unlock()
		free[0], free[1] = free[0]+int64(size.mhz), free[1]+int64(size.mb)
	}
	for _, vm := range inventory.Clusters[at].VMs {
		if c, powered := v.claimOf(vm.Ref); powered && v.poolOf(vm.Ref) == nil {
			free[0], free[1] = free[0]-c.mhz, free[1]-c.mb
		}
	}
	made := v.admission.poolsNow()
	for _, p := range made {
		if p.cluster != cluster || slices.ContainsFunc(made, func(above *pool) bool { return above.ref == p.parent }) {
			continue
		}
		for r, n := range v.reservedIn(p) {
			free[r] -= max(n, p.shares[r].Reservation)
		}
	}
	return [2]int64{max(0, free[0]), max(0, free[1])}
}

// poolLacks returns the fault of a power-on for which the VM's resource pool has too little, nil if it has enough.
func (v *VCenter) poolLacks(c claim) types.BaseMethodFault {
	p := v.poolOf(c.ref)
	if p == nil {
		return nil
	}
	switch free := v.unreserved(p); {
	case c.mhz > free[0]:
		return &types.InsufficientCpuResourcesFault{Unreserved: free[0], Requested: c.mhz}
	case c.mb > free[1]:
		return &types.InsufficientMemoryResourcesFault{Unreserved: free[1] * bytesPerMB, Requested: c.mb * bytesPerMB}
	}
	return nil
}

// tellPools brings the runtime of the pools up to date, which is read right after: that of those that were made, and of the root
// pools above them.
func (v *VCenter) tellPools() {
	ctx := v.context("")
	for _, p := range v.admission.poolsNow() {
		v.tellPool(ctx, p.ref, v.unreserved(p))
		if c, ok := ctx.Map.Get(p.cluster).(*simulator.ClusterComputeResource); ok && p.parent == *c.ResourcePool {
			v.tellPool(ctx, p.parent, v.unreservedRoot(p.cluster))
		}
	}
}

func (v *VCenter) tellPool(ctx *simulator.Context, ref types.ManagedObjectReference, free [2]int64) {
	made, ok := ctx.Map.Get(ref).(*simulator.ResourcePool)
	if !ok {
		return
	}
	ctx.WithLock(made, func() {
		for r, u := range []*types.ResourcePoolResourceUsage{&made.Runtime.Cpu, &made.Runtime.Memory} {
			unit := []int64{1, bytesPerMB}[r]
			u.UnreservedForVm, u.UnreservedForPool = free[r]*unit, free[r]*unit
		}
	})
}
