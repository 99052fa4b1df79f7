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
