package e2e

import (
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// flood sends n different requests to one workflow, from eight clients at once.
func (s *site) flood(id string, n int) {
	s.t.Helper()
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := c; i < n; i += 8 {
				_, err := s.c.SignalWithStartWorkflow(s.t.Context(), s.id(id), preemption.SignalChannel, person(preemption.CriticalityLow),
					client.StartWorkflowOptions{ID: s.id(id), TaskQueue: s.queue}, preemption.WorkflowName)
				if err != nil {
					s.t.Errorf("signal %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// survivesAFlood floods an intake whose round waits for guests that ignore their shutdown.
func survivesAFlood(t testing.TB, n int) {
	s := newSite(t, withPolicy(func(p *policy.Policy) {
		p.Cooldown = clock.Duration(time.Hour)
		p.Criticality.Medium.GracePeriod = clock.Duration(5 * time.Second)
	}))
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	first := s.until("alarm", "the round waits", func(r preemptapi.Response) bool { return r.RoundID != "" })

	s.flood("alarm", n)

	var last preemptapi.Response
	deadline := time.Now().Add(5 * time.Minute)
	for last.Requests != n+1 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		last = s.state("alarm")
	}
	if last.Requests != n+1 {
		t.Fatalf("%d of %d requests were taken", last.Requests, n+1)
	}
	if last.RunID == first.RunID {
		t.Errorf("%d signals did not make it continue as new", n)
	}
	r := s.round(first.RoundID)
	if r.State != preemptapi.RoundCompleted || r.Count(action.Forced) != 6 {
		t.Errorf("the flood harmed the round: %+v", r)
	}
	s.until("alarm", "the round's result reached the intake's new run", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.RoundID == first.RoundID
	})
	if err := s.c.CancelWorkflow(t.Context(), s.id("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.c.GetWorkflow(t.Context(), s.id("alarm"), "").Get(t.Context(), &res); err != nil {
		t.Fatalf("cancel after the flood: %v", err)
	}
	if len(res.VirtualMachines) != 6 || res.Requests != n+1 {
		t.Errorf("the result forgot what was done: %d VMs, %d requests", len(res.VirtualMachines), res.Requests)
	}
}

func TestAFloodOfRequestsLosesNothingAndHarmsNoRound(t *testing.T) {
	survivesAFlood(t, 4500)
}

// BenchmarkFlood25000 goes past Temporal's limit of 10,000 signals per run.
func BenchmarkFlood25000(b *testing.B) {
	for b.Loop() {
		start := time.Now()
		survivesAFlood(b, 25_000)
		b.ReportMetric(25_000/time.Since(start).Seconds(), "signals/s")
	}
}
