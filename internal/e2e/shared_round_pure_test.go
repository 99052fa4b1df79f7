package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// slowVCenter is one worker's access to a vCenter in memory: five calls at once, each of which takes 20 ms.
type slowVCenter struct {
	*vcentertest.VCenter
	places chan struct{}
}

func (v slowVCenter) call() {
	v.places <- struct{}{}
	time.Sleep(20 * time.Millisecond)
	<-v.places
}

func (v slowVCenter) Recheck(ctx context.Context, tag string, refs []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error) {
	v.call()
	return v.VCenter.Recheck(ctx, tag, refs)
}

func (v slowVCenter) Cut(ctx context.Context, what action.Action, ref vsphere.Ref) (vsphere.Ref, error) {
	v.call()
	return v.VCenter.Cut(ctx, what, ref)
}

func (v slowVCenter) AwaitOff(ctx context.Context, waits []vcenter.Wait, report func(vsphere.Ref, vcenter.WaitResult)) error {
	for range 4 { // collector, filter, one answer, and the filter's end
		v.call()
	}
	return v.VCenter.AwaitOff(ctx, waits, report)
}

func (v slowVCenter) Annotate(ctx context.Context, vm vsphere.Ref, name, value string) error {
	v.call()
	return v.VCenter.Annotate(ctx, vm, name, value)
}

// slowRound carries out a round of n VMs with so many workers: the real workflow and activities on the real server. Only
// vCenter is in memory, so that processors have little to do.
func slowRound(s *sitetest.Site, id string, workers, n int) time.Duration {
	s.T.Helper()
	vc := vcentertest.New(n)
	for range workers {
		c := s.Dial()
		rooms := s.Preemption(c, s.Gateway())
		rooms.Round.VCenter = slowVCenter{VCenter: vc, places: make(chan struct{}, 5)}
		w := worker.Poller(c, s.Queue, time.Second, nil)
		rooms.Register(w)
		s.Must(w.Start())
		defer w.Stop()
	}
	time.Sleep(2 * time.Second) // all poll
	p := s.Settings.Policies["default"]
	p.MaxVMs = n
	began := time.Now()
	run, err := s.Temporal.ExecuteWorkflow(s.T.Context(), client.StartWorkflowOptions{ID: s.ID(id), TaskQueue: s.Queue}, preemptapi.RoundType, round.Input{
		Demand: preemptapi.Demand{RequestID: id, Tag: "spot", Criticality: preemption.CriticalityHigh, Scope: vcentertest.Cluster, Policy: p, PolicyName: "default"},
		Timing: s.Settings.Timing,
	})
	s.Must(err)
	r := s.Round(run.GetID())
	took := time.Since(began)
	if r.State != preemptapi.RoundCompleted || len(r.Preempted()) != n || vc.On() != 0 {
		s.T.Fatalf("%s: %d of %d VMs off, %d on: %s", r.State, len(r.Preempted()), n, vc.On(), r.Reason)
	}
	return took
}

// BenchmarkTwoWorkersShareARoundInMemory is BenchmarkTwoWorkersShareARound without the simulator's share of the processors.
func BenchmarkTwoWorkersShareARoundInMemory(b *testing.B) {
	n := *sharedVMs
	s := sitetest.New(b)
	var alone, both []time.Duration
	for b.Loop() {
		for i := range *sharedRuns {
			alone = append(alone, slowRound(s, fmt.Sprintf("alone-%d", i), 1, n))
			both = append(both, slowRound(s, fmt.Sprintf("both-%d", i), 2, n))
		}
	}
	compared(b, n, alone, both)
}

// compared prints how long one worker and two took.
func compared(b *testing.B, n int, alone, both []time.Duration) {
	b.Helper()
	sitetest.Figures(b, fmt.Sprintf("%d VMs off at 20 ms a call, one worker", n), alone)
	sitetest.Figures(b, fmt.Sprintf("%d VMs off at 20 ms a call, two workers", n), both)
	slices.Sort(alone)
	slices.Sort(both)
	ratio := both[len(both)/2].Seconds() / alone[len(alone)/2].Seconds()
	fmt.Fprintf(b.Output(), "two workers take %.2f of the time of one\n", ratio)
	b.ReportMetric(ratio, "of-one")
}
