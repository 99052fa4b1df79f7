package vcenter

import (
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// moved is where the VM would be moved from the first datastore, and in words why not.
func moved(t *testing.T, g *Gateway, source, vm vsphere.Ref) (to vsphere.Ref, why string) {
	t.Helper()
	st, err := g.Storage(t.Context(), source, vsphere.Ref{})
	check(t, err)
	for _, one := range st.VMs {
		if one.Ref == vm {
			r, reason := placement.Destination(st, one, vsphere.Ref{}, placement.Demand{Source: source}, placement.Move{})
			return r.Destination, reason
		}
	}
	t.Fatalf("%s is not on %s", vm, source)
	return to, ""
}

func TestAVMWithAStoragePolicyMovesOnlyWhereVCenterFindsThatCompatible(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 3, Tagged: 3})
	source, vms := stores(v, 0)[0], taggedRefs(v)
	for _, vm := range vms {
		_, err := v.AddDisk(toMoRef(vm), simulation.DiskOptions{CapacityGB: 100, UsedGB: 100, Datastore: toMoRef(source)})
		check(t, err)
	}
	roomy, err := v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "roomy", CapacityGB: 100000})
	check(t, err)
	gold, err := v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "gold", CapacityGB: 50000})
	check(t, err)
	v.SetStoragePolicy(toMoRef(vms[1]), "gold", gold)
	v.SetStoragePolicy(toMoRef(vms[2]), "nowhere")
	if to, why := moved(t, g, source, vms[0]); to != fromMoRef(roomy) {
		t.Errorf("without a policy: to %s, %s", to, why)
	}
	if to, why := moved(t, g, source, vms[1]); to != fromMoRef(gold) {
		t.Errorf("with a policy that gold meets: to %s, %s", to, why)
	}
	if to, why := moved(t, g, source, vms[2]); !to.Zero() || !strings.Contains(why, "does not meet its storage policy") {
		t.Errorf("with a policy that nothing meets: to %s, %s", to, why)
	}
	_, err = g.Relocate(t.Context(), vms[1], source, fromMoRef(gold))
	check(t, err)
	v.HideStoragePolicies()
	if to, why := moved(t, g, source, vms[0]); !to.Zero() || !strings.Contains(why, "StorageProfile.View") {
		t.Errorf("where policies cannot be seen: to %s, %s", to, why)
	}
}
