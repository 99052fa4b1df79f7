package vcenter

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestHostsInStandbyAreToldAndWhetherDPMWakesThem(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 4, Tagged: 4})
	cluster := v.Inventory().Clusters[0]
	check(t, v.SetHostStandby(cluster.Hosts[1].Ref, true))
	for mode, want := range map[types.DpmBehavior]bool{types.DpmBehaviorAutomated: true, types.DpmBehaviorManual: false, "": false} {
		check(t, v.SetDPM(cluster.Name, mode))
		s, err := g.Candidates(t.Context(), "preemptible", Scope{Ref: fromMoRef(cluster.Ref), Detail: true})
		check(t, err)
		var asleep *vsphere.Host
		for i := range s.Hosts {
			if s.Hosts[i].Ref == fromMoRef(cluster.Hosts[1].Ref) {
				asleep = &s.Hosts[i]
			}
		}
		if len(s.Hosts) != 2 || asleep == nil || asleep.Connected || !asleep.Standby || asleep.Wakeable != want {
			t.Errorf("DPM %q: %+v", mode, s.Hosts)
		}
	}
}
