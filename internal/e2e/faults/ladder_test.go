package faults

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// ladderSite has a ladder with so long between its steps. Three VMs have a limit of their
// owners, which is returned.
func ladderSite(t *testing.T, between time.Duration, opts ...sitetest.Option) (s *sitetest.Site, own map[types.ManagedObjectReference]int64) {
	s = sitetest.New(t, append(opts, sitetest.OneCluster(6), sitetest.WithLadder(between))...)
	own = map[types.ManagedObjectReference]int64{}
	for i, vm := range s.VC.TaggedVMs("cluster-a") {
		if i < 3 {
			own[vm.Ref] = int64(30000 + i)
			s.SetLimit(vm.Ref, own[vm.Ref])
		}
	}
	s.Must(s.VC.SetClusterUsage("cluster-a", 85, 70))
	return s, own
}

// wantAsItWas waits for the restore, and checks from vCenter's side that nothing is left of the ladder.
func wantAsItWas(s *sitetest.Site, own map[types.ManagedObjectReference]int64) {
	s.T.Helper()
	s.Must(s.VC.SetClusterUsage("cluster-a", 10, 10)) // there is room for all
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("all are back as they were", func() bool {
		for _, vm := range s.VC.TaggedVMs("cluster-a") {
			if !s.On(vm) {
				return false
			}
		}
		for vm, limit := range s.Limits() {
			if was, limited := own[vm]; limited && limit != was || !limited && limit != policy.Unlimited {
				return false
			}
		}
		return true
	})
	s.Restored()
	s.WantLimits(own)
}

func TestALadderIsClimbedAndGreenUndoesAllOfIt(t *testing.T) {
	t.Parallel()
	s, own := ladderSite(t, 2*time.Second)
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	r := s.Done("alarm")
	throttled, suspended := r.Count(action.Throttled), r.Count(action.Suspended)
	if r.State != preemptapi.RoundCompleted || throttled == 0 || suspended == 0 || suspended == len(r.Targets) {
		t.Fatalf("%d throttled, %d suspended: %s", throttled, suspended, sitetest.Pretty(r))
	}
	for _, target := range r.Targets {
		ref := types.ManagedObjectReference{Type: target.Ref.Type, Value: target.Ref.Value}
		if a, _ := s.Attribute(ref); a.Outcome != target.Outcome || !a.Throttle.Open() {
			t.Errorf("%s is reported %s and carries %s", target.Name, target.Outcome, sitetest.Pretty(a))
		}
	}
	wantAsItWas(s, own)
}

func TestGreenBetweenTheStepsEndsALadderAndUndoesIt(t *testing.T) {
	t.Parallel()
	s, own := ladderSite(t, time.Hour)
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundBetween)
	wantAsItWas(s, own)
	if r := s.Round(round); r.State != preemptapi.RoundWithdrawn || r.Count(action.Throttled) != len(r.Targets) {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	if n := s.Calls("SuspendVM_Task"); n > 0 {
		t.Errorf("%d VMs were suspended", n)
	}
}

func TestALadderWhoseWorkerIsKilledOnEachStepLeavesNoLimitBehind(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"ReconfigVM_Task", "SuspendVM_Task"} {
		t.Run("at "+method, func(t *testing.T) {
			t.Parallel()
			s, own := ladderSite(t, 2*time.Second, sitetest.Impatient)
			p := s.Process()
			s.OnCall(method, 2, func(types.ManagedObjectReference) { p.Kill() })
			s.Change("alarm", "cluster-a", 0, "green", "red")
			<-p.Gone
			s.Worker()
			if r := s.Done("alarm"); r.State != preemptapi.RoundCompleted || r.Count(action.Suspended) == 0 || r.Count(action.Suspended)+r.Count(action.Throttled) != len(r.Targets) {
				t.Errorf("%s", sitetest.Pretty(r))
			}
			wantAsItWas(s, own)
		})
	}
	t.Run("between the steps", func(t *testing.T) {
		t.Parallel()
		s, own := ladderSite(t, 4*time.Second, sitetest.Impatient)
		p := s.Process()
		s.Change("alarm", "cluster-a", 0, "green", "red")
		s.Reaches(s.Started("alarm"), preemptapi.RoundBetween)
		p.Kill()
		s.Worker()
		if r := s.Done("alarm"); r.Count(action.Suspended) == 0 {
			t.Errorf("%s", sitetest.Pretty(r))
		}
		wantAsItWas(s, own)
	})
}
