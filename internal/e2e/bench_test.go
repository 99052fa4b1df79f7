package e2e

import (
	"fmt"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// tenOff measures from the sending of a HIGH request until the last of 10 VMs is verified off and
// annotated. An untimed round first warms sessions and caches, as in any worker that has run before.
func tenOff(b *testing.B, latency, task time.Duration) {
	s := sitetest.New(b, sitetest.WithInventory(func(o *simulation.Options) { o.Tagged = 10 }),
		sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = 0 }))
	s.Worker()
	vms := s.VC.TaggedVMs("cluster-a")
	run := func(id string) time.Duration {
		req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
		start := time.Now()
		s.Signal(id, req)
		for left := vms; len(left) > 0; time.Sleep(500 * time.Microsecond) {
			a, ok := s.Attribute(left[0].Ref)
			if ok && a.WorkflowID == s.ID(id) {
				left = left[1:]
			}
		}
		took := time.Since(start)
		if r := s.Done(id); len(r.Preempted()) != 10 || r.State != preemptapi.RoundCompleted {
			b.Fatalf("%+v", r)
		}
		for _, vm := range vms {
			if err := s.VC.SetPowerState(vm.Ref, "poweredOn"); err != nil {
				b.Fatal(err)
			}
		}
		return took
	}
	run("warm")
	s.VC.SetLatency(latency)
	s.VC.SetTaskDelay(task)
	var samples []time.Duration
	for b.Loop() {
		for len(samples) < 11 {
			samples = append(samples, run(fmt.Sprintf("alarm-%d", len(samples))))
		}
	}
	sitetest.Figures(b, "HIGH request to 10 VMs off and annotated", samples)
}

func BenchmarkTenOffWithoutLatency(b *testing.B)     { tenOff(b, 0, 0) }
func BenchmarkTenOffAt20msPerCall(b *testing.B)      { tenOff(b, 20*time.Millisecond, 0) }
func BenchmarkTenOffAt10msAndTasksOf1s(b *testing.B) { tenOff(b, 10*time.Millisecond, time.Second) }

// callsOfARound returns the calls to vCenter of one round that takes 10 VMs of the candidates.
func callsOfARound(t testing.TB, vms, tagged, tags int, task time.Duration) (calls map[string]int, total int) {
	s := sitetest.New(t, sitetest.WithInventory(func(o *simulation.Options) {
		o.VMsPerCluster, o.Tagged, o.ExtraTags = vms, tagged, tags
	}), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = 0 }))
	s.Worker()
	s.Signal("warm", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	s.Done("warm")
	time.Sleep(300 * time.Millisecond) // the warm round's collector is destroyed a moment later
	s.VC.SetTaskDelay(task)
	s.VC.ResetCalls()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	time.Sleep(300 * time.Millisecond)
	calls, total = s.VC.Calls(), s.VC.TotalCalls()
	if len(r.Preempted()) != 10 {
		t.Fatalf("%+v", r)
	}
	s.Agree(r, s.Done("warm"))
	return calls, total
}

func TestTheCallsOfARoundDoNotGrowWithTheInventory(t *testing.T) {
	t.Parallel()
	const bar = 2*10 + 14
	for _, tc := range []struct{ vms, tagged, tags int }{{15, 10, 0}, {60, 40, 0}, {15, 10, 500}} {
		calls, total := callsOfARound(t, tc.vms, tc.tagged, tc.tags, 0)
		if total > bar {
			t.Errorf("%d VMs, %d candidates, %d other tags: %d calls, at most %d: %v", tc.vms, tc.tagged, tc.tags, total, bar, calls)
		}
	}
	// Waiting costs one call per second, however many VMs are waited for.
	if calls, total := callsOfARound(t, 15, 10, 0, 3*time.Second); total > bar+4 {
		t.Errorf("with 3 s of waiting: %d calls, at most %d: %v", total, bar+4, calls)
	}
}

func BenchmarkCallsOfARound(b *testing.B) {
	for b.Loop() {
		for _, tc := range []struct{ vms, tagged, tags int }{{15, 10, 0}, {60, 40, 0}, {15, 10, 500}} {
			_, total := callsOfARound(b, tc.vms, tc.tagged, tc.tags, 0)
			fmt.Fprintf(b.Output(), "10 VMs off of %d candidates, %d VMs a cluster, %d other tags: %d calls\n", 2*tc.tagged, tc.vms, tc.tags, total)
		}
	}
}
