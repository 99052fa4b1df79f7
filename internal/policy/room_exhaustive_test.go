package policy_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// drawn is what a random inventory of rooms is like.
type drawn struct {
	hosts, vmsEach, priorities int
	alike                      bool // VMs are of two sizes
	slots                      bool // HA admits by slots, of which there are few
	pools                      bool // the asker's resource pools are bounded
}

// size draws a number of units of a resource, of up to so many.
func (d drawn) size(r *rand.Rand, units int64) int64 {
	if d.alike {
		return units / 4 * (1 + r.Int64N(2))
	}
	return r.Int64N(units)
}

// draw makes a random inventory in which sizes are few, so that sets often are of equal price, and every limit plays a
// part.
func (d drawn) draw(r *rand.Rand) scenario {
	s := roomSite()
	s.snapshot.Hosts = nil
	s.demand.Preempted = map[string]int{}
	s.demand.Rooms = []policy.Room{{
		For: "db-1", Priority: d.priorities - r.IntN(2), CPUs: 1 + r.IntN(6), MemoryMB: 8000 * r.Int64N(10),
		CPUReservedMHz: 3000 * r.Int64N(4), MemoryReservedMB: 8000 * r.Int64N(10), CannotTake: map[string]string{},
	}}
	for h := range 1 + r.IntN(d.hosts) {
		at := fmt.Sprint(h + 1)
		s.snapshot.Hosts = append(s.snapshot.Hosts, roomy(at, 96_000-3000*r.Int64N(4), 512_000-8000*r.Int64N(10), func(h *vsphere.Host) {
			h.CPUReservedMHz, h.MemoryReservedMB = 96_000-3000*r.Int64N(4), 512_000-8000*r.Int64N(10)
			h.MemoryMB += 1000 * r.Int64N(3)
			if r.IntN(12) == 0 {
				s.demand.Rooms[0].CannotTake[h.Ref.String()] = "it lacks the network db-net"
			}
		}))
		s.demand.Credits = append(s.demand.Credits, policy.Credit{Host: s.snapshot.Hosts[h].Ref, CPUMHz: 1000 * r.Int64N(2), MemoryMB: 1000 * r.Int64N(3)})
		for range d.vmsEach - r.IntN(3) {
			s.snapshot.VMs = append(s.snapshot.VMs, d.vm(r, len(s.snapshot.VMs), at, s.demand.Preempted))
		}
	}
	s.policy.MaxVMs, s.demand.Already = 1+r.IntN(d.vmsEach+2), r.IntN(2)
	if r.IntN(2) == 0 {
		s.policy.Budgets = append(s.policy.Budgets, policy.Budget{Group: "*", MinAvailable: policy.Amount{N: 1 + r.IntN(3)}})
	}
	if d.pools {
		s.demand.Rooms[0].CPUPool = drawPool(r, s, 3000*r.Int64N(4))
		s.demand.Rooms[0].MemoryPool = drawPool(r, s, 8000*r.Int64N(10))
	}
	if d.slots {
		s.snapshot.Failover = d.drawSlots(r, s)
	}
	if r.IntN(4) == 0 {
		s.policy.Budgets = append(s.policy.Budgets, policy.Budget{Scope: true, Max: policy.Amount{N: r.IntN(d.vmsEach + 1)}})
	}
	return s
}

// drawSlots draws slots of a size that is fixed, bounded or neither, and other VMs that take about as many as there are.
func (d drawn) drawSlots(r *rand.Rand, s scenario) []vsphere.Failover {
	slots := vsphere.Slots{Failures: r.IntN(2), AtLeast: vsphere.Claim{CPUMHz: 32}}
	switch r.IntN(4) {
	case 0:
		slots.Fixed = vsphere.Claim{CPUMHz: 1000 * (1 + r.Int64N(4)), MemoryMB: 8000 * (1 + r.Int64N(4))}
	case 1:
		slots.AtMost = vsphere.Claim{CPUMHz: 1000 * r.Int64N(4), MemoryMB: 8000 * r.Int64N(4)}
	}
	claim := func(v vsphere.VM) {
		slots.VMs = append(slots.VMs, vsphere.Claims{Claim: vsphere.Claim{CPUMHz: max(32, v.CPUReservedMHz), MemoryMB: v.MemoryReservedMB}, Number: 1})
	}
	for _, v := range s.snapshot.VMs {
		claim(v)
	}
	other := vsphere.VM{CPUReservedMHz: 500 * r.Int64N(4), MemoryReservedMB: 2000 * (1 + r.Int64N(10))}
	s.snapshot.Failover = []vsphere.Failover{{Cluster: clusterA, Slots: &slots}}
	for len(slots.VMs) < 200 && admitted(s) {
		claim(other)
	}
	slots.VMs = slots.VMs[:max(len(s.snapshot.VMs), len(slots.VMs)+r.IntN(3)-2)]
	return s.snapshot.Failover
}

// drawPool draws a pool of so much, with about half of the VMs.
func drawPool(r *rand.Rand, s scenario, unreserved int64) *policy.RoomPool {
	pool := &policy.RoomPool{Pool: vsphere.Ref{Type: "ResourcePool", Value: "resgroup-1"}, Name: "bounded", Unreserved: unreserved}
	for _, v := range s.snapshot.VMs {
		if r.IntN(2) == 0 {
			pool.VMs = append(pool.VMs, v.Ref)
		}
	}
	return pool
}

// pooled reports whether the asker's pools have enough when VMs have gone.
func pooled(s scenario, gone []vsphere.Ref) bool {
	room, ok := s.demand.Rooms[0], true
	for r, pool := range []*policy.RoomPool{room.CPUPool, room.MemoryPool} {
		if pool == nil {
			continue
		}
		have := pool.Unreserved
		for _, ref := range gone {
			if slices.Contains(pool.VMs, ref) {
				have += givenBy(found(s, ref))[2+r]
			}
		}
		ok = ok && have >= []int64{room.CPUReservedMHz, room.MemoryReservedMB}[r]
	}
	return ok
}

// admitted reports whether pools and slots suffice for the room when VMs have gone. It reckons as HA does: with all that are
// left.
func admitted(s scenario, gone ...vsphere.Ref) bool {
	if !pooled(s, gone) {
		return false
	}
	if len(s.snapshot.Failover) == 0 {
		return true
	}
	slots, room := s.snapshot.Failover[0].Slots, s.demand.Rooms[0]
	left := map[vsphere.Claim]int{{CPUMHz: max(32, room.CPUReservedMHz), MemoryMB: room.MemoryReservedMB}: 1}
	for _, c := range slots.VMs {
		left[c.Claim] += c.Number
	}
	for _, v := range s.snapshot.VMs {
		if slices.Contains(gone, v.Ref) {
			left[vsphere.Claim{CPUMHz: max(32, v.CPUReservedMHz), MemoryMB: v.MemoryReservedMB}]--
		}
	}
	size := vsphere.Claim{CPUMHz: 1, MemoryMB: 1}
	for c, n := range left {
		if n > 0 {
			size = size.AtLeast(c)
		}
	}
	if most := slots.AtMost; most.CPUMHz > 0 {
		size.CPUMHz = min(size.CPUMHz, most.CPUMHz)
	}
	if most := slots.AtMost; most.MemoryMB > 0 {
		size.MemoryMB = min(size.MemoryMB, most.MemoryMB)
	}
	if slots.Fixed.CPUMHz > 0 {
		size = slots.Fixed
	}
	var have []int64
	for _, h := range s.snapshot.Hosts {
		have = append(have, min(h.CPUMHz/size.CPUMHz, h.MemoryMB/size.MemoryMB))
	}
	slices.Sort(have)
	sum := int64(0)
	for _, n := range have[:max(0, len(have)-slots.Failures)] {
		sum += n
	}
	for c, n := range left {
		each := max(1, math.Ceil(float64(c.CPUMHz)/float64(size.CPUMHz)), math.Ceil(float64(c.MemoryMB)/float64(size.MemoryMB)))
		sum -= int64(n) * int64(each)
	}
	return sum >= 0
}

func (d drawn) vm(r *rand.Rand, n int, host string, preempted map[string]int) vsphere.VM {
	v := vm(n, on(host), uses(500*d.size(r, 14), 2000*d.size(r, 14)), reserves(1000*d.size(r, 4), 2000*d.size(r, 14)), priority(fmt.Sprint(r.IntN(d.priorities))))
	v.BootTime = now.Add(-time.Duration(r.IntN(4)) * time.Hour)
	switch r.IntN(8) {
	case 0:
		tagged(policy.CategoryProtect, policy.TagDoNotPreempt)(&v)
	case 1, 2:
		group([]string{"web", "db"}[r.IntN(2)])(&v)
	case 3:
		preempted[v.Ref.String()] = 1 + r.IntN(2)
	}
	return v
}

// amount is CPU and memory in use, CPU and memory reserved.
type amount [4]int64

func missingOn(s scenario, h vsphere.Host) (m amount) {
	room := s.demand.Rooms[0]
	need := amount{int64(room.CPUs) * h.CoreMHz, room.MemoryMB, room.CPUReservedMHz, room.MemoryReservedMB}
	taken := amount{h.CPUUsedMHz, h.MemoryUsedMB, h.CPUReservedMHz, h.MemoryReservedMB}
	for _, c := range s.demand.Credits {
		if c.Host == h.Ref {
			taken[0], taken[1] = taken[0]-c.CPUMHz, taken[1]-c.MemoryMB
		}
	}
	for r, capacity := range (amount{h.CPUMHz, h.MemoryMB, h.CPUMHz, h.MemoryMB}) {
		m[r] = max(0, need[r]+taken[r]-capacity)
	}
	return m
}

func givenBy(v vsphere.VM) amount {
	return amount{v.CPUMHz, v.MemoryMB, v.CPUReservedMHz, v.MemoryReservedMB}
}

func priorityOf(v vsphere.VM) (n int) {
	_, _ = fmt.Sscan(v.Tags[policy.CategoryPriority][0], &n)
	return n
}

// mayGo returns the VMs of a host that may be powered off for the room, in order.
func mayGo(s scenario, host vsphere.Ref) (vms []vsphere.VM) {
	for _, v := range s.snapshot.VMs {
		if v.Host == host && len(v.Tags[policy.CategoryProtect]) == 0 && priorityOf(v) < s.demand.Rooms[0].Priority {
			vms = append(vms, v)
		}
	}
	slices.SortFunc(vms, func(a, b vsphere.VM) int {
		return cmp.Or(cmp.Compare(priorityOf(a), priorityOf(b)),
			cmp.Compare(s.demand.Preempted[a.Ref.String()], s.demand.Preempted[b.Ref.String()]), b.BootTime.Compare(a.BootTime),
			cmp.Compare(len(a.Ref.Value), len(b.Ref.Value)), cmp.Compare(a.Ref.Value, b.Ref.Value))
	})
	return vms
}

// withinLimits reports whether maxVMs and all budgets allow so many VMs, and so many of each group.
func withinLimits(s scenario, n int, gone map[string]int) bool {
	ok := n <= s.policy.MaxVMs-s.demand.Already
	for _, b := range s.policy.Budgets {
		if b.Scope {
			ok = ok && n <= b.Max.N
			continue
		}
		for g, lost := range gone {
			up := 0
			for _, v := range s.snapshot.VMs {
				if slices.Contains(v.Tags[policy.CategoryGroup], g) {
					up++
				}
			}
			ok = ok && up-lost >= b.MinAvailable.N
		}
	}
	return ok
}

// tariff is the price of a set; smaller is cheaper.
type tariff struct {
	priority, ofPriority, all int
	beyond                    int64 // in billionths of the capacity: sums of floating-point numbers are not exact
}

func (a tariff) compare(b tariff) int {
	return cmp.Or(cmp.Compare(min(1, a.all), min(1, b.all)), cmp.Compare(a.priority, b.priority), cmp.Compare(a.ofPriority, b.ofPriority),
		cmp.Compare(a.all, b.all), cmp.Compare(a.beyond, b.beyond))
}

// cheapestOn tries every set of a host's VMs. ok is false if none is enough within the limits.
func cheapestOn(s scenario, h vsphere.Host) (targets []vsphere.Ref, best tariff, ok bool) {
	vms, missing := mayGo(s, h.Ref), missingOn(s, h)
	var chosen []int
	for set := range 1 << len(vms) {
		var freed amount
		price, members, gone, refs := tariff{}, []int(nil), map[string]int(nil), []vsphere.Ref(nil)
		for i := range vms {
			if set>>i&1 == 0 {
				continue
			}
			members, refs = append(members, i), append(refs, vms[i].Ref)
			for r, g := range givenBy(vms[i]) {
				freed[r] += g
			}
			if p := priorityOf(vms[i]); price.all == 0 || p > price.priority {
				price.priority, price.ofPriority = p, 0
			}
			price.ofPriority, price.all = price.ofPriority+1, price.all+1 // rising priorities: each is the highest so far
			for _, g := range vms[i].Tags[policy.CategoryGroup] {
				if gone == nil {
					gone = map[string]int{}
				}
				gone[g]++
			}
		}
		enough, beyond := admitted(s, refs...), 0.0
		for r, capacity := range (amount{h.CPUMHz, h.MemoryMB, h.CPUMHz, h.MemoryMB}) {
			enough = enough && freed[r] >= missing[r]
			beyond += float64(max(0, freed[r]-missing[r])) / float64(capacity)
		}
		price.beyond = int64(math.Round(beyond * 1e9))
		if set > 0 && missing == (amount{}) && admitted(s) || !enough || set > 0 && !withinLimits(s, len(members), gone) {
			continue
		}
		if c := price.compare(best); !ok || c < 0 || c == 0 && slices.Compare(members, chosen) < 0 {
			best, chosen, ok = price, members, true
		}
	}
	for _, i := range chosen {
		targets = append(targets, vms[i].Ref)
	}
	return targets, best, ok
}

// checkCheapest compares a plan with the exhaustive search over all hosts and sets. It reports whether VMs go.
func checkCheapest(t *testing.T, name string, s scenario) bool {
	t.Helper()
	plan := policy.Choose(s.snapshot, s.demand, s.policy)
	options := map[vsphere.Ref]policy.RoomOption{}
	for _, o := range plan.Rooms[0].Hosts {
		options[o.Host] = o
	}
	var where vsphere.Ref
	var who []vsphere.Ref
	var least tariff
	for _, h := range s.snapshot.Hosts {
		if s.demand.Rooms[0].CannotTake[h.Ref.String()] != "" {
			continue
		}
		targets, price, ok := cheapestOn(s, h)
		if o := options[h.Ref]; ok != (o.Why == "") || !slices.Equal(targets, o.Targets) {
			t.Fatalf("%s: on %s, the cheapest are %v (%+v, possible: %v), the plan says %+v", name, h.Name, targets, price, ok, o)
		}
		if ok && (where.Zero() || price.compare(least) < 0) {
			where, who, least = h.Ref, targets, price
		}
	}
	if plan.Rooms[0].Host != where || plan.Rooms[0].Enough == where.Zero() || !slices.Equal(refsOf(plan), who) {
		t.Fatalf("%s: the cheapest are %v on %v (%+v), the plan takes %v on %+v", name, who, where, least, refsOf(plan), plan.Rooms[0])
	}
	return len(who) > 0
}

func TestRoomIsMadeAsCheaplyAsAnExhaustiveSearchFinds(t *testing.T) {
	const seed = 20261127
	for name, c := range map[string]struct {
		drawn
		cases int
	}{
		"few VMs on up to four hosts": {drawn{hosts: 4, vmsEach: 7, priorities: 5}, 3000},
		"equal priorities":            {drawn{hosts: 2, vmsEach: 9, priorities: 2}, 500},
		"up to 16 VMs on a host":      {drawn{hosts: 1, vmsEach: 16, priorities: 3}, 40},
		"VMs that are much alike":     {drawn{hosts: 2, vmsEach: 10, priorities: 3, alike: true}, 1000},
		"bounded resource pools":      {drawn{hosts: 3, vmsEach: 7, priorities: 4, pools: true}, 1500},
		"few slots":                   {drawn{hosts: 3, vmsEach: 6, priorities: 4, slots: true}, 2000},
		"few slots, VMs much alike":   {drawn{hosts: 3, vmsEach: 9, priorities: 3, alike: true, slots: true}, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(c.vmsEach)))
			made := 0
			for n := range c.cases {
				if checkCheapest(t, fmt.Sprintf("seed %d, case %d", seed, n), c.draw(r)) {
					made++
				}
			}
			t.Logf("seed %d: in %d of %d random cases VMs go", seed, made, c.cases)
			if made*3 < c.cases {
				t.Errorf("in only %d of %d cases VMs go: the cases test little", made, c.cases)
			}
		})
	}
}
