package faults

import (
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestTwoWorkersThatCreateTheCustomFieldAtOnceBothAnnotate(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	twin := *s // another installation on the same vCenter
	twin.Queue += "-twin"
	var both sync.WaitGroup
	both.Add(2)
	s.VC.Hook("AddCustomFieldDef", func(types.ManagedObjectReference) { // both find no field before either makes one
		both.Done()
		both.Wait()
	})
	s.Worker()
	twin.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	twin.Signal("alarm", twin.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	first, second := s.Round(s.Started("alarm")), twin.Round(twin.Started("alarm"))
	sitetest.WantState(t, first, preemptapi.RoundCompleted, 6)
	sitetest.WantState(t, second, preemptapi.RoundCompleted, 6)
	if n := s.Calls("AddCustomFieldDef"); n != 2 {
		t.Fatalf("%d attempts to create the field: nothing to see", n)
	}
	s.Agree(first, second)
}

func TestTwoIntakesOnOneScopeAtOneInstantShareTheLimit(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(30), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Minute) }))
	s.Worker()
	s.Worker()
	requests := map[string]preemption.WorkflowRequest{}
	for _, id := range []string{"one", "two", "person"} {
		requests[id] = s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	}
	person := requests["person"]
	person.Origin = preemption.OriginPerson
	requests["person"] = person
	var sent sync.WaitGroup
	for id, req := range requests {
		sent.Go(func() { s.Signal(id, req) })
	}
	sent.Wait()
	verdicts := map[preemptapi.Verdict]int{}
	var r preemptapi.RoundResult
	for id := range requests {
		d := s.Until(id, "it is decided", func(r preemptapi.Response) bool { return r.LastDecision != nil }).LastDecision
		verdicts[d.Verdict]++
		if d.Verdict == preemptapi.Started {
			r = s.Round(d.RoundID)
		}
	}
	if verdicts[preemptapi.Started] != 1 || verdicts[preemptapi.Failed]+verdicts[preemptapi.Rejected] != 0 {
		t.Errorf("verdicts %v: want one started, the others refused or deferred", verdicts)
	}
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	time.Sleep(sitetest.HalfASecond)
	if n := s.Calls("PowerOffVM_Task"); n != 10 {
		t.Errorf("%d VMs were powered off between them, want 10", n)
	}
	s.WantOursExactly(r)
}
