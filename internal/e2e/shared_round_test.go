package e2e

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// sharedBy starts two workers and returns how many calls of a method each has sent.
func (s *site) sharedBy(method string) (sent [2]*atomic.Int64) {
	s.t.Helper()
	for i := range sent {
		sent[i] = &atomic.Int64{}
		s.config = func(c *vcenter.Config) {
			c.MaxConcurrentCalls = 5
			c.Observe = func(called, _ string, _ time.Duration) {
				if called == method {
					sent[i].Add(1)
				}
			}
		}
		s.worker()
	}
	return sent
}

// powerOffs counts the power-offs of each VM.
func (s *site) powerOffs() func() map[types.ManagedObjectReference]int {
	var mu sync.Mutex
	counts := map[types.ManagedObjectReference]int{}
	s.vc.Hook("PowerOffVM_Task", func(vm types.ManagedObjectReference) {
		mu.Lock()
		defer mu.Unlock()
		counts[vm]++
	})
	return func() map[types.ManagedObjectReference]int {
		mu.Lock()
		defer mu.Unlock()
		return counts
	}
}

func TestTwoWorkersShareARoundAndEachVMIsOffOnce(t *testing.T) {
	t.Parallel()
	const n = 120
	s := manyVMs(t, n)
	sent, counts := s.sharedBy("PowerOffVM_Task"), s.powerOffs()
	s.vc.SetLatency(10 * time.Millisecond)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.round(s.started("alarm"))
	wantState(t, r, preemptapi.RoundCompleted, n)
	s.wantOursExactly(r)
	s.keep("shared", r.RoundID)
	for vm, times := range counts() {
		if times != 1 {
			t.Errorf("%s was powered off %d times", vm.Value, times)
		}
	}
	if sent[0].Load() == 0 || sent[1].Load() == 0 {
		t.Errorf("one worker sent %d power-offs, the other %d", sent[0].Load(), sent[1].Load())
	}
	for i, vm := range s.vc.TaggedVMs("cluster-a") {
		if a, _ := s.attribute(vm.Ref); a.RoundID != r.RoundID {
			t.Errorf("VM %d carries %+v", i, a)
		}
	}
}

func TestARoundEndsWhenOneOfTheWorkersThatShareItIsKilled(t *testing.T) {
	t.Parallel()
	const n = 120
	s := manyVMs(t, n, impatient)
	s.vc.SetLatency(10 * time.Millisecond)
	s.worker()
	p := s.process()
	s.eventually("both poll", func() bool { return s.pollers() == 2 })
	var once sync.Once
	s.onCall("SetField", n/4, func(types.ManagedObjectReference) { once.Do(func() { go p.kill() }) })
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.round(s.started("alarm"))
	<-p.gone
	wantState(t, r, preemptapi.RoundCompleted, n)
	s.wantOursExactly(r)
}

func TestAWithdrawalReachesAllPartsOfARoundThatWorkersShare(t *testing.T) {
	t.Parallel()
	const n = 300
	s := manyVMs(t, n)
	s.sharedBy("PowerOffVM_Task")
	s.vc.SetLatency(20 * time.Millisecond)
	withdrawn := make(chan struct{})
	s.onCall("PowerOffVM_Task", 30, func(types.ManagedObjectReference) {
		go func() {
			defer close(withdrawn)
			s.change("alarm", "cluster-a", 0, "red", "green")
		}()
	})
	s.change("alarm", "cluster-a", 0, "green", "red")
	r := s.round(s.started("alarm"))
	<-withdrawn
	off := len(r.Preempted())
	if r.State != preemptapi.RoundWithdrawn || off < 25 || off == n || len(r.Targets) != n || off+r.Count(action.Spared) != n {
		t.Fatalf("%s: %d targets, %d off, %d spared: %s", r.State, len(r.Targets), off, r.Count(action.Spared), r.Reason)
	}
	s.wantOursExactly(r)
	s.keep("shared-withdrawn", r.RoundID)
}

func TestPartsThatWorkersShareLeaveTheMinimumOfAGroupOn(t *testing.T) {
	t.Parallel()
	const n, least, gone = 120, 60, 20
	s := manyVMs(t, n, notice(1500*time.Millisecond), withPolicy(func(p *policy.Policy) {
		p.Budgets = []policy.Budget{{Group: "db", MinAvailable: policy.Amount{N: least}}}
	}))
	vms := s.vc.TaggedVMs("cluster-a")
	for _, vm := range vms {
		s.must(s.vc.SetTags(vm.Ref, policy.CategoryGroup, "db"))
	}
	s.sharedBy("PowerOffVM_Task")
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.started("alarm")
	s.eventually("the notice runs", func() bool { return s.under(id).State == preemptapi.RoundNotified })
	targets := map[vsphere.Ref]bool{}
	for _, ref := range s.under(id).Waiting {
		targets[ref] = true
	}
	var others []types.ManagedObjectReference // that the plan spares, and that fail before the parts begin
	for _, vm := range vms {
		if !targets[ref(vm.Ref)] && len(others) < gone {
			s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org"))
			others = append(others, vm.Ref)
		}
	}
	r := s.round(id)
	wantState(t, r, preemptapi.RoundCompleted, n-least-gone)
	s.wantOursExactly(r, others...)
}

func TestPartsThatWorkersShareKeepTheBudgetOfTheHour(t *testing.T) {
	t.Parallel()
	const n, most = 120, 90
	s := manyVMs(t, n, withPolicy(func(p *policy.Policy) {
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: most}}}
	}))
	s.sharedBy("PowerOffVM_Task")
	s.vc.SetLatency(10 * time.Millisecond)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.round(s.started("alarm"))
	wantState(t, r, preemptapi.RoundCompleted, most)
	s.wantOursExactly(r)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	again := s.done("alarm")
	if n := s.off("cluster-a"); n != most {
		t.Errorf("%d are off after a second round (%s), and the budget is %d", n, again.State, most)
	}
}

// pollers counts the clients that poll for activities of the site's queue.
func (s *site) pollers() int {
	s.t.Helper()
	d, err := s.c.DescribeTaskQueue(s.t.Context(), s.queue, enums.TASK_QUEUE_TYPE_ACTIVITY)
	s.must(err)
	who := map[string]bool{}
	for _, p := range d.GetPollers() {
		who[p.GetIdentity()] = true
	}
	return len(who)
}
