package policy_test

import (
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// roomy is a host of clusterA with 32 cores of 3 GHz, 64 logical processors and 512 000 MB, of which this much is in use.
func roomy(n string, cpu, memory int64, changes ...func(*vsphere.Host)) vsphere.Host {
	changes = append([]func(*vsphere.Host){func(h *vsphere.Host) { h.CPUMHz, h.CoreMHz, h.Threads = 96_000, 3000, 64 }}, changes...)
	return host(n, clusterA, cpu, memory, changes...)
}

// reserves is a change that gives a VM its reservations.
func reserves(cpuMHz, memoryMB int64) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.CPUReservedMHz, v.MemoryReservedMB = cpuMHz, memoryMB }
}

func TestATargetWhosePriorityWasRaisedMakesNoRoom(t *testing.T) {
	s := roomSite(vm(1, on("1"), uses(13_000, 60_000), priority("499")))
	plan := policy.Choose(s.snapshot, s.demand, s.policy)
	if got := refsOf(plan); len(got) != 1 {
		t.Fatalf("chose %v", got)
	}
	for tag, want := range map[string][]policy.Spared{
		"499": nil,
		"500": {{
			Ref: s.snapshot.VMs[0].Ref, Name: "batch-1", Reason: policy.PriorityNotLower, Detail: "priority 500, the one who asks has 500",
		}},
	} {
		s.snapshot.VMs[0].Tags[policy.CategoryPriority] = []string{tag}
		if got := policy.RecheckAll(s.snapshot, s.demand, s.policy, refsOf(plan)); !slices.Equal(got, want) {
			t.Errorf("with priority %s, spared are %+v, want %+v", tag, got, want)
		}
	}
}

func TestAHostThatDoesNotCountSaysWhy(t *testing.T) {
	for want, change := range map[string]func(*vsphere.Host){
		"it is in standby":                                             func(h *vsphere.Host) { h.Standby, h.Connected = true, false },
		"it is in maintenance":                                         func(h *vsphere.Host) { h.InMaintenance = true },
		"it is entering maintenance":                                   func(h *vsphere.Host) { h.EnteringMaintenance = true },
		"it is not connected":                                          func(h *vsphere.Host) { h.Connected = false },
		"the speed of its cores is not known":                          func(h *vsphere.Host) { h.CoreMHz = 0 },
		"even without any VM, it lacks 1.0 GHz of CPU":                 func(h *vsphere.Host) { h.CPUMHz = 23_000 },
		"it has 7 logical processors, fewer than the 8 CPUs asked for": func(h *vsphere.Host) { h.Threads = 7 },
		"even without any VM, it lacks 512 MiB of memory, 7.0 GHz of unreserved CPU and 6.8 GiB of unreserved memory": func(h *vsphere.Host) {
			h.CPUMHz, h.MemoryMB, h.CoreMHz = 24_000, 64_000-512, 1000
		},
	} {
		s := roomSite(vm(1, on("1"), uses(90_000, 500_000), priority("1")))
		s.snapshot.Hosts = []vsphere.Host{roomy("1", 0, 0, change)}
		if h := s.snapshot.Hosts[0]; h.CoreMHz == 1000 {
			s.demand.Rooms[0].CPUReservedMHz, s.demand.Rooms[0].MemoryReservedMB = 31_000, 70_500
		}
		plan := policy.Choose(s.snapshot, s.demand, s.policy)
		if got := plan.Rooms[0].Hosts[0].Why; got != want || plan.Rooms[0].Refusal != "no host can take it: esx-1: "+want || plan.Spared[0].Reason != policy.NoHost {
			t.Errorf("got %q and %q, spared %+v, want %q", got, plan.Rooms[0].Refusal, plan.Spared, want)
		}
	}
}

func TestWithoutAHostThereIsNoRoom(t *testing.T) {
	s := roomSite(vm(1, on("1"), uses(90_000, 500_000), priority("1")))
	s.snapshot.Hosts = s.snapshot.Hosts[3:]
	plan := policy.Choose(s.snapshot, s.demand, s.policy)
	if plan.Rooms[0].Enough || plan.Rooms[0].Refusal != "no host of the scope is known" || plan.Spared[0].Reason != policy.NotMeasured {
		t.Errorf("got %+v, spared %+v", plan.Rooms[0], plan.Spared)
	}
}

func TestRoomDoesNotFollowThePolicysTarget(t *testing.T) {
	s := roomSite(vm(1, on("1"), uses(13_000, 60_000), priority("1")), vm(2, on("2"), uses(13_000, 10_000), priority("1")))
	want := asJSON(t, policy.Choose(s.snapshot, s.demand, s.policy))
	s.policy.Target = policy.Goal{CPU: 10, Memory: 10, IfShort: policy.ShortNone}
	if got := asJSON(t, policy.Choose(s.snapshot, s.demand, s.policy)); got != want {
		t.Errorf("with a target the plan is\n%s\nwithout\n%s", got, want)
	}
}

func TestOfEquallyCheapSetsTheFirstInOrderGoes(t *testing.T) {
	s := roomSite(
		vm(1, on("1"), uses(6000, 20_000), priority("1")), vm(2, on("1"), uses(6000, 20_000), priority("1")),
		vm(3, on("1"), uses(10_000, 16_000), priority("1")), vm(4, on("1"), uses(2000, 24_000), priority("1")),
	)
	if got, want := names(policy.Choose(s.snapshot, s.demand, s.policy)), []string{"batch-1", "batch-2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.demand.Preempted = map[string]int{s.snapshot.VMs[0].Ref.String(): 1, s.snapshot.VMs[1].Ref.String(): 1}
	if got, want := names(policy.Choose(s.snapshot, s.demand, s.policy)), []string{"batch-3", "batch-4"}; !slices.Equal(got, want) {
		t.Errorf("with two that were preempted before, got %v, want %v", got, want)
	}
}

func TestRoomsAreMadeOneAfterTheOtherAndNoneTakesWhatAnotherHas(t *testing.T) {
	vms := []vsphere.VM{
		vm(1, on("1"), uses(13_000, 41_000), priority("1")), vm(2, on("1"), uses(24_000, 64_000), priority("2")),
		vm(3, on("2"), uses(13_000, 41_000), priority("3")), vm(4, on("3"), uses(13_000, 41_000), priority("900")),
	}
	s := roomSite(vms...)
	first := s.demand.Rooms[0]
	s.demand.Rooms = []policy.Room{first, first, first, first}
	s.demand.Rooms[1].For, s.demand.Rooms[2].For, s.demand.Rooms[3].For = "db-2", "db-3", "db-4"
	plan := policy.Choose(s.snapshot, s.demand, s.policy)
	var hosts []string
	seen := map[vsphere.Ref]bool{}
	for _, room := range plan.Rooms {
		hosts = append(hosts, room.HostName)
		for _, ref := range room.Targets {
			if seen[ref] {
				t.Errorf("%v goes twice", ref)
			}
			seen[ref] = true
		}
	}
	if want := []string{"esx-1", "esx-1", "esx-2", ""}; !slices.Equal(hosts, want) || len(plan.Targets) != 3 || plan.Rooms[3].Enough || plan.Rooms[3].Refusal == "" {
		t.Errorf("rooms on %q, targets %v, the last %+v", hosts, refsOf(plan), plan.Rooms[3])
	}
	s.policy.MaxVMs = 1
	if plan := policy.Choose(s.snapshot, s.demand, s.policy); len(plan.Targets) != 1 || !plan.Rooms[0].Enough || plan.Rooms[1].Enough {
		t.Errorf("maxVMs is passed: %v", refsOf(plan))
	}
}

func TestRoomThatIsHeldIsTaken(t *testing.T) {
	s := roomSite(vm(1, on("1"), uses(13_000, 41_000), priority("1")), vm(2, on("2"), uses(13_000, 41_000), priority("2")))
	held := policy.Choose(s.snapshot, s.demand, s.policy).Rooms[0].Room
	if held.Host != s.snapshot.Hosts[0].Ref || held.MemoryMB != 64_000 {
		t.Fatalf("the first room: %+v", held)
	}
	s.demand.HeldRooms = []policy.HeldRoom{held}
	if room := policy.Choose(s.snapshot, s.demand, s.policy).Rooms[0]; room.Host != s.snapshot.Hosts[1].Ref {
		t.Errorf("the next room is on %s, where one is held: %+v", room.HostName, room)
	}
}

func TestARefusalOfVCenterFreesTheNextVMsOnTheSameHost(t *testing.T) {
	s := roomSite(
		vm(1, on("1"), uses(13_000, 41_000), priority("1")), vm(2, on("1"), uses(100, 100), priority("2")), vm(3, on("1"), uses(100, 100), priority("3")),
		vm(4, on("2"), uses(90_000, 400_000), priority("1")),
	)
	s.demand.Rooms[0].On, s.demand.Rooms[0].Further = s.snapshot.Hosts[0].Ref, 1
	for _, c := range []struct{ further, maxVMs, goes int }{{1, 10, 2}, {2, 10, 3}, {4, 10, 3}, {2, 2, 2}} {
		s.demand.Rooms[0].Further, s.policy.MaxVMs = c.further, c.maxVMs
		plan := policy.Choose(s.snapshot, s.demand, s.policy)
		if !plan.Rooms[0].Enough || len(plan.Targets) != c.goes || plan.Targets[0].Ref != vm(1).Ref {
			t.Errorf("%+v: %v go, %+v", c, refsOf(plan), plan.Rooms[0])
		}
	}
	s.policy.MaxVMs = 1
	if plan := policy.Choose(s.snapshot, s.demand, s.policy); plan.Rooms[0].Enough || len(plan.Targets) != 0 {
		t.Errorf("no further VM may go, and still %v do", refsOf(plan))
	}
	s.snapshot.VMs, s.policy.MaxVMs = s.snapshot.VMs[3:], 10
	if plan := policy.Choose(s.snapshot, s.demand, s.policy); plan.Rooms[0].Enough || len(plan.Targets) != 0 {
		t.Errorf("room that was begun on one host goes on on another: %+v", plan.Rooms[0])
	}
}

func TestARoomThatIsRefusedHoldsUpNoOther(t *testing.T) {
	s := roomSite(vm(1, on("1"), uses(13_000, 41_000), priority("1")))
	s.demand.Rooms = []policy.Room{{For: "gone", Refused: "it no longer exists"}, s.demand.Rooms[0]}
	plan := policy.Choose(s.snapshot, s.demand, s.policy)
	if plan.Rooms[0].Refusal != "it no longer exists" || plan.Rooms[0].Enough || !plan.Rooms[1].Enough || len(plan.Targets) != 1 {
		t.Errorf("%+v", plan.Rooms)
	}
}

func TestWhatHAKeepsForFailoverIsNoRoom(t *testing.T) {
	low := priority("1")
	s := roomSite(
		vm(1, on("1"), uses(100, 100), low, reserves(0, 30_000)), vm(2, on("1"), uses(100, 100), low, reserves(0, 30_000)), vm(3, on("2"), uses(100, 100), low, reserves(0, 30_000)),
	)
	for i := range s.snapshot.Hosts {
		h := &s.snapshot.Hosts[i]
		h.CPUUsedMHz, h.MemoryUsedMB, h.MemoryReservedMB = 1000, 1000, 300_000
	}
	s.demand.Rooms[0].MemoryReservedMB = 65_000
	if plan := policy.Choose(s.snapshot, s.demand, s.policy); len(plan.Targets) != 0 || !plan.Rooms[0].Enough {
		t.Fatalf("each host has room: %v", refsOf(plan))
	}
	for percent, goes := range map[int64]int{30: 0, 38: 1, 40: 2, 42: -1, 90: -1} { // of 1,536,000 MB of three hosts, 900,000 are reserved
		s.snapshot.Failover = []vsphere.Failover{{Cluster: clusterA, MemoryPercent: percent}}
		plan := policy.Choose(s.snapshot, s.demand, s.policy)
		if goes < 0 && (plan.Rooms[0].Enough || len(plan.Targets) > 0) || goes >= 0 && (len(plan.Targets) != goes || !plan.Rooms[0].Enough) {
			t.Errorf("at %d %%: %v, %s", percent, refsOf(plan), plan.Rooms[0].Refusal)
		}
	}
}
