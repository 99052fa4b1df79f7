package vcenter

import (
	"reflect"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestWhatHAKeepsIsReadByItsPolicy(t *testing.T) {
	v, g, s, asker := roomy(t)
	cluster := v.Inventory().Clusters[0]
	vms := v.TaggedVMs("")
	check(t, v.SetReservation(vms[0].Ref, simulation.Reservation{CPUMHz: 1000, MemoryMB: 2048, OverheadMB: 60}))
	check(t, v.SetReservation(vms[1].Ref, simulation.Reservation{MemoryMB: 4096}))
	running := []vsphere.Claims{
		{Claim: vsphere.Claim{CPUMHz: leastMHz}, Number: 3},
		{Claim: vsphere.Claim{CPUMHz: leastMHz, MemoryMB: 4096}, Number: 1},
		{Claim: vsphere.Claim{CPUMHz: 1000, MemoryMB: 2108}, Number: 1},
	}
	least := vsphere.Claim{CPUMHz: leastMHz}
	for name, c := range map[string]struct {
		policy types.BaseClusterDasAdmissionControlPolicy
		want   *vsphere.Failover
	}{
		"none":          {&types.ClusterDasAdmissionControlPolicy{}, nil},
		"by percentage": {&types.ClusterFailoverResourcesAdmissionControlPolicy{CpuFailoverResourcesPercent: 25, MemoryFailoverResourcesPercent: 30}, &vsphere.Failover{CPUPercent: 25, MemoryPercent: 30}},
		"by slots":      {&types.ClusterFailoverLevelAdmissionControlPolicy{FailoverLevel: 1}, &vsphere.Failover{Slots: &vsphere.Slots{Failures: 1, AtLeast: least, VMs: running}}},
		"by slots of a fixed size": {
			&types.ClusterFailoverLevelAdmissionControlPolicy{FailoverLevel: 2, SlotPolicy: &types.ClusterFixedSizeSlotPolicy{Cpu: 500, Memory: 1024}},
			&vsphere.Failover{Slots: &vsphere.Slots{Failures: 2, Fixed: vsphere.Claim{CPUMHz: 500, MemoryMB: 1024}, AtLeast: least, VMs: running}},
		},
		"by hosts": {
			&types.ClusterFailoverHostAdmissionControlPolicy{FailoverHosts: []types.ManagedObjectReference{cluster.Hosts[1].Ref}},
			&vsphere.Failover{Hosts: []vsphere.Ref{fromMoRef(cluster.Hosts[1].Ref)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, v.SetAdmission(cluster.Name, &simulation.Admission{HA: c.policy}))
			_, err := g.Room(t.Context(), &s, []vsphere.Ref{fromMoRef(asker)})
			check(t, err)
			var want []vsphere.Failover
			if c.want != nil {
				c.want.Cluster = s.Scope
				want = []vsphere.Failover{*c.want}
			}
			if !reflect.DeepEqual(s.Failover, want) {
				t.Errorf("read %+v, want %+v", s.Failover, want)
			}
		})
	}
}

func TestTheOptionsOfHABoundItsSlots(t *testing.T) {
	options := []types.BaseOptionValue{
		&types.OptionValue{Key: "das.slotMemInMB", Value: " 2048"}, &types.OptionValue{Key: "das.slotcpuinmhz", Value: int32(500)},
		&types.OptionValue{Key: "das.vmmemoryminmb", Value: "many"},
	}
	got := inventory{}.slots(vsphere.Ref{}, &types.ClusterFailoverLevelAdmissionControlPolicy{FailoverLevel: 1}, options)
	if got.AtMost != (vsphere.Claim{CPUMHz: 500, MemoryMB: 2048}) || got.AtLeast != (vsphere.Claim{CPUMHz: leastMHz}) {
		t.Errorf("%+v", got)
	}
}
