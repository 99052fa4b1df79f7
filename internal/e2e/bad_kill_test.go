package e2e

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// impatient notices a dead worker soon.
var impatient = withSettings(func(set *preempt.Settings) { set.Timing.Heartbeat = time.Second })

// endedAt runs a HIGH round on ten VMs whose worker process is ended by end at the n-th call of method,
// lets another worker take over, and returns the result.
func (s *site) endedAt(method string, n int64, end func(*process)) preemptapi.RoundResult {
	s.t.Helper()
	p := s.process()
	var gone sync.WaitGroup
	gone.Add(1)
	s.onCall(method, n, func(types.ManagedObjectReference) {
		go func() {
			defer gone.Done()
			end(p)
		}()
		<-time.After(30 * time.Millisecond) // the call itself is served when its sender is no more
	})
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	gone.Wait()
	s.worker()
	return s.round(s.started("alarm"))
}

func TestAfterKillMinusNineAmongThePowerOffsEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), impatient)
	r := s.endedAt("PowerOffVM_Task", 4, (*process).kill)
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAfterKillMinusNineWhileThePowerOffsAreUnderWayEachVMIsClaimedOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), impatient)
	s.vc.SetTaskDelay(2 * time.Second) // they end when nobody looks, or under the second worker's eyes
	r := s.endedAt("PowerOffVM_Task", 7, (*process).kill)
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAfterKillMinusNineAmongTheAnnotationsEachVMIsAnnotated(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), impatient)
	r := s.endedAt("SetField", 3, (*process).kill)
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAfterSIGTERMAmongThePowerOffsEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), impatient)
	s.vc.SetTaskDelay(2 * time.Second) // longer than the stopping worker is given
	r := s.endedAt("PowerOffVM_Task", 4, (*process).terminate)
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAfterSIGTERMWhilePlanningAnotherWorkerPlans(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), impatient)
	s.vc.SetLatency(50 * time.Millisecond)
	r := s.endedAt("RetrievePropertiesEx", planReads, (*process).terminate)
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAWorkerThatStopsInTheMiddleOfPlanningHandsThePlanOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.worker()
	asked := make(chan struct{})
	s.onCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) {
		close(asked)
		<-time.After(4 * time.Second) // longer than a stopping worker waits for its activities
	})
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	<-asked
	first.stop()
	s.worker()
	r := s.round(s.started("alarm"))
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.wantOursExactly(r)
}

func TestARoundThatIsWithdrawnWhileItsPlansWorkerIsDeadHasNotFailed(t *testing.T) {
	t.Parallel()
	s := newSite(t, impatient)
	p := s.process()
	s.onCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) { p.kill() })
	s.change("alarm", "cluster-a", 0, "green", "red")
	<-p.gone
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.worker()
	r := s.round(s.started("alarm"))
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.keep("withdrawn-as-its-worker-died", r.RoundID)
	s.eventually("its scope is free", func() bool {
		for _, scope := range s.ledger().Scopes {
			if scope.Active != "" {
				return false
			}
		}
		return true
	})
}

func TestARestoreThatIsStoppedWhileItsPlansWorkerIsDeadHasNotFailed(t *testing.T) {
	t.Parallel()
	s := newSite(t, impatient, restoring())
	p := s.process()
	s.change("alarm", "cluster-a", 0, "green", "red")
	s.done("alarm")
	s.onCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) { p.kill() })
	s.change("alarm", "cluster-a", 0, "red", "green")
	<-p.gone
	s.change("alarm", "cluster-a", 0, "green", "red")
	s.worker()
	if r := s.restored(); r.State != preemptapi.RestoreStopped {
		t.Errorf("the restore is %s: %s", r.State, r.Reason)
	}
	s.keep("stopped-as-its-worker-died", s.restoreID())
}

func TestWhatOthersTurnOffWhileNoWorkerLivesIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), impatient)
	vms := s.vc.TaggedVMs("")
	for _, vm := range vms[5:] {
		s.vc.SetTaskDelayFor(vm.Ref, time500)
	}
	var other types.ManagedObjectReference
	var sent atomic.Int64
	killed := make(chan struct{}) // the worker, however long that takes, sends no more than five beyond the fourth
	s.vc.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) {
		if sent.Add(1) > 4 {
			<-killed
		}
	})
	r := s.endedAt("PowerOffVM_Task", 4, func(p *process) {
		p.kill()
		close(killed)
		s.eventually("what was sent has ended", func() bool { return int64(s.off("cluster-a")) == sent.Load() })
		for _, vm := range vms {
			if s.vc.PowerState(vm.Ref) == "poweredOn" {
				other = vm.Ref
				s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org"))
				return
			}
		}
	})
	if other == (types.ManagedObjectReference{}) {
		t.Fatal("all power-offs were sent before the kill, which at five at a time should not be: nothing to see")
	}
	wantState(t, r, preemptapi.RoundCompleted, 9)
	s.wantOursExactly(r, other)
}

func TestAfterKillMinusNineWhileWaitingForGuestsEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*process){"SIGKILL": (*process).kill, "SIGTERM": (*process).terminate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, oneCluster(6), impatient, withPolicy(func(p *policy.Policy) {
				p.Criticality.Medium.GracePeriod = clock.Duration(3 * time.Second)
			}))
			vms := s.vc.TaggedVMs("")
			s.vc.SetShutdownDelay(1500 * time.Millisecond) // some go off while no worker lives
			s.vc.IgnoreShutdown(vms[0].Ref)
			p := s.process()
			s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
			s.eventually("all guests are asked", func() bool { return s.calls("ShutdownGuest") == 6 && s.calls("WaitForUpdatesEx") > 0 })
			end(p)
			time.Sleep(time.Second)
			s.worker()
			r := s.round(s.started("alarm"))
			wantState(t, r, preemptapi.RoundCompleted, 6)
			wantOutcome(t, r, vms[0], action.Forced)
			for _, vm := range vms[1:] {
				wantOutcome(t, r, vm, action.ShutDown)
			}
			s.wantOursExactly(r)
		})
	}
}

func TestAfterKillMinusNineAtAnyInstantEachVMIsClaimedOnceAndAnnotated(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for i := range 10 {
		crit := []preemption.Criticality{preemption.CriticalityHigh, preemption.CriticalityMedium}[i%2]
		delay, late := time.Duration(random.Int64N(int64(600*time.Millisecond))), lags(t, random)
		t.Run(fmt.Sprintf("%s after %s", crit, delay.Round(time.Millisecond)), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, oneCluster(8), impatient)
			s.lagged(late)
			s.vc.SetLatency(10 * time.Millisecond)
			s.vc.SetTaskDelay(100 * time.Millisecond)
			s.vc.SetShutdownDelay(300 * time.Millisecond)
			vms := s.vc.TaggedVMs("")
			s.vc.IgnoreShutdown(vms[0].Ref)
			p := s.process()
			s.signal("alarm", s.alarmRequest("cluster-a", crit))
			s.eventually("the worker is at work", func() bool { return s.calls("RetrievePropertiesEx") > 0 })
			time.Sleep(delay)
			p.kill()
			time.Sleep(time500)
			var others []types.ManagedObjectReference
			if vm := vms[3]; s.vc.PowerState(vm.Ref) == "poweredOn" {
				s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org"))
				others = append(others, vm.Ref)
			}
			s.worker()
			r := s.round(s.started("alarm"))
			wantState(t, r, preemptapi.RoundCompleted, 8-len(others))
			s.wantOursExactly(r, others...)
		})
	}
}
