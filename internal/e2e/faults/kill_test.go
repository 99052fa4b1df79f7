package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// endedAt runs a HIGH round on ten VMs whose worker process is ended by end at the n-th call of method,
// lets another worker take over, and returns the result.
func endedAt(s *sitetest.Site, method string, n int64, end func(*sitetest.Process)) preemptapi.RoundResult {
	s.T.Helper()
	p := s.Process()
	var gone sync.WaitGroup
	gone.Add(1)
	s.OnCall(method, n, func(types.ManagedObjectReference) {
		go func() {
			defer gone.Done()
			end(p)
		}()
		<-time.After(30 * time.Millisecond) // the call itself is served when its sender is no more
	})
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	gone.Wait()
	s.Worker()
	return s.Round(s.Started("alarm"))
}

func TestAfterKillMinusNineAmongThePowerOffsEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.Impatient)
	r := endedAt(s, "PowerOffVM_Task", 4, (*sitetest.Process).Kill)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAfterKillMinusNineWhileThePowerOffsAreUnderWayEachVMIsClaimedOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.Impatient)
	s.VC.SetTaskDelay(2 * time.Second) // they end when nobody looks, or under the second worker's eyes
	r := endedAt(s, "PowerOffVM_Task", 7, (*sitetest.Process).Kill)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAfterKillMinusNineAmongTheAnnotationsEachVMIsAnnotated(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.Impatient)
	r := endedAt(s, "SetField", 3, (*sitetest.Process).Kill)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAfterSIGTERMAmongThePowerOffsEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.Impatient)
	s.VC.SetTaskDelay(2 * time.Second) // longer than the stopping worker is given
	r := endedAt(s, "PowerOffVM_Task", 4, (*sitetest.Process).Terminate)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAfterSIGTERMWhilePlanningAnotherWorkerPlans(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.Impatient)
	s.VC.SetLatency(50 * time.Millisecond)
	r := endedAt(s, "RetrievePropertiesEx", planReads, (*sitetest.Process).Terminate)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAWorkerThatStopsInTheMiddleOfPlanningHandsThePlanOver(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	first := s.Worker()
	asked := make(chan struct{})
	s.OnCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) {
		close(asked)
		<-time.After(4 * time.Second) // longer than a stopping worker waits for its activities
	})
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	<-asked
	first.Stop()
	s.Worker()
	r := s.Round(s.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.WantOursExactly(r)
}

func TestARoundThatIsWithdrawnWhileItsPlansWorkerIsDeadHasNotFailed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.Impatient)
	p := s.Process()
	s.OnCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) { p.Kill() })
	s.Change("alarm", "cluster-a", 0, "green", "red")
	<-p.Gone
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Worker()
	r := s.Round(s.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.Keep("withdrawn-as-its-worker-died", r.RoundID)
	s.Eventually("its scope is free", func() bool {
		for _, scope := range s.Ledger().Scopes {
			if scope.Active != "" {
				return false
			}
		}
		return true
	})
}

func TestARestoreThatIsStoppedWhileItsPlansWorkerIsDeadHasNotFailed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.Impatient, sitetest.WithRestore())
	p := s.Process()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Done("alarm")
	s.OnCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) { p.Kill() })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	<-p.Gone
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Worker()
	if r := s.Restored(); r.State != preemptapi.RestoreStopped {
		t.Errorf("the restore is %s: %s", r.State, r.Reason)
	}
	s.Keep("stopped-as-its-worker-died", s.RestoreID())
}

func TestWhatOthersTurnOffWhileNoWorkerLivesIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.Impatient)
	vms := s.VC.TaggedVMs("")
	for _, vm := range vms[5:] {
		s.VC.SetTaskDelayFor(vm.Ref, sitetest.HalfASecond)
	}
	var other types.ManagedObjectReference
	var sent atomic.Int64
	killed := make(chan struct{}) // the worker, however long that takes, sends no more than five beyond the fourth
	s.VC.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) {
		if sent.Add(1) > 4 {
			<-killed
		}
	})
	r := endedAt(s, "PowerOffVM_Task", 4, func(p *sitetest.Process) {
		p.Kill()
		close(killed)
		s.Eventually("what was sent has ended", func() bool { return int64(s.OffIn("cluster-a")) == sent.Load() })
		for _, vm := range vms {
			if s.VC.PowerState(vm.Ref) == "poweredOn" {
				other = vm.Ref
				s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org"))
				return
			}
		}
	})
	if other == (types.ManagedObjectReference{}) {
		t.Fatal("all power-offs were sent before the kill, which at five at a time should not be: nothing to see")
	}
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 9)
	s.WantOursExactly(r, other)
}

func TestAfterKillMinusNineWhileWaitingForGuestsEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*sitetest.Process){"SIGKILL": (*sitetest.Process).Kill, "SIGTERM": (*sitetest.Process).Terminate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.OneCluster(6), sitetest.Impatient, sitetest.WithPolicy(func(p *policy.Policy) {
				p.Criticality.Medium.GracePeriod = clock.Duration(3 * time.Second)
			}))
			vms := s.VC.TaggedVMs("")
			s.VC.SetShutdownDelay(1500 * time.Millisecond) // some go off while no worker lives
			s.VC.IgnoreShutdown(vms[0].Ref)
			p := s.Process()
			s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
			s.Eventually("all guests are asked", func() bool { return s.Calls("ShutdownGuest") == 6 && s.Calls("WaitForUpdatesEx") > 0 })
			end(p)
			time.Sleep(time.Second)
			s.Worker()
			r := s.Round(s.Started("alarm"))
			sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
			sitetest.WantOutcome(t, r, vms[0], action.Forced)
			for _, vm := range vms[1:] {
				sitetest.WantOutcome(t, r, vm, action.ShutDown)
			}
			s.WantOursExactly(r)
		})
	}
}

func TestAfterKillMinusNineAtAnyInstantEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	random := sitetest.Seeded(t)
	for i := range 10 {
		crit := []preemption.Criticality{preemption.CriticalityHigh, preemption.CriticalityMedium}[i%2]
		delay, late := time.Duration(random.Int64N(int64(600*time.Millisecond))), sitetest.DrawLags(t, random)
		t.Run(fmt.Sprintf("%s after %s", crit, delay.Round(time.Millisecond)), func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.OneCluster(8), sitetest.Impatient)
			s.Lagged(late)
			s.VC.SetLatency(10 * time.Millisecond)
			s.VC.SetTaskDelay(100 * time.Millisecond)
			s.VC.SetShutdownDelay(300 * time.Millisecond)
			vms := s.VC.TaggedVMs("")
			s.VC.IgnoreShutdown(vms[0].Ref)
			p := s.Process()
			s.Signal("alarm", s.AlarmRequest("cluster-a", crit))
			s.Eventually("the worker is at work", func() bool { return s.Calls("RetrievePropertiesEx") > 0 })
			time.Sleep(delay)
			p.Kill()
			time.Sleep(sitetest.HalfASecond)
			var others []types.ManagedObjectReference
			if vm := vms[3]; s.VC.PowerState(vm.Ref) == "poweredOn" {
				s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org"))
				others = append(others, vm.Ref)
			}
			s.Worker()
			r := s.Round(s.Started("alarm"))
			sitetest.WantState(t, r, preemptapi.RoundCompleted, 8-len(others))
			s.WantOursExactly(r, others...)
		})
	}
}
