package vcenter

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestWhatWentDownWithItsHostIsTold(t *testing.T) {
	v, g := warm(t, simulation.Options{})
	cluster := v.Cluster("cluster-a")
	if got, err := g.Fallen(t.Context(), "preemptible", fromMoRef(cluster.Ref)); err != nil || len(got) != 0 {
		t.Fatalf("before: %v, %v", got, err)
	}
	tagged := v.TaggedVMs("cluster-a")
	died := tagged[0].Host
	for _, vm := range tagged { // one that its owner powered off in time, and another one elsewhere
		if vm.Host == died && vm.Ref != tagged[0].Ref || vm.Host != died {
			check(t, v.PowerOffAs(vm.Ref, "CORP\\owner"))
		}
	}
	_, err := v.KillHost(died)
	check(t, err)
	got, err := g.Fallen(t.Context(), "preemptible", fromMoRef(cluster.Ref))
	if err != nil || len(got) != 1 || got[0] != fromMoRef(tagged[0].Ref) {
		t.Errorf("%v, %v: want %v", got, err, tagged[0].Ref)
	}
	_, err = g.Fallen(t.Context(), "no such tag", fromMoRef(cluster.Ref))
	wantKind(t, err, TagNotFound)
}
