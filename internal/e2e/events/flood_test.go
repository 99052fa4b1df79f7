package events

import (
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// flood sends n different requests to one workflow, from eight clients at once.
func flood(s *sitetest.Site, id string, n int) {
	s.T.Helper()
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := c; i < n; i += 8 {
				_, err := s.Temporal.SignalWithStartWorkflow(s.T.Context(), s.ID(id), preemption.SignalChannel, sitetest.PersonRequest(preemption.CriticalityLow),
					client.StartWorkflowOptions{ID: s.ID(id), TaskQueue: s.Queue}, preemption.WorkflowName)
				if err != nil {
					s.T.Errorf("signal %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// survivesAFlood floods an intake whose round waits for guests that ignore their shutdown.
func survivesAFlood(t testing.TB, n int) {
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.Cooldown = clock.Duration(time.Hour)
		p.Criticality.Medium.GracePeriod = clock.Duration(5 * time.Second)
	}))
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	first := s.Until("alarm", "the round waits", func(r preemptapi.Response) bool { return r.RoundID != "" })

	flood(s, "alarm", n)

	var last preemptapi.Response
	deadline := time.Now().Add(5 * time.Minute)
	for last.Requests != n+1 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		last = s.State("alarm")
	}
	if last.Requests != n+1 {
		t.Fatalf("%d of %d requests were taken", last.Requests, n+1)
	}
	if last.RunID == first.RunID {
		t.Errorf("%d signals did not make it continue as new", n)
	}
	r := s.Round(first.RoundID)
	if r.State != preemptapi.RoundCompleted || r.Count(action.Forced) != 6 {
		t.Errorf("the flood harmed the round: %+v", r)
	}
	s.Until("alarm", "the round's result reached the intake's new run", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.RoundID == first.RoundID
	})
	if err := s.Temporal.CancelWorkflow(t.Context(), s.ID("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.Temporal.GetWorkflow(t.Context(), s.ID("alarm"), "").Get(t.Context(), &res); err != nil {
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
