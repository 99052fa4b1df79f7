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
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// manyVMs is a site of one cluster whose n tagged VMs may all go in one round.
func manyVMs(t testing.TB, n int, opts ...sitetest.Option) *sitetest.Site {
	t.Helper()
	return sitetest.New(t, append([]sitetest.Option{
		sitetest.WithInventory(func(o *simulation.Options) {
			o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = 1, 16, n, n
		}),
		sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown, p.MaxVMs = clock.Duration(time.Millisecond), n }),
	}, opts...)...)
}

// sharedBy starts two workers and returns how many calls of a method each has sent.
func sharedBy(s *sitetest.Site, method string) (sent [2]*atomic.Int64) {
	s.T.Helper()
	for i := range sent {
		sent[i] = &atomic.Int64{}
		s.Config = func(c *vcenter.Config) {
			c.MaxConcurrentCalls = 5
			c.Observe = func(called, _ string, _ time.Duration) {
				if called == method {
					sent[i].Add(1)
				}
			}
		}
		s.Worker()
	}
	return sent
}

// powerOffs counts the power-offs of each VM.
func powerOffs(s *sitetest.Site) func() map[types.ManagedObjectReference]int {
	var mu sync.Mutex
	counts := map[types.ManagedObjectReference]int{}
	s.VC.Hook("PowerOffVM_Task", func(vm types.ManagedObjectReference) {
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
	const n = 300
	s := manyVMs(t, n)
	sent, counts := sharedBy(s, "PowerOffVM_Task"), powerOffs(s)
	s.VC.SetLatency(10 * time.Millisecond)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Round(s.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, n)
	s.WantOursExactly(r)
	s.Keep("shared", r.RoundID)
	for vm, times := range counts() {
		if times != 1 {
			t.Errorf("%s was powered off %d times", vm.Value, times)
		}
	}
	if sent[0].Load() == 0 || sent[1].Load() == 0 {
		t.Errorf("one worker sent %d power-offs, the other %d", sent[0].Load(), sent[1].Load())
	}
	for i, vm := range s.VC.TaggedVMs("cluster-a") {
		if a, _ := s.Attribute(vm.Ref); a.RoundID != r.RoundID {
			t.Errorf("VM %d carries %+v", i, a)
		}
	}
}

func TestARoundEndsWhenOneOfTheWorkersThatShareItIsKilled(t *testing.T) {
	t.Parallel()
	const n = 180
	s := manyVMs(t, n, sitetest.Impatient)
	s.VC.SetLatency(10 * time.Millisecond)
	s.Worker()
	p := s.Process()
	s.Eventually("both poll", func() bool { return pollers(s) == 2 })
	var once sync.Once
	s.OnCall("SetField", n/4, func(types.ManagedObjectReference) { once.Do(func() { go p.Kill() }) })
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Round(s.Started("alarm"))
	<-p.Gone
	sitetest.WantState(t, r, preemptapi.RoundCompleted, n)
	s.WantOursExactly(r)
}

func TestAWithdrawalReachesAllPartsOfARoundThatWorkersShare(t *testing.T) {
	t.Parallel()
	const n = 300
	s := manyVMs(t, n)
	sharedBy(s, "PowerOffVM_Task")
	s.VC.SetLatency(20 * time.Millisecond)
	withdrawn := make(chan struct{})
	s.OnCall("PowerOffVM_Task", 30, func(types.ManagedObjectReference) {
		go func() {
			defer close(withdrawn)
			s.Change("alarm", "cluster-a", 0, "red", "green")
		}()
	})
	s.Change("alarm", "cluster-a", 0, "green", "red")
	r := s.Round(s.Started("alarm"))
	<-withdrawn
	off := len(r.Preempted())
	if r.State != preemptapi.RoundWithdrawn || off < 25 || off == n || len(r.Targets) != n || off+r.Count(action.Spared) != n {
		t.Fatalf("%s: %d targets, %d off, %d spared: %s", r.State, len(r.Targets), off, r.Count(action.Spared), r.Reason)
	}
	s.WantOursExactly(r)
	s.Keep("shared-withdrawn", r.RoundID)
}

func TestPartsThatWorkersShareLeaveTheMinimumOfAGroupOn(t *testing.T) {
	t.Parallel()
	const n, least, gone = 180, 60, 20
	s := manyVMs(t, n, sitetest.WithNotice(1500*time.Millisecond), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Budgets = []policy.Budget{{Group: "db", MinAvailable: policy.Amount{N: least}}}
	}))
	vms := s.VC.TaggedVMs("cluster-a")
	for _, vm := range vms {
		s.Must(s.VC.SetTags(vm.Ref, policy.CategoryGroup, "db"))
	}
	sharedBy(s, "PowerOffVM_Task")
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Started("alarm")
	s.Eventually("the notice runs", func() bool { return s.Under(id).State == preemptapi.RoundNotified })
	targets := map[vsphere.Ref]bool{}
	for _, ref := range s.Under(id).Waiting {
		targets[ref] = true
	}
	var others []types.ManagedObjectReference // that the plan spares, and that fail before the parts begin
	for _, vm := range vms {
		if !targets[sitetest.Ref(vm.Ref)] && len(others) < gone {
			s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org"))
			others = append(others, vm.Ref)
		}
	}
	r := s.Round(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, n-least-gone)
	s.WantOursExactly(r, others...)
}

func TestPartsThatWorkersShareKeepTheBudgetOfTheHour(t *testing.T) {
	t.Parallel()
	const n, most = 120, 90
	s := manyVMs(t, n, sitetest.WithPolicy(func(p *policy.Policy) {
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: most}}}
	}))
	sharedBy(s, "PowerOffVM_Task")
	s.VC.SetLatency(10 * time.Millisecond)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Round(s.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, most)
	s.WantOursExactly(r)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	again := s.Done("alarm")
	if n := s.OffIn("cluster-a"); n != most {
		t.Errorf("%d are off after a second round (%s), and the budget is %d", n, again.State, most)
	}
}

// pollers counts the clients that poll for activities of the site's queue.
func pollers(s *sitetest.Site) int {
	s.T.Helper()
	d, err := s.Temporal.DescribeTaskQueue(s.T.Context(), s.Queue, enums.TASK_QUEUE_TYPE_ACTIVITY)
	s.Must(err)
	who := map[string]bool{}
	for _, p := range d.GetPollers() {
		who[p.GetIdentity()] = true
	}
	return len(who)
}
