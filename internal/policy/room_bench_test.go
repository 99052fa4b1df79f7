package policy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fullSite is so many hosts with so many VMs each, of which none has the room that is asked for.
func fullSite(hosts, vmsEach int) (vsphere.Snapshot, policy.Demand) {
	r := rand.New(rand.NewPCG(500, 20))
	s := vsphere.Snapshot{Time: now, Scope: clusterA, ScopeName: "cluster-a"}
	for h := range hosts {
		full := roomy(fmt.Sprint(h), 90_000+r.Int64N(10_000), 450_000+r.Int64N(60_000), func(host *vsphere.Host) {
			host.CPUReservedMHz, host.MemoryReservedMB = 60_000+r.Int64N(20_000), 400_000+r.Int64N(50_000)
		})
		s.Hosts = append(s.Hosts, full)
		for range vmsEach {
			v := vm(len(s.VMs), on(fmt.Sprint(h)), uses(500+r.Int64N(7000), 4000+r.Int64N(28_000)),
				reserves(r.Int64N(5000), 1000+r.Int64N(28_000)), priority(fmt.Sprint(10*r.IntN(6))))
			v.BootTime = now.Add(-time.Duration(r.IntN(1000)) * time.Minute)
			if r.IntN(4) == 0 {
				group(fmt.Sprintf("group-%d", r.IntN(100)))(&v)
			}
			s.VMs = append(s.VMs, v)
		}
	}
	return s, policy.Demand{Tag: "preemptible", Scope: clusterA, Now: now}
}

func BenchmarkRoomOn500Hosts(b *testing.B) {
	s, d := fullSite(500, 20)
	p := policy.Default()
	p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 50, Percent: true}}, {Scope: true, Max: policy.Amount{N: 20, Percent: true}}}
	for name, room := range map[string]policy.Room{
		"a small VM":                {For: "db-1", Priority: 100, CPUs: 4, MemoryMB: 64_000, MemoryReservedMB: 64_000},
		"a large VM":                {For: "db-1", Priority: 100, CPUs: 16, MemoryMB: 128_000, CPUReservedMHz: 40_000, MemoryReservedMB: 150_000},
		"a VM too large for maxVMs": {For: "db-1", Priority: 100, CPUs: 24, MemoryMB: 256_000, CPUReservedMHz: 40_000, MemoryReservedMB: 256_000},
		"a VM too large for all":    {For: "db-1", Priority: 40, CPUs: 32, MemoryMB: 500_000},
		"no power-off is needed":    {For: "db-1", Priority: 100, CPUs: 0, MemoryMB: 100},
	} {
		b.Run(name, func(b *testing.B) {
			d.Rooms = []policy.Room{room}
			var plan policy.Plan
			for b.Loop() {
				plan = policy.Choose(s, d, p)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms")
			b.ReportMetric(float64(len(plan.Targets)), "targets")
		})
	}
}
