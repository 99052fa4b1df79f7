package vcenter

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestTheVersionIsOneThatBothKnow(t *testing.T) {
	for name, tc := range map[string]struct{ server, agreed string }{
		"a vCenter 7.0":              {"7.0.3.0", "7.0.3.0"},
		"a vCenter 8.0":              {"8.0.2.0", "8.0.2.0"},
		"a vCenter newer than we do": {"99.1.0.0", vim25.Version},
	} {
		t.Run(name, func(t *testing.T) {
			o := small()
			o.APIVersion = tc.server
			v := simulated(t, o)
			g := gateway(t, v)
			snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
			check(t, err)
			ref := snapshot.VMs[0].Ref
			_, err = g.PowerOff(t.Context(), ref)
			check(t, err)
			if g.ServiceVersion() != tc.agreed || !strings.HasPrefix(g.Version(), strings.TrimSuffix(tc.server, ".0")) {
				t.Errorf("agreed on %q with %q", g.ServiceVersion(), g.Version())
			}
		})
	}
}

func TestAVCenterThatTellsNoVersionsIsAskedInOurs(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 1, NoVersions: true})
	g := gateway(t, v)
	check(t, g.Connect(t.Context()))
	if g.ServiceVersion() != vim25.Version {
		t.Errorf("agreed on %q", g.ServiceVersion())
	}
}
