package e2e

import (
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

var (
	sharedVMs  = flag.Int("shared.vms", 1000, "VMs of the rounds that workers share")
	sharedRuns = flag.Int("shared.runs", 3, "rounds with one worker and with two, alternating")
	sharedTask = flag.Duration("shared.task", 0, "how long vCenter's power-off tasks take")
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

// allOff lets a HIGH alarm power everybody off, and everybody on again when the round has ended. It returns how long it
// took from the first power-off to the last attribute.
func allOff(s *sitetest.Site, id string, n int) (took time.Duration) {
	s.T.Helper()
	var began, ended atomic.Int64
	s.VC.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) { began.CompareAndSwap(0, time.Now().UnixNano()) })
	s.VC.Hook("SetField", func(types.ManagedObjectReference) { ended.Store(time.Now().UnixNano()) })
	s.Signal(id, s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Round(s.Started(id))
	took = time.Duration(ended.Load() - began.Load())
	if len(r.Preempted()) != n || r.State != preemptapi.RoundCompleted {
		s.T.Fatalf("%d of %d VMs off, %s: %s", len(r.Preempted()), n, r.State, r.Reason)
	}
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		if a, ok := s.Attribute(vm.Ref); !ok || a.RoundID != r.RoundID {
			s.T.Fatalf("%s is not annotated: %+v", vm.Name, a)
		}
		s.Must(s.VC.SetPowerState(vm.Ref, "poweredOn"))
	}
	return took
}

// BenchmarkTwoWorkersShareARound compares one worker and two, each of which makes 5 calls at once, in turn.
func BenchmarkTwoWorkersShareARound(b *testing.B) {
	n := *sharedVMs
	s := manyVMs(b, n)
	s.Config = func(c *vcenter.Config) { c.MaxConcurrentCalls = 5 }
	s.Worker()
	allOff(s, "warm", n)
	s.VC.SetLatency(20 * time.Millisecond)
	s.VC.SetTaskDelay(*sharedTask)
	var alone, both []time.Duration
	for b.Loop() {
		for i := range *sharedRuns {
			alone = append(alone, allOff(s, fmt.Sprintf("alone-%d", i), n))
			second := s.Worker()
			time.Sleep(2 * time.Second) // it polls
			both = append(both, allOff(s, fmt.Sprintf("both-%d", i), n))
			second.Stop()
		}
	}
	compared(b, n, alone, both)
}
