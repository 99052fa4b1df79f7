package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// roomSite is clusterA with three hosts of 96 GHz and 512 000 MB, of which each lacks 12 GHz and 40 000 MB for a VM of 8
// CPUs and 64 000 MB. esx-4 is of another cluster, and empty.
func roomSite(vms ...vsphere.VM) scenario {
	return scenario{
		snapshot: vsphere.Snapshot{
			Time: now, Scope: clusterA, ScopeName: "cluster-a", VMs: vms,
			Hosts: []vsphere.Host{
				roomy("1", 84_000, 488_000), roomy("2", 84_000, 488_000), roomy("3", 84_000, 488_000),
				roomy("4", 0, 0, func(h *vsphere.Host) { h.Cluster = clusterB }),
			},
		},
		demand: policy.Demand{
			Tag: "preemptible", Scope: clusterA, Now: now,
			Rooms: []policy.Room{{For: "db-1", VM: vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-99"}, Priority: 500, CPUs: 8, MemoryMB: 64_000}},
		},
		policy: policy.Default(),
	}
}

func roomScenarios() map[string]scenario {
	low, middle, high := priority("10"), priority("20"), priority("500")
	crowd := []vsphere.VM{
		vm(1, on("1"), uses(13_000, 20_000), low), vm(2, on("1"), uses(2000, 30_000), low), vm(3, on("1"), uses(14_000, 60_000), middle),
		vm(4, on("2"), uses(20_000, 90_000), low), vm(5, on("2"), uses(1000, 90_000), low), vm(6, on("2"), uses(90_000, 400_000), high),
		vm(7, on("3"), uses(13_000, 41_000), low), vm(8, on("3"), uses(6000, 20_000), low), vm(9, on("3"), uses(7000, 21_000), low),
	}
	host := func(n int, change func(*vsphere.Host)) func(*scenario) {
		return func(s *scenario) { change(&s.snapshot.Hosts[n-1]) }
	}
	return map[string]scenario{
		"a host that has the room needs no power-off":                roomSite(crowd...).with(host(2, func(h *vsphere.Host) { h.CPUUsedMHz, h.MemoryUsedMB = 70_000, 448_000 })),
		"one VM of low priority is enough, and the closest fit goes": roomSite(crowd...),
		"reserved memory decides although usage is free": roomSite(
			vm(1, on("1"), uses(9000, 90_000), low, reserves(0, 39_000)), vm(2, on("1"), uses(100, 1000), low, reserves(1000, 40_000)), vm(3, on("1"), uses(100, 1000), low),
		).with(func(s *scenario) {
			s.demand.Rooms[0].CPUReservedMHz, s.demand.Rooms[0].MemoryReservedMB = 10_000, 65_000
			for i := range s.snapshot.Hosts {
				h := &s.snapshot.Hosts[i]
				h.CPUUsedMHz, h.MemoryUsedMB, h.CPUReservedMHz, h.MemoryReservedMB = 10_000, 100_000, 86_000, 487_000
			}
		}),
		"of two hosts the one that needs fewer of the highest priority": roomSite(
			vm(1, on("1"), uses(6000, 20_000), middle), vm(2, on("1"), uses(6000, 20_000), middle),
			vm(3, on("2"), uses(4000, 10_000), low), vm(4, on("2"), uses(4000, 10_000), low), vm(5, on("2"), uses(4000, 20_000), middle),
		),
		"a lower priority comes before fewer VMs": roomSite(
			vm(1, on("1"), uses(12_000, 40_000), middle), vm(2, on("3"), uses(4000, 20_000), low), vm(3, on("3"), uses(4000, 20_000), low), vm(4, on("3"), uses(4000, 0), low),
		),
		"a VM that its owner protects stays": roomSite(
			vm(1, on("1"), uses(12_000, 40_000), low, tagged(policy.CategoryProtect, policy.TagDoNotPreempt)),
			vm(2, on("1"), uses(12_000, 40_000), middle), vm(3, on("2"), uses(12_000, 40_000), priority("ten")),
		),
		"a group's budget refuses": roomSite(vm(1, on("1"), uses(6000, 20_000), low, group("web")), vm(2, on("1"), uses(6000, 20_000), low, group("web"))).with(func(s *scenario) {
			s.policy.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 1}}}
		}),
		"the scope's budget refuses": roomSite(vm(1, on("1"), uses(6000, 20_000), low), vm(2, on("1"), uses(6000, 20_000), low)).with(func(s *scenario) {
			s.policy.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 2}}}
			s.demand.Evictions = []policy.Eviction{{VM: vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-77"}, Time: now.Add(-time.Minute)}}
		}),
		"maxVMs refuses": roomSite(crowd[0:3]...).with(func(s *scenario) {
			s.policy.MaxVMs, s.demand.Already = 3, 3
		}),
		"two limits refuse together": roomSite(vm(1, on("1"), uses(6000, 20_000), low, group("web")), vm(2, on("1"), uses(6000, 20_000), low, group("web"))).with(func(s *scenario) {
			s.policy.MaxVMs, s.policy.Budgets = 1, []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 1}}}
		}),
		"a limit is kept by going up in priority": roomSite(crowd[1:3:3]...).with(func(s *scenario) {
			s.policy.MaxVMs = 1
			s.snapshot.VMs = append(s.snapshot.VMs, vm(10, on("1"), uses(10_000, 10_000), low))
		}),
		"a closed window refuses": roomSite(crowd...).with(func(s *scenario) {
			s.policy.Budgets = []policy.Budget{{Window: "0 2 * * *", Duration: clock.Duration(2 * time.Hour)}}
		}),
		"nothing is enough": roomSite(crowd[1], crowd[4], crowd[5], crowd[7],
			vm(10, on("3"), uses(2000, 12_000), middle), vm(11, on("3"), uses(3000, 1000), middle), vm(12, on("3"), uses(2000, 3000), low)),
		"no host can take it": roomSite(crowd...).with(func(s *scenario) {
			s.demand.Rooms[0].CPUs = 20
			h := s.snapshot.Hosts
			h[0].Connected, h[1].InMaintenance, h[2].Threads = false, true, 16
			h[3].Cluster, h[3].MemoryMB = clusterA, 32_000
		}),
		"a host without the networks of the one who asks does not count": roomSite(crowd...).with(func(s *scenario) {
			s.demand.Rooms[0].CannotTake = map[string]string{s.snapshot.Hosts[2].Ref.String(): "it does not have the network db-net"}
		}),
		"what is on its way counts as freed": roomSite(crowd...).with(func(s *scenario) {
			s.demand.Credits = []policy.Credit{{Host: s.snapshot.Hosts[0].Ref, CPUMHz: 4000, MemoryMB: 30_000}, {Host: s.snapshot.Hosts[0].Ref, CPUMHz: 8000, MemoryMB: 10_000}}
		}),
		"slots decide although the host has room": roomSite(
			vm(1, on("1"), uses(100, 1000), middle), vm(2, on("1"), uses(100, 1000), low), vm(3, on("2"), uses(100, 1000), low), vm(4, on("2"), uses(100, 1000), low),
		).with(roomyHosts, slotted(1, 10_000, 103)),
		"the largest VM goes, and the slots become smaller": roomSite(
			vm(1, on("1"), uses(100, 1000), middle, reserves(0, 64_000)), vm(2, on("1"), uses(100, 1000), low), vm(3, on("2"), uses(100, 1000), low),
		).with(roomyHosts, slotted(1, 10_000, 20), func(s *scenario) {
			slots := s.snapshot.Failover[0].Slots
			slots.Fixed = vsphere.Claim{}
			slots.VMs = append(slots.VMs, vsphere.Claims{Claim: vsphere.Claim{CPUMHz: 32, MemoryMB: 64_000}, Number: 1})
		}),
		"too few slots even when all have gone": roomSite(vm(1, on("1"), uses(100, 1000), low), vm(2, on("2"), uses(100, 1000), low)).with(roomyHosts, slotted(2, 10_000, 53)),
		"a host that is kept for failover takes no VM": roomSite(crowd...).with(func(s *scenario) {
			s.snapshot.Failover = []vsphere.Failover{{Cluster: clusterA, Hosts: []vsphere.Ref{s.snapshot.Hosts[2].Ref}}}
		}),
		"a VM of the pool goes although another one is cheaper": roomSite(
			vm(1, on("1"), uses(100, 1000), low, reserves(0, 9000)), vm(2, on("1"), uses(100, 1000), middle, reserves(0, 9000)),
		).with(roomyHosts, pooledMB(2000, 2)),
		"a pool refuses, and is named": roomSite(
			vm(1, on("1"), uses(100, 1000), low, reserves(0, 9000)), vm(2, on("2"), uses(100, 1000), low, reserves(0, 7000)),
		).with(roomyHosts, pooledMB(2000, 2)),
		"two rooms draw on one pool": roomSite(
			vm(1, on("1"), uses(100, 1000), low, reserves(0, 9000)), vm(2, on("2"), uses(100, 1000), low, reserves(0, 9000)),
		).with(roomyHosts, pooledMB(12_000, 1, 2), func(s *scenario) {
			second := s.demand.Rooms[0]
			second.For = "db-2"
			s.demand.Rooms = append(s.demand.Rooms, second)
		}),
		"a percentage refuses, and is named": roomSite(vm(1, on("1"), uses(100, 1000), low, reserves(0, 1000))).with(roomyHosts, func(s *scenario) {
			s.demand.Rooms[0].MemoryReservedMB = 10_000
			s.snapshot.Failover = []vsphere.Failover{{Cluster: clusterA, CPUPercent: 33, MemoryPercent: 33}}
			for i := range s.snapshot.Hosts {
				s.snapshot.Hosts[i].MemoryReservedMB = 341_000
			}
		}),
		"the VM that asks is not powered off for itself": roomSite(slices.Concat(crowd[6:], []vsphere.VM{vm(99, on("3"), uses(50_000, 200_000), low)})...).with(func(s *scenario) {
			s.demand.Rooms[0].For = ""
		}),
	}
}

// roomyHosts has each host use so little that what it has is enough.
func roomyHosts(s *scenario) {
	for i := range s.snapshot.Hosts {
		h := &s.snapshot.Hosts[i]
		h.CPUUsedMHz, h.MemoryUsedMB = 1000, 10_000
	}
}

// pooledMB has the asker reserve 10 000 MB in a pool that has so many, and in which these VMs are.
func pooledMB(unreserved int64, vms ...int) func(*scenario) {
	return func(s *scenario) {
		pool := &policy.RoomPool{Pool: vsphere.Ref{Type: "ResourcePool", Value: "resgroup-1"}, Name: "databases", Unreserved: unreserved}
		for _, n := range vms {
			pool.VMs = append(pool.VMs, vm(n).Ref)
		}
		s.demand.Rooms[0].MemoryReservedMB, s.demand.Rooms[0].MemoryPool = 10_000, pool
	}
}

// slotted has HA keep slots of so many MB, of which so many VMs take one each.
func slotted(failures int, mb int64, vms int) func(*scenario) {
	return func(s *scenario) {
		size := vsphere.Claim{CPUMHz: 32, MemoryMB: mb}
		s.snapshot.Failover = []vsphere.Failover{{Cluster: clusterA, Slots: &vsphere.Slots{
			Failures: failures, Fixed: size, AtLeast: vsphere.Claim{CPUMHz: 32}, VMs: []vsphere.Claims{{Claim: size, Number: vms}},
		}}}
	}
}

func TestGoldenRoomPlans(t *testing.T) { checkGolden(t, "rooms", roomScenarios()) }
