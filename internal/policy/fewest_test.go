package policy_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// hostA is the one host of clusterA in most tests: 100 GHz and 1000 GiB, of which this much is used.
func hostA(cpuMHz, memoryMB int64) vsphere.Host {
	return vsphere.Host{
		Ref: vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}, Name: "esx-1", Cluster: clusterA, Connected: true,
		CPUMHz: 100_000, MemoryMB: 1_024_000, CPUUsedMHz: cpuMHz, MemoryUsedMB: memoryMB,
	}
}

// short is a snapshot of clusterA in which, against a target of 50 %, this much must be freed.
func short(cpuMHz, memoryMB int64, vms ...vsphere.VM) vsphere.Snapshot {
	return vsphere.Snapshot{
		Time: now, Scope: clusterA, ScopeName: "cluster-a", VMs: vms, Hosts: []vsphere.Host{hostA(50_000+cpuMHz, 512_000+memoryMB)},
	}
}

// aimed is the default policy with a target of 50 % for both resources.
func aimed(changes ...func(*policy.Policy)) policy.Policy {
	p := policy.Default()
	p.Target = policy.Goal{CPU: 50, Memory: 50, IfShort: policy.ShortPartial}
	for _, c := range changes {
		c(&p)
	}
	return p
}

// uses is a change that gives a VM its usage.
func uses(cpuMHz, memoryMB int64) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.CPUMHz, v.MemoryMB = cpuMHz, memoryMB }
}

// tagged is a change that attaches a tag.
func tagged(category string, tags ...string) func(*vsphere.VM) {
	return func(v *vsphere.VM) {
		if v.Tags == nil {
			v.Tags = map[string][]string{}
		}
		v.Tags[category] = append(v.Tags[category], tags...)
	}
}

// fewestPossible tries every subset: the least number of VMs that cover the need within the limits, or -1.
func fewestPossible(vms []vsphere.VM, cpu, memory int64, most int, group map[string]int) int {
	least := -1
	for set := range 1 << len(vms) {
		n := bits.OnesCount(uint(set))
		if n > most || least >= 0 && n >= least {
			continue
		}
		var c, m int64
		taken := map[string]int{}
		for i, v := range vms {
			if set>>i&1 == 1 {
				c, m = c+v.CPUMHz, m+v.MemoryMB
				for _, g := range v.Tags[policy.CategoryGroup] {
					taken[g]++
				}
			}
		}
		ok := c >= cpu && m >= memory
		for g, n := range taken {
			ok = ok && n <= group[g]
		}
		if ok {
			least = n
		}
	}
	return least
}

// A round takes as few VMs as an exhaustive search finds: equal in 95 of 100 cases, never more than one above.
func TestARoundTakesTheFewestVMsPossible(t *testing.T) {
	const cases, seed = 1000, 20261122
	r := rand.New(rand.NewPCG(seed, 1))
	equal, above, covered := 0, 0, 0
	for n := 0; covered < cases; n++ {
		vms := []vsphere.VM{}
		for i := range 1 + r.IntN(12) {
			v := vm(i, uses(r.Int64N(8000), r.Int64N(64_000)))
			v.BootTime = now.Add(-time.Duration(r.IntN(5)) * time.Hour)
			if r.IntN(3) == 0 {
				tagged(policy.CategoryGroup, []string{"web", "db"}[r.IntN(2)])(&v)
			}
			vms = append(vms, v)
		}
		cpu, memory := r.Int64N(24_000), r.Int64N(150_000)
		if r.IntN(4) == 0 {
			memory = 0
		}
		p := aimed(func(p *policy.Policy) {
			p.MaxVMs = 3 + r.IntN(8)
			p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 1}}}
		})
		group := map[string]int{"web": -1, "db": -1}
		for _, v := range vms {
			for _, g := range v.Tags[policy.CategoryGroup] {
				group[g]++
			}
		}
		demand := policy.Demand{Scope: clusterA, Preempted: map[string]int{vms[0].Ref.String(): r.IntN(3)}}
		plan := policy.Choose(short(cpu, memory, vms...), demand, p)
		best := fewestPossible(vms, cpu, memory, p.MaxVMs, group)
		if (best >= 0) == plan.Partial {
			t.Fatalf("seed %d, case %d: the fewest possible are %d, and the plan says partial: %v", seed, n, best, plan.Partial)
		}
		if best < 0 {
			continue
		}
		covered++
		switch len(plan.Targets) - best {
		case 0:
			equal++
		case 1:
			above++
		default:
			t.Errorf("seed %d, case %d: %d VMs, %d would do", seed, n, len(plan.Targets), best)
		}
	}
	t.Logf("seed %d: of %d random cases that can be covered the plan takes the fewest VMs possible in %d, one more in %d", seed, covered, equal, above)
	if equal*100 < covered*95 {
		t.Errorf("of %d cases only %d take the fewest possible", covered, equal)
	}
}

// In large inventories an exhaustive search is out of reach: there the linear bound says how few could do.
func TestALargeRoundIsAtMostOneAboveTheLinearBound(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 2))
	for n := range 30 {
		vms := []vsphere.VM{}
		for i := range 400 {
			vms = append(vms, vm(i, uses(r.Int64N(8000), r.Int64N(64_000))))
		}
		cpu, memory := 1+r.Int64N(200_000)/4, 1+r.Int64N(500_000)
		plan := policy.Choose(short(cpu, memory, vms...), policy.Demand{Scope: clusterA}, aimed(func(p *policy.Policy) { p.MaxVMs = 1000 }))
		if plan.Partial {
			t.Fatalf("seed %d, case %d: not covered", seed, n)
		}
		if low := linearBound(vms, cpu, memory); len(plan.Targets) > low+1 {
			t.Errorf("seed %d, case %d: %d VMs, at least %d are needed", seed, n, len(plan.Targets), low)
		}
	}
}

// linearBound is a number of VMs with fewer of which it cannot be done, whatever the weight of CPU.
func linearBound(vms []vsphere.VM, cpu, memory int64) (low int) {
	for step := range 101 {
		w := float64(step) / 100
		var weights []float64
		for _, v := range vms {
			weights = append(weights, w*float64(min(v.CPUMHz, cpu))/float64(cpu)+(1-w)*float64(min(v.MemoryMB, memory))/float64(memory))
		}
		slices.Sort(weights)
		sum, n := 0.0, 0
		for sum < 1-1e-9 && n < len(weights) {
			n++
			sum += weights[len(weights)-n]
		}
		low = max(low, n)
	}
	return low
}

func TestALowerPriorityComesBeforeFewness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var vms []vsphere.VM
		for i := range rapid.IntRange(1, 9).Draw(t, "n") {
			vms = append(vms, vm(i, uses(rapid.Int64Range(0, 50).Draw(t, "cpu")*100, rapid.Int64Range(0, 50).Draw(t, "memory")*1000),
				tagged(policy.CategoryPriority, fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "priority")))))
		}
		cpu, memory := rapid.Int64Range(0, 100).Draw(t, "cpu")*100, rapid.Int64Range(0, 100).Draw(t, "memory")*1000
		p := aimed(func(p *policy.Policy) { p.MaxVMs = rapid.IntRange(1, 9).Draw(t, "max") })
		plan := policy.Choose(short(cpu, memory, vms...), policy.Demand{Scope: clusterA}, p)
		if plan.Partial || len(plan.Targets) == 0 {
			return
		}
		highest := 0
		for _, target := range plan.Targets {
			highest = max(highest, target.Priority)
		}
		var lower []vsphere.VM
		for _, v := range vms {
			if v.Tags[policy.CategoryPriority][0] < fmt.Sprint(highest) {
				lower = append(lower, v)
			}
		}
		if n := fewestPossible(lower, cpu, memory, p.MaxVMs, nil); n >= 0 {
			t.Fatalf("one of priority %d goes, though %d of lower priority would do", highest, n)
		}
	})
}

func BenchmarkChoose10000WithEverything(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	s := short(40_000, 400_000)
	d := policy.Demand{Scope: clusterA, Now: now, Preempted: map[string]int{}}
	for i := range 10_000 {
		v := vm(i, uses(r.Int64N(8000), r.Int64N(64_000)), tagged(policy.CategoryPriority, fmt.Sprint(r.IntN(3))))
		v.BootTime = now.Add(-time.Duration(r.IntN(1000)) * time.Minute)
		v.FolderPath, v.PoolPath, v.Host = "/dc-1/vm/batch/night", "/dc-1/host/cluster-a/Resources/batch", s.Hosts[0].Ref
		if r.IntN(4) == 0 {
			tagged(policy.CategoryGroup, fmt.Sprintf("group-%d", r.IntN(100)))(&v)
		}
		if r.IntN(10) == 0 {
			d.Preempted[v.Ref.String()] = r.IntN(3)
		}
		s.VMs = append(s.VMs, v)
	}
	p := aimed(func(p *policy.Policy) {
		p.Protect = policy.Protect{MinRuntime: clock.Duration(time.Hour), MaxPreemptionsPerDay: 3, Folders: []string{"prod"}, Names: []string{"db-*"}}
		p.Budgets = []policy.Budget{
			{Group: "*", MinAvailable: policy.Amount{N: 50, Percent: true}},
			{Scope: true, Max: policy.Amount{N: 20, Percent: true}},
			{Window: "0 8 * * MON-FRI", Duration: clock.Duration(10 * time.Hour), TimeZone: "Europe/Berlin"},
		}
	})
	for name, c := range map[string]struct {
		cpu, memory int64
		most        int
		free        bool
	}{
		"seven VMs":               {cpu: 40_000, memory: 400_000, most: 10},
		"a hundred VMs":           {cpu: 600_000, memory: 6_000_000, most: 1000},
		"the limit does not do":   {cpu: 40_000, memory: 400_000, most: 4},
		"a higher priority helps": {cpu: 63_970, memory: 511_000, most: 8},
		"a thousand, no target":   {most: 1000, free: true},
	} {
		s.Hosts = short(c.cpu, c.memory).Hosts
		q := p
		q.MaxVMs = c.most
		if c.free {
			q.Target = policy.Goal{}
		}
		b.Run(name, func(b *testing.B) {
			var plan policy.Plan
			for b.Loop() {
				plan = policy.Choose(s, d, q)
			}
			b.ReportMetric(float64(len(plan.Targets)), "targets")
		})
	}
}
