package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestARiseStopsTheRestoreAtOnceAndTheNextFallResumesIt(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Wave = 1 }))
	s.Worker()
	s.Preempted(6)
	s.VC.SetLatency(20 * time.Millisecond)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("the first is back", func() bool { r, _ := s.RestoreState(); return len(r.Restored()) > 0 })
	s.Change("alarm", "cluster-a", 0, "green", "red")
	r := s.Restored()
	if r.State != preemptapi.RestoreStopped || len(r.Restored()) == 6 || len(r.Changes) == 0 {
		t.Fatalf("unexpected restore %s", sitetest.Pretty(r))
	}
	first := r.RunID
	s.Until("alarm", "the second round ended", func(p preemptapi.Response) bool { return p.State == preemptapi.IntakeIdle && !anyOn(s) })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("a second restore ran", func() bool {
		r, _ = s.RestoreState()
		return r.RunID != first && r.State == preemptapi.RestoreCompleted
	})
	s.WantRestored(r, preemptapi.RestoreCompleted, 6)
}

func anyOn(s *sitetest.Site) bool { return slices.ContainsFunc(s.VC.TaggedVMs("cluster-a"), s.On) }

func TestARiseInTheSettleTimeKeepsEverybodyOff(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Settle = clock.Duration(time.Minute) }))
	s.Worker()
	s.Preempted(6)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("it settles", func() bool { r, _ := s.RestoreState(); return r.State == preemptapi.RestoreSettling })
	s.Change("alarm", "cluster-a", 0, "green", "yellow")
	s.WantRestored(s.Restored(), preemptapi.RestoreStopped, 0)
}

// restoreKilledAt ends the worker process of a restore at the n-th call of method, and lets another take over.
func restoreKilledAt(s *sitetest.Site, method string, n int64, end func(*sitetest.Process)) preemptapi.RestoreResult {
	s.T.Helper()
	p := s.Process()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Done("alarm")
	gone := make(chan struct{})
	s.OnCall(method, n, func(types.ManagedObjectReference) {
		go func() { end(p); close(gone) }()
		<-time.After(30 * time.Millisecond)
	})
	s.Change("alarm", "cluster-a", 0, "red", "green")
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		s.T.Fatalf("%s was never called the %d. time", method, n)
	}
	s.Worker()
	return s.Restored()
}

func TestAfterKillMinusNineInTheMiddleOfARestoreEachVMIsAccountedFor(t *testing.T) {
	t.Parallel()
	for method, n := range map[string]int64{"PowerOnMultiVM_Task": 1, "SetField": 2, "ReadNextEvents": 2} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.OneCluster(5), sitetest.Impatient, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Wave = 3 }))
			r := restoreKilledAt(s, method, n, (*sitetest.Process).Kill)
			s.WantRestored(r, preemptapi.RestoreCompleted, 5)
		})
	}
}

func liveRestored(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithRestore())
	s.Worker()
	r := s.Preempted(3)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.WantRestored(s.Restored(), preemptapi.RestoreCompleted, 3)
	s.Keep(name, s.ID("alarm"), r.RoundID, s.RestoreID(), ledger.WorkflowID(s.Queue))
}

func liveRestoreStopped(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Wave = 1 }))
	s.Worker()
	s.Preempted(3)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("the first is back", func() bool { r, _ := s.RestoreState(); return len(r.Restored()) > 0 })
	s.Change("alarm", "cluster-a", 0, "green", "red")
	if r := s.Restored(); r.State != preemptapi.RestoreStopped {
		t.Fatalf("unexpected restore %s", sitetest.Pretty(r))
	}
	s.Keep(name, s.ID("alarm"), s.RestoreID())
}
