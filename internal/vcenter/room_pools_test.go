package vcenter

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestThePoolThatBoundsAnAskerIsFound(t *testing.T) {
	open := simulation.PoolShare{Expandable: true}
	for name, c := range map[string]struct {
		outer, inner simulation.PoolShare // of memory
		want         string
		unreserved   int64
	}{
		"nothing is bounded":            {open, open, "", 0},
		"its own pool is closed":        {open, simulation.PoolShare{Reservation: 4096}, "inner", 4096},
		"its own pool has a limit":      {open, simulation.PoolShare{Limit: 5000, Expandable: true}, "inner", 5000},
		"the pool above is closed":      {simulation.PoolShare{Reservation: 8192}, open, "outer", 6192},
		"the pool above is the smaller": {simulation.PoolShare{Reservation: 8192}, simulation.PoolShare{Limit: 60_000, Expandable: true}, "outer", 6192},
	} {
		t.Run(name, func(t *testing.T) {
			v, g, s, asker := roomy(t)
			cluster := v.Inventory().Clusters[0].Name
			vm := v.TaggedVMs("")[0].Ref
			check(t, v.SetReservation(vm, simulation.Reservation{MemoryMB: 2000}))
			outer, err := v.PutInPool(cluster, types.ManagedObjectReference{}, "outer", open, c.outer, vm)
			check(t, err)
			_, err = v.PutInPool(cluster, outer, "inner", open, c.inner, asker)
			check(t, err)
			v.ResetCalls()
			list, err := g.Room(t.Context(), &s, []vsphere.Ref{fromMoRef(asker)})
			check(t, err)
			wantCalls(t, v, 2)
			who := list[0]
			switch pool := who.MemoryPool; {
			case who.CPUPool != nil:
				t.Errorf("its CPU is bounded: %+v", who.CPUPool)
			case c.want == "" && pool != nil, c.want != "" && (pool == nil || pool.Name != c.want || pool.Unreserved != c.unreserved):
				t.Errorf("it is bounded by %+v, want %d MB of %q", pool, c.unreserved, c.want)
			case c.want == "outer" && (len(pool.VMs) != 1 || pool.VMs[0] != fromMoRef(vm)), c.want == "inner" && len(pool.VMs) != 0:
				t.Errorf("%v give back to it", pool.VMs)
			}
		})
	}
}
