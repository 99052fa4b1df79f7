package policy

import (
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// drawnFrom is what a planned room takes from a resource pool.
type drawnFrom struct {
	pool    vsphere.Ref
	memory  bool
	reserve int64
}

// poolCount is how the pool that bounds the VM's reservations stands for one resource of one room.
type poolCount struct {
	*RoomPool                      // nil: nothing bounds it
	missing   int64                // before anybody goes, after the rooms before
	members   map[vsphere.Ref]bool // that give back to it
}

// countPools counts what the pools of the room lack, after what earlier rooms of the plan take and what went for them.
func (c *clearing) countPools() (counts [2]poolCount) {
	for r, pool := range []*RoomPool{c.room.CPUPool, c.room.MemoryPool} {
		if pool == nil {
			continue
		}
		need := []int64{c.room.CPUReservedMHz, c.room.MemoryReservedMB}[r]
		count := poolCount{RoomPool: pool, missing: need - pool.Unreserved, members: map[vsphere.Ref]bool{}}
		for _, vm := range pool.VMs {
			count.members[vm] = true
		}
		for _, d := range c.drawn {
			if d.pool == pool.Pool && d.memory == (r == 1) {
				count.missing += d.reserve
			}
		}
		for vm := range c.gone {
			count.missing -= count.given(vm, vm.gives()[2+r])
		}
		count.missing = max(0, count.missing)
		counts[r] = count
	}
	return counts
}

// given is what of a candidate's reservation comes back to the pool.
func (p *poolCount) given(c *candidate, reserved int64) int64 {
	if p.members[c.vm.Ref] {
		return reserved
	}
	return 0
}

// draw notes what the room that was just planned takes from its pools.
func (c *clearing) draw() {
	if pool := c.room.CPUPool; pool != nil {
		c.drawn = append(c.drawn, drawnFrom{pool.Pool, false, c.room.CPUReservedMHz})
	}
	if pool := c.room.MemoryPool; pool != nil {
		c.drawn = append(c.drawn, drawnFrom{pool.Pool, true, c.room.MemoryReservedMB})
	}
}

// remedy says what to do about a pool that has too little.
func (p *poolCount) remedy(resource string) string {
	return fmt.Sprintf("resource pool %s gives no more: raise its reservation or limit of %s, make its reservation expandable, or move the VM to another pool", p.Name, resource)
}
