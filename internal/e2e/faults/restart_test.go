package faults

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// forgetful restarts vCenter, which loses its tasks, a moment after the n-th call of the method was answered; what is
// asked for then goes quickly. Between is done while it is away.
func forgetful(s *sitetest.Site, method string, n int64, between func()) {
	s.T.Helper()
	var done sync.WaitGroup
	s.T.Cleanup(done.Wait)
	s.OnCall(method, n, func(types.ManagedObjectReference) {
		done.Go(func() {
			time.Sleep(sitetest.HalfASecond)
			s.VC.SetTaskDelay(0)
			s.VC.SetPowerOnDelay(0)
			between()
			if err := s.VC.RestartLosingTasks(); err != nil {
				s.T.Error(err)
			}
		})
	})
}

func TestPowerOffsThatVCenterLosesInARestartAreSentAgain(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3))
	s.VC.SetTaskDelay(time.Hour)
	forgetful(s, "PowerOffVM_Task", 3, func() {})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	for _, vm := range s.VC.TaggedVMs("") {
		sitetest.WantOutcome(t, r, vm, action.PoweredOff)
	}
	s.WantOursExactly(r)
}

func TestAPowerOffThatVCenterLosesIsNotSentAgainToAVMThatLostItsTag(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3))
	vms := s.VC.TaggedVMs("")
	s.VC.SetTaskDelay(time.Hour)
	forgetful(s, "PowerOffVM_Task", 3, func() { s.Must(s.VC.DetachTag("preemption", "preemptible", vms[1].Ref)) })
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	sitetest.WantOutcome(t, r, vms[1], action.Spared)
	s.Agree(r)
}

func TestAPowerOffThatVCenterLosesEachTimeFailsAfterThreeAttempts(t *testing.T) {
	t.Parallel()
	// On a busy machine heartbeats come late: an activity that is tried again for that sends its power-offs anew.
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.Heartbeat = 30 * time.Second }))
	s.VC.SetTaskDelay(time.Hour)
	var done sync.WaitGroup
	t.Cleanup(done.Wait)
	s.VC.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) {
		done.Go(func() {
			time.Sleep(sitetest.HalfASecond)
			if err := s.VC.RestartLosingTasks(); err != nil {
				t.Error(err)
			}
		})
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantOutcome(t, r, s.VC.TaggedVMs("")[0], action.Failed, "no longer knows the task")
	if n := s.Calls("PowerOffVM_Task"); n != 3 {
		t.Errorf("it was powered off %d times, want 3", n)
	}
}

func TestPowerOnsThatVCenterLosesInARestartAreSentAgain(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.Worker()
	s.Preempted(6)
	s.VC.SetPowerOnDelay(time.Hour)
	forgetful(s, "PowerOnMultiVM_Task", 1, func() {})
	r, err := s.ByHand(preemptapi.RestoreInput{})
	s.Must(err)
	s.WantRestored(r, preemptapi.RestoreCompleted, 6)
}

func TestThePowerOnAfterAResizeThatVCenterLosesInARestartIsSentAgain(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, sitetest.Reconfigures())
	vm := s.VC.TaggedVMs("")[0]
	s.Must(s.VC.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	s.VC.SetPowerOnDelay(time.Hour)
	forgetful(s, "PowerOnVM_Task", 1, func() {})
	s.Works()
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm.Ref, func(r *placement.Request) {
		r.Resize = &placement.Resize{
			Resource: placement.CPU, Mode: placement.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Applied || !s.On(vm) {
		t.Errorf("on: %v, %s", s.On(vm), sitetest.Pretty(d))
	}
}

// longTasks lets power-offs take longer than the pauses between attempts.
const longTasks = 3 * time.Second

func TestAPowerOffWhoseAnswerWasLostIsWaitedForAndClaimed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1))
	vm := s.VC.TaggedVMs("")[0]
	s.VC.SetTaskDelay(longTasks)
	s.VC.LoseAnswer("PowerOffVM_Task", &vm.Ref, 1)
	s.VC.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) {
		if s.Calls("PowerOffVM_Task") > 1 { // as a vCenter that does one operation on a VM at a time
			s.VC.FailCall("PowerOffVM_Task", &vm.Ref, &types.TaskInProgress{}, -1)
		}
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 1)
	s.WantOursExactly(r)
}

func TestAnAttributeWhoseAnswerWasLostIsOnTheVMAndInTheResult(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2))
	s.VC.LoseAnswer("SetField", nil, 2)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	s.WantOursExactly(r)
}

func TestANoticeWhoseAnswerWasLostIsReadThenBelievedAndClearedAtTheEnd(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.WithNotice(2*time.Second))
	s.VC.LoseAnswer("ReconfigVM_Task", nil, 4) // two to forget earlier answers, two notices
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range s.VC.TaggedVMs("") {
		sitetest.WantNotice(t, r, vm.Name, "given")
		s.Eventually("the notice is cleared", func() bool { return s.Guest(vm) == "" })
	}
}

func TestANoticeOfWhichNobodyCanSayWhetherItWasGivenIsClearedAtTheEnd(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.WithNotice(time.Second))
	vm := s.VC.TaggedVMs("")[0]
	s.VC.LoseAnswer("ReconfigVM_Task", nil, 2)
	s.OnCall("ReconfigVM_Task", 2, func(types.ManagedObjectReference) { // the notice itself
		time.AfterFunc(100*time.Millisecond, s.VC.Outage)
		time.AfterFunc(20*time.Second, s.VC.Recover)
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 1)
	s.Eventually("the notice is cleared", func() bool { return s.Guest(vm) == "" })
}

func TestANoticeIsTakenBackWhenVCenterReturns(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.WithNotice(10*time.Minute))
	vm := s.VC.TaggedVMs("")[0]
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	round := s.Started("alarm")
	s.Eventually("the guest is told", func() bool { return s.Guest(vm) != "" })
	s.Reaches(round, preemptapi.RoundNotified)
	s.VC.Outage()
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("the round is withdrawn", func() bool { return len(s.Under(round).Changes) > 0 })
	time.Sleep(4 * time.Second)
	s.VC.Recover()
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	if text := s.Guest(vm); !sitetest.ContainsAll(text, `"state":"withdrawn"`) {
		t.Errorf("the guest reads %s", text)
	}
}

func TestGuestsThatWentOffWhileVCenterWasAwayAtTheEndOfTheWaitAreClaimed(t *testing.T) {
	t.Parallel()
	for state, grace := range map[preemptapi.RoundState]time.Duration{preemptapi.RoundWaiting: 2 * time.Second, preemptapi.RoundWatching: sitetest.HalfASecond} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.OneCluster(2), sitetest.LateGuests(2*time.Second), sitetest.WithPolicy(func(p *policy.Policy) {
				p.Criticality.Low.GracePeriod = clock.Duration(grace)
			}))
			s.Deaf()
			s.Worker()
			s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
			round := s.Started("alarm")
			s.Reaches(round, state)
			s.VC.Outage()
			for _, vm := range s.VC.TaggedVMs("") {
				s.Must(s.GuestOff(vm.Ref))
			}
			time.Sleep(6 * time.Second) // both waits would be over
			s.VC.Recover()
			r := s.Round(round)
			sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
			for _, vm := range s.VC.TaggedVMs("") {
				sitetest.WantOutcome(t, r, vm, action.ShutDown)
			}
			s.WantOursExactly(r)
		})
	}
}

func TestARiseWhileVCenterIsAwayAtTheEndOfTheGracePeriodStillForces(t *testing.T) {
	t.Parallel()
	s, r := sitetest.RaisedWhileAway(t)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range s.VC.TaggedVMs("") {
		sitetest.WantOutcome(t, r, vm, action.Forced)
	}
	s.WantOursExactly(r)
}

func TestALateGuestThatAnotherRoundTookWhileNoWorkerLookedOnIsClaimedByThatRoundAlone(t *testing.T) {
	t.Parallel()
	for criticality, outcome := range map[preemption.Criticality]action.Outcome{
		preemption.CriticalityHigh: action.PoweredOff, preemption.CriticalityMedium: action.ShutDown,
	} {
		t.Run(string(criticality), func(t *testing.T) {
			t.Parallel()
			// The worker's death is noticed when the look-on is over, so that its outcome has to be looked up.
			s := sitetest.New(t, sitetest.OneCluster(1), sitetest.LateGuests(5*time.Second), sitetest.WithPolicy(func(p *policy.Policy) {
				p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute)
			}), sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.Heartbeat = 15 * time.Second }))
			p := s.Process()
			round, vm := late(s), s.VC.TaggedVMs("")[0]
			time.Sleep(sitetest.HalfASecond) // the look-on has begun
			p.Kill()
			s.Worker()
			s.Signal("other", s.AlarmRequest("cluster-a", criticality))
			later := s.Started("other")
			if criticality == preemption.CriticalityMedium {
				s.Reaches(later, preemptapi.RoundWaiting)
				s.Must(s.GuestOff(vm.Ref))
			}
			second := s.Round(later)
			sitetest.WantOutcome(t, second, vm, outcome)
			first := s.Round(round)
			sitetest.WantOutcome(t, first, vm, action.AlreadyOff, "later round")
			s.Agree(first, second)
			if a, _ := s.Attribute(vm.Ref); a.RoundID != later {
				t.Errorf("the attribute names round %s, want %s", a.RoundID, later)
			}
		})
	}
}

func TestATagMadeAMomentAgoIsFound(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2))
	s.Worker()
	req := sitetest.PersonRequest(preemption.CriticalityHigh)
	req.Tag = "fresh"
	s.Signal("before", req)
	if r := s.Done("before"); r.State != preemptapi.RoundFailed || !sitetest.ContainsAll(r.Reason, "no such tag") {
		t.Fatal(sitetest.Pretty(r))
	}
	s.Must(s.VC.CreateTag("preemption", "fresh"))
	s.Must(s.VC.AttachTag("preemption", "fresh", s.VC.TaggedVMs("")[0].Ref))
	req.Event = sitetest.PlainEvent()
	s.Signal("after", req)
	sitetest.WantState(t, s.Done("after"), preemptapi.RoundCompleted, 1)
}

func TestARestoreNamesEachVMWhoseEventsAreGoneAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.VC.LagEvents(nil) // what is purged must be there before
	s.Worker()
	s.Preempted(6)
	s.VC.PurgeEvents()
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Restored()
	for _, dry := range []bool{true, false} {
		r, err := s.ByHand(preemptapi.RestoreInput{DryRun: dry})
		s.Must(err)
		if len(r.Left) != 6 || len(r.VMs) != 0 || !sitetest.ContainsAll(r.Reason, "6 VMs", "by hand") {
			t.Fatalf("dry run %v: %s", dry, sitetest.Pretty(r))
		}
		for _, l := range r.Left {
			if l.Reason != policy.NoEvidence || !sitetest.ContainsAll(l.Detail, "event history", "by hand") {
				t.Errorf("%s: %s, %q", l.Name, l.Reason, l.Detail)
			}
		}
	}
	if s.OffIn("cluster-a") != 6 {
		t.Error("one came back")
	}
}
