package e2e

import (
	"testing"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// planRoom asks who would have to go.
func planRoom(s *sitetest.Site, room preemption.Room) (r preemptapi.RoundResult, err error) {
	s.T.Helper()
	req := preemption.WorkflowRequest{Tag: preemption.DefaultTag, Criticality: preemption.CriticalityHigh, Origin: preemption.OriginPerson, Room: &room}
	run, err := s.Temporal.ExecuteWorkflow(s.T.Context(), client.StartWorkflowOptions{ID: s.ID("plan"), TaskQueue: s.Queue}, preemptapi.PlanType, req)
	if err != nil {
		return r, err
	}
	err = run.Get(s.T.Context(), &r)
	return preemptapi.ResultOf(err, r)
}

func TestAPlanForRoomNamesTheHostThatCostsLeastAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker := s.VC.VM("cluster-a-app-01")
	s.Must(s.VC.PowerOffAs(asker, "CORP\\owner"))
	const host, least = 64 << 10, 6 << 10 // MB
	s.Must(s.VC.SetReservation(asker, simulation.Reservation{MemoryMB: least}))
	byHost := map[string][]simulation.VM{}
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		byHost[vm.Host.Value] = append(byHost[vm.Host.Value], vm)
	}
	for _, vms := range byHost { // on each host 4 GB are left, and each VM that goes gives 3 GB
		for i, vm := range vms {
			mb := int64(3 << 10)
			if i == 0 {
				mb = host - 4<<10 - int64(len(vms)-1)*3<<10
			}
			s.Must(s.VC.SetReservation(vm.Ref, simulation.Reservation{MemoryMB: mb}))
			s.Must(s.VC.SetTags(vm.Ref, policy.CategoryPriority, map[bool]string{true: "9", false: "1"}[i == 0]))
		}
	}
	r, err := planRoom(s, preemption.Room{For: "cluster-a-app-01"})
	if err != nil || r.State != preemptapi.RoundPlanned || len(r.Rooms) != 1 || !r.Rooms[0].Enough || len(r.Targets) != 1 || r.Rooms[0].Hosts[0].Priority != 1 {
		t.Fatalf("%v: %s", err, sitetest.Pretty(r))
	}
	if s.OffIn("") != 0 {
		t.Error("a plan turned VMs off")
	}
	for _, wrong := range []preemption.Room{{For: "no-such-vm"}, {For: "cluster-a-app-02"}, {CPUs: 4, Cluster: "domain-c99999"}, {}} {
		if r, err := planRoom(s, wrong); err == nil && r.State != preemptapi.RoundFailed {
			t.Errorf("%+v is planned: %s", wrong, sitetest.Pretty(r))
		}
	}
	huge, err := planRoom(s, preemption.Room{CPUs: 4, MemoryMB: 1 << 20})
	if err != nil || len(huge.Rooms) != 1 || huge.Rooms[0].Enough || huge.Rooms[0].Refusal == "" || len(huge.Targets) != 0 {
		t.Errorf("%v: %s", err, sitetest.Pretty(huge))
	}
}
