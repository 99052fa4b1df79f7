package simulation_test

import (
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestAResourcePoolWithoutUnreservedMemoryRefusesAPowerOn(t *testing.T) {
	none := simulation.PoolShare{Expandable: true}
	for name, c := range map[string]struct {
		cpu, memory simulation.PoolShare
		leaves      int64 // MB
		is          func(error) bool
	}{
		"its own reservation is used up": {none, simulation.PoolShare{Reservation: 6 << 10}, 2 << 10, isFault[*types.InsufficientMemoryResourcesFault]},
		"its limit is reached":           {none, simulation.PoolShare{Limit: 7 << 10, Expandable: true}, 3 << 10, isFault[*types.InsufficientMemoryResourcesFault]},
		"too little CPU":                 {simulation.PoolShare{Reservation: 400}, none, 0, isFault[*types.InsufficientCpuResourcesFault]},
		"it takes what it lacks":         {none, simulation.PoolShare{Reservation: 6 << 10, Expandable: true}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v, client, asker := admitting(t, simulation.Admission{})
			other := v.TaggedVMs("cluster-a")[0].Ref
			must(t, v.SetReservation(asker, simulation.Reservation{CPUMHz: 500, MemoryMB: 4 << 10}))
			must(t, v.SetReservation(other, simulation.Reservation{MemoryMB: 4 << 10}))
			pool, err := v.PutInPool("cluster-a", ref{}, "bounded", c.cpu, c.memory, asker, other)
			must(t, err)
			var got mo.ResourcePool
			properties(t, client, pool, &got, "runtime")
			if c.leaves > 0 && got.Runtime.Memory.UnreservedForVm != c.leaves<<20 {
				t.Errorf("%d bytes are unreserved, want %d MB", got.Runtime.Memory.UnreservedForVm, c.leaves)
			}
			if err := powerOn(t, client, asker, nil); (c.is == nil) != (err == nil) || err != nil && !c.is(err) {
				t.Fatalf("%v", err)
			}
			must(t, v.PowerOffAs(other, "owner@corp.example"))
			if c.leaves > 0 {
				must(t, powerOn(t, client, asker, nil))
			}
		})
	}
}
