package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// forgetful restarts vCenter, which loses its tasks, a moment after the n-th call of the method was answered; what is
// asked for then goes quickly. Between is done while it is away.
func (s *site) forgetful(method string, n int64, between func()) {
	s.t.Helper()
	var done sync.WaitGroup
	s.t.Cleanup(done.Wait)
	s.onCall(method, n, func(types.ManagedObjectReference) {
		done.Go(func() {
			time.Sleep(time500)
			s.vc.SetTaskDelay(0)
			s.vc.SetPowerOnDelay(0)
			between()
			if err := s.vc.RestartLosingTasks(); err != nil {
				s.t.Error(err)
			}
		})
	})
}

func TestPowerOffsThatVCenterLosesInARestartAreSentAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3))
	s.vc.SetTaskDelay(time.Hour)
	s.forgetful("PowerOffVM_Task", 3, func() {})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 3)
	for _, vm := range s.vc.TaggedVMs("") {
		wantOutcome(t, r, vm, action.PoweredOff)
	}
	s.wantOursExactly(r)
}

func TestAPowerOffThatVCenterLosesIsNotSentAgainToAVMThatLostItsTag(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3))
	vms := s.vc.TaggedVMs("")
	s.vc.SetTaskDelay(time.Hour)
	s.forgetful("PowerOffVM_Task", 3, func() { s.must(s.vc.DetachTag("preemption", "preemptible", vms[1].Ref)) })
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 2)
	wantOutcome(t, r, vms[1], action.Spared)
	s.agree(r)
}

func TestAPowerOffThatVCenterLosesEachTimeFailsAfterThreeAttempts(t *testing.T) {
	t.Parallel()
	// On a busy machine heartbeats come late: an activity that is tried again for that sends its power-offs anew.
	s := newSite(t, oneCluster(1), withSettings(func(set *preempt.Settings) { set.Timing.Heartbeat = 30 * time.Second }))
	s.vc.SetTaskDelay(time.Hour)
	var done sync.WaitGroup
	t.Cleanup(done.Wait)
	s.vc.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) {
		done.Go(func() {
			time.Sleep(time500)
			if err := s.vc.RestartLosingTasks(); err != nil {
				t.Error(err)
			}
		})
	})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantOutcome(t, r, s.vc.TaggedVMs("")[0], action.Failed, "no longer knows the task")
	if n := s.calls("PowerOffVM_Task"); n != 3 {
		t.Errorf("it was powered off %d times, want 3", n)
	}
}

func TestPowerOnsThatVCenterLosesInARestartAreSentAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	s.worker()
	s.preempted(6)
	s.vc.SetPowerOnDelay(time.Hour)
	s.forgetful("PowerOnMultiVM_Task", 1, func() {})
	r, err := s.byHand(preemptapi.RestoreInput{})
	s.must(err)
	s.wantRestored(r, preemptapi.RestoreCompleted, 6)
}

func TestThePowerOnAfterAResizeThatVCenterLosesInARestartIsSentAgain(t *testing.T) {
	t.Parallel()
	s := remedied(t, reconfigures())
	vm := s.vc.TaggedVMs("")[0]
	s.must(s.vc.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	s.vc.SetPowerOnDelay(time.Hour)
	s.forgetful("PowerOnVM_Task", 1, func() {})
	s.works()
	r := s.byRequest(asks(remedy.KindResize, vm.Ref, func(r *remedy.Request) {
		r.Resize = &remedy.Resize{
			Resource: remedy.CPU, Mode: remedy.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Applied || !s.on(vm) {
		t.Errorf("on: %v, %s", s.on(vm), pretty(d))
	}
}

// longTasks lets power-offs take longer than the pauses between attempts.
const longTasks = 3 * time.Second

func TestAPowerOffWhoseAnswerWasLostIsWaitedForAndClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1))
	vm := s.vc.TaggedVMs("")[0]
	s.vc.SetTaskDelay(longTasks)
	s.vc.LoseAnswer("PowerOffVM_Task", &vm.Ref, 1)
	s.vc.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) {
		if s.calls("PowerOffVM_Task") > 1 { // as a vCenter that does one operation on a VM at a time
			s.vc.FailCall("PowerOffVM_Task", &vm.Ref, &types.TaskInProgress{}, -1)
		}
	})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 1)
	s.wantOursExactly(r)
}

func TestAnAttributeWhoseAnswerWasLostIsOnTheVMAndInTheResult(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2))
	s.vc.LoseAnswer("SetField", nil, 2)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 2)
	s.wantOursExactly(r)
}

func TestANoticeWhoseAnswerWasLostIsReadThenBelievedAndClearedAtTheEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2), notice(2*time.Second))
	s.vc.LoseAnswer("ReconfigVM_Task", nil, 4) // two to forget earlier answers, two notices
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range s.vc.TaggedVMs("") {
		wantNotice(t, r, vm.Name, "given")
		s.eventually("the notice is cleared", func() bool { return s.guest(vm) == "" })
	}
}

func TestANoticeOfWhichNobodyCanSayWhetherItWasGivenIsClearedAtTheEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1), notice(time.Second))
	vm := s.vc.TaggedVMs("")[0]
	s.vc.LoseAnswer("ReconfigVM_Task", nil, 2)
	s.onCall("ReconfigVM_Task", 2, func(types.ManagedObjectReference) { // the notice itself
		time.AfterFunc(100*time.Millisecond, s.vc.Outage)
		time.AfterFunc(20*time.Second, s.vc.Recover)
	})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 1)
	s.eventually("the notice is cleared", func() bool { return s.guest(vm) == "" })
}

func TestANoticeIsTakenBackWhenVCenterReturns(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1), notice(10*time.Minute))
	vm := s.vc.TaggedVMs("")[0]
	s.worker()
	s.change("alarm", "cluster-a", 0, "green", "red")
	round := s.started("alarm")
	s.eventually("the guest is told", func() bool { return s.guest(vm) != "" })
	s.reaches(round, preemptapi.RoundNotified)
	s.vc.Outage()
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.eventually("the round is withdrawn", func() bool { return len(s.under(round).Changes) > 0 })
	time.Sleep(4 * time.Second)
	s.vc.Recover()
	r := s.round(round)
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	if text := s.guest(vm); !containsAll(text, `"state":"withdrawn"`) {
		t.Errorf("the guest reads %s", text)
	}
}

func TestGuestsThatWentOffWhileVCenterWasAwayAtTheEndOfTheWaitAreClaimed(t *testing.T) {
	t.Parallel()
	for state, grace := range map[string]time.Duration{preemptapi.RoundWaiting: 2 * time.Second, preemptapi.RoundWatching: time500} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, oneCluster(2), lateGuests(2*time.Second), withPolicy(func(p *policy.Policy) {
				p.Criticality.Low.GracePeriod = clock.Duration(grace)
			}))
			s.deaf()
			s.worker()
			s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityLow))
			round := s.started("alarm")
			s.reaches(round, state)
			s.vc.Outage()
			for _, vm := range s.vc.TaggedVMs("") {
				s.must(s.guestOff(vm.Ref))
			}
			time.Sleep(6 * time.Second) // both waits would be over
			s.vc.Recover()
			r := s.round(round)
			wantState(t, r, preemptapi.RoundCompleted, 2)
			for _, vm := range s.vc.TaggedVMs("") {
				wantOutcome(t, r, vm, action.ShutDown)
			}
			s.wantOursExactly(r)
		})
	}
}

// raisedWhileAway runs a LOW round that is raised to HIGH while vCenter is away at the end of its grace period.
func raisedWhileAway(t *testing.T) (s *site, r preemptapi.RoundResult) {
	s = newSite(t, oneCluster(2), lateGuests(time.Minute), withPolicy(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod = clock.Duration(2 * time.Second)
	}))
	s.deaf()
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	event := s.alarmEvent("cluster-a", 1, "yellow", "red")
	s.vc.Outage()
	time.Sleep(4 * time.Second) // the grace period is over
	s.signal("alarm", preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: event})
	s.eventually("the round is raised", func() bool { return s.under(round).Criticality == preemption.CriticalityHigh })
	s.vc.Recover()
	return s, s.round(round)
}

func TestARiseWhileVCenterIsAwayAtTheEndOfTheGracePeriodStillForces(t *testing.T) {
	t.Parallel()
	s, r := raisedWhileAway(t)
	wantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range s.vc.TaggedVMs("") {
		wantOutcome(t, r, vm, action.Forced)
	}
	s.wantOursExactly(r)
}

func TestALateGuestThatAnotherRoundTookWhileNoWorkerLookedOnIsClaimedByThatRoundAlone(t *testing.T) {
	t.Parallel()
	for criticality, outcome := range map[preemption.Criticality]action.Outcome{
		preemption.CriticalityHigh: action.PoweredOff, preemption.CriticalityMedium: action.ShutDown,
	} {
		t.Run(string(criticality), func(t *testing.T) {
			t.Parallel()
			// The worker's death is noticed when the look-on is over, so that its outcome has to be looked up.
			s := newSite(t, oneCluster(1), lateGuests(5*time.Second), withPolicy(func(p *policy.Policy) {
				p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute)
			}), withSettings(func(set *preempt.Settings) { set.Timing.Heartbeat = 15 * time.Second }))
			p := s.process()
			round, vm := s.late(), s.vc.TaggedVMs("")[0]
			time.Sleep(time500) // the look-on has begun
			p.kill()
			s.worker()
			s.signal("other", s.alarmRequest("cluster-a", criticality))
			later := s.started("other")
			if criticality == preemption.CriticalityMedium {
				s.reaches(later, preemptapi.RoundWaiting)
				s.must(s.guestOff(vm.Ref))
			}
			second := s.round(later)
			wantOutcome(t, second, vm, outcome)
			first := s.round(round)
			wantOutcome(t, first, vm, action.AlreadyOff, "later round")
			s.agree(first, second)
			if a, _ := s.attribute(vm.Ref); a.RoundID != later {
				t.Errorf("the attribute names round %s, want %s", a.RoundID, later)
			}
		})
	}
}

func TestATagMadeAMomentAgoIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2))
	s.worker()
	req := person(preemption.CriticalityHigh)
	req.Tag = "fresh"
	s.signal("before", req)
	if r := s.done("before"); r.State != preemptapi.RoundFailed || !containsAll(r.Reason, "no such tag") {
		t.Fatal(pretty(r))
	}
	s.must(s.vc.CreateTag("preemption", "fresh"))
	s.must(s.vc.AttachTag("preemption", "fresh", s.vc.TaggedVMs("")[0].Ref))
	req.Event = plainEvent()
	s.signal("after", req)
	wantState(t, s.done("after"), preemptapi.RoundCompleted, 1)
}

func TestARestoreNamesEachVMWhoseEventsAreGoneAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	s.vc.LagEvents(nil) // what is purged must be there before
	s.worker()
	s.preempted(6)
	s.vc.PurgeEvents()
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.restored()
	for _, dry := range []bool{true, false} {
		r, err := s.byHand(preemptapi.RestoreInput{DryRun: dry})
		s.must(err)
		if len(r.Left) != 6 || len(r.VMs) != 0 || !containsAll(r.Reason, "6 VMs", "by hand") {
			t.Fatalf("dry run %v: %s", dry, pretty(r))
		}
		for _, l := range r.Left {
			if l.Reason != policy.NoEvidence || !containsAll(l.Detail, "event history", "by hand") {
				t.Errorf("%s: %s, %q", l.Name, l.Reason, l.Detail)
			}
		}
	}
	if s.off("cluster-a") != 6 {
		t.Error("one came back")
	}
}

// liveLookedUp is a LOW round at the end of whose grace period vCenter is away.
func liveLookedUp(t *testing.T, name string) {
	s := newSite(t, oneCluster(2), lateGuests(time.Second), withPolicy(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod = clock.Duration(2 * time.Second)
	}))
	s.deaf()
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	s.vc.Outage()
	s.must(s.guestOff(s.vc.TaggedVMs("")[0].Ref))
	time.Sleep(4 * time.Second)
	s.vc.Recover()
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 1)
	s.keep(name, round)
}

// liveLookedUpRaised is raised while vCenter is away at the end of its grace period.
func liveLookedUpRaised(t *testing.T, name string) {
	s, r := raisedWhileAway(t)
	s.keep(name, r.RoundID)
}
