package e2e

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// slotsFor lets HA of cluster-a keep slots for a host to fail: of a size of which so many are missing once a VM that is off
// takes one.
func slotsFor(t *testing.T, s *sitetest.Site, missing int) {
	t.Helper()
	cluster := s.VC.Cluster("cluster-a")
	const host = 64 << 10 // MB
	slots := len(cluster.VMs) - missing
	each := slots / (len(cluster.Hosts) - 1)
	if each*(len(cluster.Hosts)-1) != slots {
		t.Fatalf("%d slots are not the same number on %d hosts", slots, len(cluster.Hosts)-1)
	}
	policy := &types.ClusterFailoverLevelAdmissionControlPolicy{
		FailoverLevel: 1, SlotPolicy: &types.ClusterFixedSizeSlotPolicy{Cpu: 32, Memory: int32(host / each)},
	}
	s.Must(s.VC.SetAdmission("cluster-a", &simulation.Admission{HA: policy}))
}

// TestWhereHACountsSlotsExactlySoManyGoInOneRound powers a VM on for which HA lacks two slots and the hosts lack nothing.
func TestWhereHACountsSlotsExactlySoManyGoInOneRound(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker := "cluster-a-app-01"
	s.Asks(asker, 12<<10, "") // more than one slot
	slotsFor(t, s, 1)
	if err := s.VC.PowerOnAs(s.VC.VM(asker), "CORP\\owner"); err == nil {
		t.Fatal("HA admits the VM although slots are missing")
	}
	s.AskForRoom(s.ID("room"), s.RoomRequest(asker))
	o := wantRoom(t, s.RoomsDecided(s.ID("room"), 1), preemptapi.RoomRunning, 2, "")
	if len(o.Rounds) != 1 || len(o.Refusals) != 0 || s.OffIn("") != 2 {
		t.Errorf("it took %d rounds and %d refusals, and %d are off: %s", len(o.Rounds), len(o.Refusals), s.OffIn(""), sitetest.Pretty(o))
	}
}

func TestRoomThatHAWouldRefuseEvenSoIsRefusedBeforeAnybodyGoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy func(simulation.Cluster) types.BaseClusterDasAdmissionControlPolicy
		says   string
	}{
		"by slots": {func(simulation.Cluster) types.BaseClusterDasAdmissionControlPolicy {
			return &types.ClusterFailoverLevelAdmissionControlPolicy{FailoverLevel: 1, SlotPolicy: &types.ClusterFixedSizeSlotPolicy{Cpu: 32, Memory: 32 << 10}}
		}, "HA's admission control keeps slots for one host to fail"},
		"by hosts": {func(c simulation.Cluster) types.BaseClusterDasAdmissionControlPolicy {
			p := &types.ClusterFailoverHostAdmissionControlPolicy{}
			for _, h := range c.Hosts {
				p.FailoverHosts = append(p.FailoverHosts, h.Ref)
			}
			return p
		}, "it is kept for failover"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t)
			s.Worker()
			asker := "cluster-a-app-01"
			s.Asks(asker, 0, "")
			s.Must(s.VC.SetAdmission("cluster-a", &simulation.Admission{HA: c.policy(s.VC.Cluster("cluster-a"))}))
			id := s.ID(strings.ReplaceAll(name, " ", "-"))
			s.AskForRoom(id, s.RoomRequest(asker))
			wantRoom(t, s.RoomsDecided(id, 1), preemptapi.RoomRefused, 0, c.says)
			if s.OffIn("") != 0 {
				t.Errorf("%d VMs went", s.OffIn(""))
			}
		})
	}
}

// inPool puts VMs into a resource pool of cluster-a that gives no more than so much memory.
func inPool(s *sitetest.Site, memoryMB int64, names ...string) {
	s.T.Helper()
	var vms []types.ManagedObjectReference
	for _, name := range names {
		vms = append(vms, s.VC.VM(name))
	}
	_, err := s.VC.PutInPool("cluster-a", types.ManagedObjectReference{}, "databases", simulation.PoolShare{Expandable: true}, simulation.PoolShare{Reservation: memoryMB}, vms...)
	s.Must(err)
	s.Must(s.VC.SetAdmission("cluster-a", &simulation.Admission{}))
}

func TestWhereAResourcePoolIsUsedUpItsOwnVMsGo(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker, goes := "cluster-a-app-01", s.VC.TaggedVMs("cluster-a")[2]
	s.Asks(asker, 6<<10, "")
	s.Must(s.VC.SetReservation(goes.Ref, simulation.Reservation{MemoryMB: 8 << 10}))
	inPool(s, 10<<10, asker, goes.Name)
	if err := s.VC.PowerOnAs(s.VC.VM(asker), "CORP\\owner"); err == nil {
		t.Fatal("the pool admits the VM although it has too little")
	}
	s.AskForRoom(s.ID("room"), s.RoomRequest(asker))
	o := wantRoom(t, s.RoomsDecided(s.ID("room"), 1), preemptapi.RoomRunning, 1, "")
	if len(o.Rounds) != 1 || o.Gone[0].Ref != sitetest.Ref(goes.Ref) || s.OffIn("") != 1 {
		t.Errorf("not the one VM of the pool has gone: %s", sitetest.Pretty(o))
	}
}

func TestRoomThatAResourcePoolWouldRefuseEvenSoIsRefusedBeforeAnybodyGoes(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker := "cluster-a-app-01"
	s.Asks(asker, 6<<10, "")
	inPool(s, 4<<10, asker)
	s.AskForRoom(s.ID("room"), s.RoomRequest(asker))
	wantRoom(t, s.RoomsDecided(s.ID("room"), 1), preemptapi.RoomRefused, 0, "resource pool databases gives no more: raise its reservation or limit of memory")
	if s.OffIn("") != 0 {
		t.Errorf("%d VMs went", s.OffIn(""))
	}
}
