package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestARiseStopsTheRestoreAtOnceAndTheNextFallResumesIt(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Wave = 1 }))
	s.worker()
	s.preempted(6)
	s.vc.SetLatency(20 * time.Millisecond)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.eventually("the first is back", func() bool { r, _ := s.restoreState(); return len(r.Restored()) > 0 })
	s.change("alarm", "cluster-a", 0, "green", "red")
	r := s.restored()
	if r.State != preemptapi.RestoreStopped || len(r.Restored()) == 6 || len(r.Changes) == 0 {
		t.Fatalf("unexpected restore %s", pretty(r))
	}
	first := r.RunID
	s.until("alarm", "the second round ended", func(p preemptapi.Response) bool { return p.State == "idle" && !s.anyOn() })
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.eventually("a second restore ran", func() bool {
		r, _ = s.restoreState()
		return r.RunID != first && r.State == preemptapi.RestoreCompleted
	})
	s.wantRestored(r, preemptapi.RestoreCompleted, 6)
}

func (s *site) anyOn() bool { return slices.ContainsFunc(s.vc.TaggedVMs("cluster-a"), s.on) }

func TestARiseInTheSettleTimeKeepsEverybodyOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Settle = clock.Duration(time.Minute) }))
	s.worker()
	s.preempted(6)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.eventually("it settles", func() bool { r, _ := s.restoreState(); return r.State == preemptapi.RestoreSettling })
	s.change("alarm", "cluster-a", 0, "green", "yellow")
	s.wantRestored(s.restored(), preemptapi.RestoreStopped, 0)
}

// restoreKilledAt ends the worker process of a restore at the n-th call of method, and lets another take over.
func (s *site) restoreKilledAt(method string, n int64, end func(*process)) preemptapi.RestoreResult {
	s.t.Helper()
	p := s.process()
	s.change("alarm", "cluster-a", 0, "green", "red")
	s.done("alarm")
	gone := make(chan struct{})
	s.onCall(method, n, func(types.ManagedObjectReference) {
		go func() { end(p); close(gone) }()
		<-time.After(30 * time.Millisecond)
	})
	s.change("alarm", "cluster-a", 0, "red", "green")
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("%s was never called the %d. time", method, n)
	}
	s.worker()
	return s.restored()
}

func TestAfterKillMinusNineInTheMiddleOfARestoreEachVMIsAccountedFor(t *testing.T) {
	t.Parallel()
	for method, n := range map[string]int64{"PowerOnMultiVM_Task": 1, "SetField": 2, "ReadNextEvents": 2} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, oneCluster(5), impatient, restoring(func(p *policy.Policy) { p.Restore.Wave = 3 }))
			r := s.restoreKilledAt(method, n, (*process).kill)
			s.wantRestored(r, preemptapi.RestoreCompleted, 5)
		})
	}
}

func liveRestored(t *testing.T, name string) {
	s := newSite(t, oneCluster(3), restoring())
	s.worker()
	r := s.preempted(3)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.wantRestored(s.restored(), preemptapi.RestoreCompleted, 3)
	s.keep(name, s.id("alarm"), r.RoundID, s.restoreID(), ledger.WorkflowID(s.queue))
}

func liveRestoreStopped(t *testing.T, name string) {
	s := newSite(t, oneCluster(3), restoring(func(p *policy.Policy) { p.Restore.Wave = 1 }))
	s.worker()
	s.preempted(3)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.eventually("the first is back", func() bool { r, _ := s.restoreState(); return len(r.Restored()) > 0 })
	s.change("alarm", "cluster-a", 0, "green", "red")
	if r := s.restored(); r.State != preemptapi.RestoreStopped {
		t.Fatalf("unexpected restore %s", pretty(r))
	}
	s.keep(name, s.id("alarm"), s.restoreID())
}
