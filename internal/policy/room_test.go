package policy_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// takes is a host of 20 cores of 2.5 GHz and 500 GiB, with so much reserved.
func takes(cpuMHz, memoryMB int64) func(*vsphere.Host) {
	return func(h *vsphere.Host) {
		h.CoreMHz, h.Threads, h.CPUReservedMHz, h.MemoryReservedMB = 2500, 40, cpuMHz, memoryMB
	}
}

func reserves(cpuMHz, memoryMB int64) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.CPUReservedMHz, v.MemoryReservedMB = cpuMHz, memoryMB }
}

// roomSite is clusterA of two hosts that use 40 of 50 GHz and 400,000 of 512,000 MB each; 8 CPUs (20 GHz) and 128,000 MB
// are asked for, so that 10 GHz and 16,000 MB must go.
func roomSite(vms ...vsphere.VM) scenario {
	s := site(vms...)
	s.policy.Target = policy.Goal{}
	s.snapshot.Hosts = []vsphere.Host{host("1", clusterA, 40_000, 400_000, takes(0, 0)), host("2", clusterA, 40_000, 400_000, takes(0, 0))}
	s.demand.Room = &policy.Room{For: "db-1", Priority: 50, CPUs: 8, MemoryMB: 128_000}
	return s
}

func roomScenarios() map[string]scenario {
	low, high := priority("10"), priority("20")
	two := []vsphere.VM{
		vm(1, on("1"), uses(6000, 8000), low), vm(2, on("1"), uses(6000, 9000), low), vm(3, on("1"), uses(9000, 2000), low),
		vm(4, on("2"), uses(12_000, 20_000), high), vm(5, on("2"), uses(1000, 1000), low),
	}
	return map[string]scenario{
		"room is where nobody must go":                                               roomSite(two...).with(func(s *scenario) { s.snapshot.Hosts[1].CPUUsedMHz, s.snapshot.Hosts[1].MemoryUsedMB = 10_000, 10_000 }),
		"room costs two of a low priority rather than one of a higher":               roomSite(two...),
		"room is made for one of the higher priority where the lower are not enough": roomSite(two[3:]...),
		"room in reserved memory decides although usage is low": roomSite(
			vm(1, on("1"), uses(1000, 1000), reserves(0, 64_000), low), vm(2, on("1"), uses(30_000, 30_000), low),
		).with(func(s *scenario) {
			s.snapshot.Hosts = []vsphere.Host{host("1", clusterA, 1000, 1000, takes(0, 480_000))}
			s.demand.Room.MemoryReservedMB = 64_000
		}),
		"room is not made at the cost of an equal": roomSite(vm(1, on("1"), uses(20_000, 40_000), priority("50")), vm(2, on("2"), uses(20_000, 40_000), priority("51"))),
		"room spares who is protected":             roomSite(vm(1, on("1"), uses(20_000, 40_000), low, tagged(policy.CategoryProtect, "do-not-preempt")), vm(2, on("2"), uses(20_000, 40_000), high)),
		"room is refused by a budget": roomSite(vm(1, on("1"), uses(20_000, 40_000), low, group("web"))).with(func(s *scenario) {
			s.policy.Budgets = []policy.Budget{{Group: "web", MinAvailable: policy.Amount{N: 1}}}
		}),
		"room is refused by the limit of a round": roomSite(vm(1, on("1"), uses(6000, 9000), low), vm(2, on("1"), uses(6000, 9000), low)).with(func(s *scenario) { s.policy.MaxVMs = 1 }),
		"room is nowhere even so":                 roomSite(vm(1, on("1"), uses(4000, 40_000), low), vm(2, on("2"), uses(2000, 40_000), low)),
		"room is not on hosts that cannot take it": roomSite(two...).with(func(s *scenario) {
			s.snapshot.Hosts[0].CannotTake = "it does not have the VM's network network-7"
			s.snapshot.Hosts = append(s.snapshot.Hosts, host("4", clusterA, 0, 0, func(h *vsphere.Host) { h.InMaintenance = true }), host("5", clusterA, 0, 0, func(h *vsphere.Host) { h.Threads = 4 }))
		}),
		"room that is being freed counts": roomSite(two...).with(func(s *scenario) {
			s.demand.Credits = []policy.Credit{{Host: s.snapshot.Hosts[1].Ref, CPUMHz: 10_000, MemoryMB: 16_000}}
		}),
	}
}

// randomRoom is a small site that asks for room: up to 4 hosts with up to 6 VMs each.
func randomRoom(r *rand.Rand) scenario {
	var vms []vsphere.VM
	hosts := 1 + r.IntN(4)
	for h := range hosts {
		for range r.IntN(7) {
			changes := []func(*vsphere.VM){
				on(strconv.Itoa(h)), uses(r.Int64N(12_000), r.Int64N(60_000)), reserves(r.Int64N(5000), r.Int64N(40_000)), priority(strconv.Itoa(r.IntN(4))),
			}
			if r.IntN(3) == 0 {
				changes = append(changes, group(fmt.Sprint("g", r.IntN(2))))
			}
			vms = append(vms, vm(len(vms)+1, changes...))
		}
	}
	s := roomSite(vms...)
	s.snapshot.Hosts = nil
	for h := range hosts {
		s.snapshot.Hosts = append(s.snapshot.Hosts, host(strconv.Itoa(h), clusterA, 25_000+r.Int64N(25_000), 300_000+r.Int64N(200_000), takes(20_000+r.Int64N(30_000), 300_000+r.Int64N(200_000))))
	}
	s.demand.Room = &policy.Room{Priority: 1 + r.IntN(4), CPUs: r.IntN(8), MemoryMB: r.Int64N(128_000), CPUReservedMHz: r.Int64N(10_000), MemoryReservedMB: r.Int64N(100_000)}
	s.policy.MaxVMs = 1 + r.IntN(6)
	if r.IntN(2) == 0 {
		s.policy.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: r.IntN(3)}}}
	}
	return s
}

// roomMissing is what a host still lacks when these VMs have gone: used CPU and memory, reserved CPU and memory.
func roomMissing(s scenario, h vsphere.Host, gone []vsphere.VM) (missing [4]int64) {
	room := s.demand.Room
	asked := [4]int64{int64(room.CPUs) * h.CoreMHz, room.MemoryMB, room.CPUReservedMHz, room.MemoryReservedMB}
	has := [4]int64{h.CPUMHz - h.CPUUsedMHz, h.MemoryMB - h.MemoryUsedMB, h.CPUMHz - h.CPUReservedMHz, h.MemoryMB - h.MemoryReservedMB}
	for _, v := range gone {
		for i, n := range [4]int64{v.CPUMHz, v.MemoryMB, v.CPUReservedMHz, v.MemoryReservedMB} {
			has[i] += n
		}
	}
	for i := range missing {
		missing[i] = max(0, asked[i]-has[i])
	}
	return missing
}

// cheapestRoom tries all sets of VMs on all hosts. It returns the least cost: the highest priority, how many have it, how
// many go. ok is false if no set makes the room.
func cheapestRoom(s scenario) (best [3]int, ok bool) {
	for _, h := range s.snapshot.Hosts {
		var here []vsphere.VM
		for _, v := range s.snapshot.VMs {
			if n, _ := strconv.Atoi(v.Tags[policy.CategoryPriority][0]); v.Host == h.Ref && n < s.demand.Room.Priority {
				here = append(here, v)
			}
		}
		for set := range 1 << len(here) {
			var gone []vsphere.VM
			cost := [3]int{-1, 0, 0}
			for i, v := range here {
				if set&(1<<i) != 0 {
					gone = append(gone, v)
					n, _ := strconv.Atoi(v.Tags[policy.CategoryPriority][0])
					if n > cost[0] {
						cost[0], cost[1] = n, 0
					}
					if n == cost[0] {
						cost[1]++
					}
					cost[2]++
				}
			}
			if roomMissing(s, h, gone) == [4]int64{} && len(gone) <= s.policy.MaxVMs && roomKeepsGroups(s, gone) && (!ok || slices.Compare(cost[:], best[:]) < 0) {
				best, ok = cost, true
			}
		}
	}
	return best, ok
}

func roomKeepsGroups(s scenario, gone []vsphere.VM) bool {
	if len(s.policy.Budgets) == 0 {
		return true
	}
	up := map[string]int{}
	for _, v := range s.snapshot.VMs {
		for _, g := range v.Tags[policy.CategoryGroup] {
			up[g]++
		}
	}
	for _, v := range gone {
		for _, g := range v.Tags[policy.CategoryGroup] {
			up[g]--
		}
	}
	for _, v := range gone {
		for _, g := range v.Tags[policy.CategoryGroup] {
			if up[g] < s.policy.Budgets[0].MinAvailable.N {
				return false
			}
		}
	}
	return true
}

func TestRoomCostsNoMoreThanTheBestOfAllChoices(t *testing.T) {
	made, free, refused := 0, 0, 0
	for seed := range uint64(3000) {
		s := randomRoom(rand.New(rand.NewPCG(seed, 1)))
		plan := policy.Choose(s.snapshot, s.demand, s.policy)
		want, ok := cheapestRoom(s)
		if ok != plan.Room.Enough || ok == (plan.Room.Refusal != "") {
			t.Fatalf("seed %d: enough %t (%s), want %t", seed, plan.Room.Enough, plan.Room.Refusal, ok)
		}
		if !ok {
			refused++
			if len(plan.Targets) > 0 {
				t.Fatalf("seed %d: %d VMs go for nothing", seed, len(plan.Targets))
			}
			continue
		}
		got := [3]int{-1, 0, len(plan.Targets)}
		var gone []vsphere.VM
		for _, target := range plan.Targets {
			gone = append(gone, s.snapshot.VMs[slices.IndexFunc(s.snapshot.VMs, func(v vsphere.VM) bool { return v.Ref == target.Ref })])
			if target.Priority > got[0] {
				got[0], got[1] = target.Priority, 0
			}
			if target.Priority == got[0] {
				got[1]++
			}
			if target.Priority >= s.demand.Room.Priority || target.Host != plan.Room.Host {
				t.Fatalf("seed %d: %+v goes for priority %d on %s", seed, target, s.demand.Room.Priority, plan.Room.Host)
			}
		}
		if got != want {
			t.Fatalf("seed %d: it costs %v, and the best is %v", seed, got, want)
		}
		h := s.snapshot.Hosts[slices.IndexFunc(s.snapshot.Hosts, func(h vsphere.Host) bool { return h.Ref == plan.Room.Host })]
		if missing := roomMissing(s, h, gone); missing != [4]int64{} {
			t.Fatalf("seed %d: %v is missing even so", seed, missing)
		}
		for i := range gone {
			if roomMissing(s, h, slices.Delete(slices.Clone(gone), i, i+1)) == [4]int64{} {
				t.Fatalf("seed %d: %s is not needed", seed, gone[i].Name)
			}
		}
		if made++; len(gone) == 0 {
			free++
		}
		checkRoomInAnyOrder(t, seed, s, plan)
	}
	if made < 300 || refused < 300 || made-free < 200 {
		t.Errorf("of 3000 sites %d have the room, %d without cost, and %d never: they test little", made, free, refused)
	}
}

// checkRoomInAnyOrder checks that the order of the inventory changes nothing.
func checkRoomInAnyOrder(t *testing.T, seed uint64, s scenario, plan policy.Plan) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	r.Shuffle(len(s.snapshot.VMs), func(i, j int) { s.snapshot.VMs[i], s.snapshot.VMs[j] = s.snapshot.VMs[j], s.snapshot.VMs[i] })
	r.Shuffle(len(s.snapshot.Hosts), func(i, j int) {
		s.snapshot.Hosts[i], s.snapshot.Hosts[j] = s.snapshot.Hosts[j], s.snapshot.Hosts[i]
	})
	if again := policy.Choose(s.snapshot, s.demand, s.policy); !reflect.DeepEqual(again, plan) {
		t.Fatalf("seed %d: in another order\n%+v\nand before\n%+v", seed, again, plan)
	}
}

func TestRoomOnHostsWithManyVMsIsNeverMoreThanNeeded(t *testing.T) {
	s := manyHosts(20, 60)
	s.demand.Room.MemoryMB = 400_000
	plan := policy.Choose(s.snapshot, s.demand, s.policy)
	if !plan.Room.Enough || len(plan.Targets) < 5 {
		t.Fatalf("%d VMs go: %s", len(plan.Targets), plan.Room.Refusal)
	}
	h := s.snapshot.Hosts[slices.IndexFunc(s.snapshot.Hosts, func(h vsphere.Host) bool { return h.Ref == plan.Room.Host })]
	var gone []vsphere.VM
	for _, target := range plan.Targets {
		gone = append(gone, s.snapshot.VMs[slices.IndexFunc(s.snapshot.VMs, func(v vsphere.VM) bool { return v.Ref == target.Ref })])
	}
	if roomMissing(s, h, gone) != [4]int64{} {
		t.Error("the targets are not enough")
	}
	for i := range gone {
		if roomMissing(s, h, slices.Delete(slices.Clone(gone), i, i+1)) == [4]int64{} {
			t.Errorf("%s is not needed", gone[i].Name)
		}
	}
}

// manyHosts are hosts that are almost full, with so many VMs each.
func manyHosts(hosts, each int) scenario {
	r := rand.New(rand.NewPCG(7, 7))
	var vms []vsphere.VM
	for h := range hosts {
		for range each {
			vms = append(vms, vm(len(vms)+1, on(strconv.Itoa(h)), uses(r.Int64N(3000), 2000+r.Int64N(20_000)), reserves(0, r.Int64N(9000)), priority(strconv.Itoa(r.IntN(4)))))
		}
	}
	s := roomSite(vms...)
	s.snapshot.Hosts = nil
	for h := range hosts {
		s.snapshot.Hosts = append(s.snapshot.Hosts, host(strconv.Itoa(h), clusterA, 45_000+r.Int64N(3000), 480_000+r.Int64N(20_000), takes(0, 400_000)))
	}
	s.policy.MaxVMs = 100
	return s
}

// BenchmarkRoomOn500Hosts plans room among 10,000 VMs on 500 hosts.
func BenchmarkRoomOn500Hosts(b *testing.B) {
	for _, memory := range []int64{64_000, 256_000} {
		b.Run(fmt.Sprintf("%d_GB", memory/1000), func(b *testing.B) {
			s := manyHosts(500, 20)
			s.demand.Room.MemoryMB = memory
			began := time.Now()
			for range b.N {
				if plan := policy.Choose(s.snapshot, s.demand, s.policy); !plan.Room.Enough {
					b.Fatal(plan.Room.Refusal)
				}
			}
			b.ReportMetric(float64(time.Since(began).Microseconds())/1000/float64(b.N), "ms/plan")
		})
	}
}
