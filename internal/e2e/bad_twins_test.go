package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestTwoWorkersThatCreateTheCustomFieldAtOnceBothAnnotate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	twin := *s // another installation on the same vCenter
	twin.queue += "-twin"
	var both sync.WaitGroup
	both.Add(2)
	s.vc.Hook("AddCustomFieldDef", func(types.ManagedObjectReference) { // both find no field before either makes one
		both.Done()
		both.Wait()
	})
	s.worker()
	twin.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	twin.signal("alarm", twin.alarmRequest("cluster-b", preemption.CriticalityHigh))
	first, second := s.round(s.started("alarm")), twin.round(twin.started("alarm"))
	wantState(t, first, preemptapi.RoundCompleted, 6)
	wantState(t, second, preemptapi.RoundCompleted, 6)
	if n := s.calls("AddCustomFieldDef"); n != 2 {
		t.Fatalf("%d attempts to create the field: nothing to see", n)
	}
	s.agree(first, second)
}

func TestTwoIntakesOnOneScopeAtOneInstantShareTheLimit(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(30), withPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Minute) }))
	s.worker()
	s.worker()
	requests := map[string]preemption.WorkflowRequest{}
	for _, id := range []string{"one", "two", "person"} {
		requests[id] = s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	}
	person := requests["person"]
	person.Origin = preemption.OriginPerson
	requests["person"] = person
	var sent sync.WaitGroup
	for id, req := range requests {
		sent.Go(func() { s.signal(id, req) })
	}
	sent.Wait()
	verdicts := map[preemptapi.Verdict]int{}
	var r preemptapi.RoundResult
	for id := range requests {
		d := s.until(id, "it is decided", func(r preemptapi.Response) bool { return r.LastDecision != nil }).LastDecision
		verdicts[d.Verdict]++
		if d.Verdict == preemptapi.Started {
			r = s.round(d.RoundID)
		}
	}
	if verdicts[preemptapi.Started] != 1 || verdicts[preemptapi.Failed]+verdicts[preemptapi.Rejected] != 0 {
		t.Errorf("verdicts %v: want one started, the others refused or deferred", verdicts)
	}
	wantState(t, r, preemptapi.RoundCompleted, 10)
	time.Sleep(time500)
	if n := s.calls("PowerOffVM_Task"); n != 10 {
		t.Errorf("%d VMs were powered off between them, want 10", n)
	}
	s.wantOursExactly(r)
}
