package vcenter

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestOfManyTaggedVMsOnlyThoseOfTheScopeAreRead(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 3, HostsPerCluster: 2, VMsPerCluster: 6, Tagged: 5})
	cluster := v.Inventory().Clusters[1]
	vms := v.TaggedVMs(cluster.Name)
	check(t, v.SetPowerState(vms[0].Ref, off))
	check(t, v.SetTags(vms[1].Ref, policy.CategoryGroup, "db"))
	check(t, v.SetTags(v.TaggedVMs(v.Inventory().Clusters[2].Name)[0].Ref, policy.CategoryGroup, "db")) // a member elsewhere
	check(t, g.RefreshTags(t.Context()))
	for _, c := range []struct{ narrow, vms, elsewhere int }{{0, 15, 0}, {15, 15, 0}, {14, 5, 10}} {
		scope := detailed(cluster)
		scope.Narrow = c.narrow
		s, err := g.Candidates(t.Context(), "preemptible", scope)
		check(t, err)
		if len(s.VMs) != c.vms || len(s.Elsewhere) != c.elsewhere || len(s.Others) != 0 || s.Groups["db"].Total != 2 || len(s.Groups["db"].Up) != 2 {
			t.Errorf("narrowed above %d: %d VMs, %d elsewhere, others %v, groups %+v", c.narrow, len(s.VMs), len(s.Elsewhere), s.Others, s.Groups)
		}
		for _, vm := range s.VMs {
			if c.elsewhere > 0 && vm.Cluster != fromMoRef(cluster.Ref) {
				t.Errorf("%s is of %s", vm.Name, vm.Cluster)
			}
		}
	}
	host := Scope{Ref: fromMoRef(vms[1].Host), Narrow: 1}
	s, err := g.Candidates(t.Context(), "preemptible", host)
	check(t, err)
	if len(s.VMs) == 0 || len(s.VMs) > 4 || len(s.VMs)+len(s.Elsewhere) != 15 {
		t.Errorf("of a host: %d VMs, %d elsewhere", len(s.VMs), len(s.Elsewhere))
	}
	_, err = g.Candidates(t.Context(), "preemptible", Scope{Ref: vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c99999"}, Narrow: 1})
	wantKind(t, err, ScopeNotFound)
}
