package e2e

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// liveLadder is a ladder that is climbed, and its restore.
func liveLadder(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.OneCluster(6), sitetest.WithLadder(2*time.Second))
	s.Must(s.VC.SetClusterUsage("cluster-a", 85, 70))
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	r := s.Done("alarm")
	if r.Count(action.Throttled) == 0 || r.Count(action.Suspended) == 0 {
		t.Fatalf("%s", sitetest.Pretty(r))
	}
	s.Must(s.VC.SetClusterUsage("cluster-a", 10, 10))
	s.Change("alarm", "cluster-a", 0, "red", "green")
	if restored := s.Restored(); len(restored.Restored()) != len(r.Targets) {
		t.Fatalf("%s", sitetest.Pretty(restored))
	}
	s.WantLimits(nil)
	s.Keep(name, s.ID("alarm"), r.RoundID, s.RestoreID(), ledger.WorkflowID(s.Queue))
}

// liveLadderEnded is a ladder whose alarm turns green between its steps, and its restore.
func liveLadderEnded(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.OneCluster(6), sitetest.WithLadder(time.Hour))
	s.Must(s.VC.SetClusterUsage("cluster-a", 85, 70))
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundBetween)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	if r := s.Round(round); r.State != preemptapi.RoundWithdrawn || r.Count(action.Throttled) == 0 {
		t.Fatalf("%s", sitetest.Pretty(r))
	}
	s.Restored()
	s.WantLimits(nil)
	s.Keep(name, round, s.RestoreID())
}
