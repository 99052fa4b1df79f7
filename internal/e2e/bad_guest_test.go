package e2e

import (
	"strings"
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

// wantForced checks what the attribute says about how the VM went.
func (s *site) wantForced(vm types.ManagedObjectReference, forced bool) {
	s.t.Helper()
	if a, ok := s.attribute(vm); !ok || a.ForcedShutdown != forced || !a.Preempted {
		s.t.Errorf("the attribute of %s: %+v (present %v), want forcedShutdown %v", vm.Value, a, ok, forced)
	}
}

func TestMEDIUMShutsGuestsDownWithoutForce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	r := s.preempt(preemption.CriticalityMedium)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		wantOutcome(t, r, vm, action.ShutDown)
		s.wantForced(vm.Ref, false)
	}
	if n := s.calls("PowerOffVM_Task"); n != 0 {
		t.Errorf("%d VMs were powered off", n)
	}
	s.wantOursExactly(r)
}

func TestMEDIUMForcesAGuestThatIgnoresItsShutdownWhenTheGracePeriodEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vms := s.vc.TaggedVMs("cluster-a")
	s.vc.IgnoreShutdown(vms[1].Ref)
	var at time.Time
	s.vc.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) { at = time.Now() })
	s.worker()
	began := time.Now()
	r := s.preempt(preemption.CriticalityMedium)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	wantOutcome(t, r, vms[1], action.Forced)
	s.wantForced(vms[1].Ref, true)
	s.wantForced(vms[0].Ref, false)
	if grace := at.Sub(began); grace < 2*time.Second {
		t.Errorf("forced after %s, want no sooner than the grace period of 2s", grace)
	}
	s.wantOursExactly(r)
}

func TestMEDIUMPowersAVMWithoutToolsOffAtOnceAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vms := s.vc.TaggedVMs("cluster-a")
	s.must(s.vc.SetToolsRunning(vms[1].Ref, false))
	s.worker()
	r := s.preempt(preemption.CriticalityMedium)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	wantOutcome(t, r, vms[1], action.Forced, string(policy.ForcedNoTools))
	s.wantForced(vms[1].Ref, true)
	s.wantOursExactly(r)
}

func TestToolsThatStopJustBeforeTheShutdownAreNoFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		criticality preemption.Criticality
		outcome     action.Outcome
		reason      string
	}{
		{preemption.CriticalityMedium, action.Forced, string(policy.ForcedNoTools)},
		{preemption.CriticalityLow, action.Spared, string(policy.NoTools)},
	} {
		t.Run(string(c.criticality), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			vm := s.vc.TaggedVMs("cluster-a")[1]
			s.vc.FailCall("ShutdownGuest", &vm.Ref, &types.ToolsUnavailable{}, -1)
			s.worker()
			r := s.preempt(c.criticality)
			wantOutcome(t, r, vm, c.outcome, c.reason)
			s.wantOursExactly(r)
		})
	}
}

func TestLOWSparesAVMWithoutTools(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vms := s.vc.TaggedVMs("cluster-a")
	s.must(s.vc.SetToolsRunning(vms[1].Ref, false))
	s.worker()
	r := s.preempt(preemption.CriticalityLow)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vms[1], action.Spared, string(policy.NoTools))
	s.wantOursExactly(r)
}

func TestLOWSparesAGuestThatIgnoresItsShutdown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vms := s.vc.TaggedVMs("cluster-a")
	s.vc.IgnoreShutdown(vms[1].Ref)
	s.worker()
	r := s.preempt(preemption.CriticalityLow)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vms[1], action.Spared, string(policy.GuestIgnored))
	if n := s.calls("PowerOffVM_Task"); n != 0 {
		t.Errorf("LOW powered %d VMs off", n)
	}
	s.wantOursExactly(r)
}

// lateGuests ignore their shutdown for the grace period at least, and are watched on for d.
func lateGuests(d time.Duration) siteOption {
	return withPolicy(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod, p.LateWatch = clock.Duration(time500), clock.Duration(d)
	})
}

// late runs a LOW round on guests that do not go off, until it looks on; it returns the round's id.
func (s *site) late() string {
	s.t.Helper()
	for _, vm := range s.vc.TaggedVMs("") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWatching)
	return round
}

func TestALOWGuestThatGoesOffLateByOurShutdownIsReportedAfterAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2), lateGuests(time.Minute))
	s.worker()
	round := s.late()
	for _, vm := range s.vc.TaggedVMs("") {
		s.must(s.guestOff(vm.Ref))
	}
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range s.vc.TaggedVMs("") {
		wantOutcome(t, r, vm, action.ShutDown)
	}
	s.eventually("the intake tells of it too", func() bool { return len(s.state("alarm").VirtualMachines) == 2 })
	s.wantOursExactly(r)
}

func TestALOWGuestThatGoesOffLateWhileNoWorkerLivesIsReportedAfterAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2), impatient, lateGuests(2*time.Second))
	p := s.process()
	round := s.late()
	p.kill()
	for _, vm := range s.vc.TaggedVMs("") {
		s.must(s.guestOff(vm.Ref))
	}
	time.Sleep(2500 * time.Millisecond) // the look-on is over before anybody could look
	s.worker()
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 2)
	s.wantOursExactly(r)
}

func TestALOWGuestThatAnotherTurnsOffLateIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1), lateGuests(time.Minute))
	s.worker()
	round, vm := s.late(), s.vc.TaggedVMs("")[0]
	s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org"))
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 0)
	wantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.wantOursExactly(r, vm.Ref)
}

func TestALateGuestThatALaterRoundAskedTooIsClaimedByOneAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1), lateGuests(time.Minute), withSettings(func(set *preempt.Settings) { set.Timing.Retry = time500 }),
		withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	s.worker()
	round, vm := s.late(), s.vc.TaggedVMs("")[0]
	s.signal("other", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	later := s.started("other")
	s.reaches(later, preemptapi.RoundWaiting)
	s.must(s.guestOff(vm.Ref))
	first, second := s.round(round), s.round(later)
	wantOutcome(t, second, vm, action.ShutDown)
	wantOutcome(t, first, vm, action.AlreadyOff)
	s.agree(first, second)
}

func TestAVMThatAnotherTurnsOffDuringTheGracePeriodIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vms := s.vc.TaggedVMs("cluster-a")
	s.vc.IgnoreShutdown(vms[1].Ref)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	s.must(s.vc.PowerOffAs(vms[1].Ref, "bob@example.org"))
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vms[1], action.AlreadyOff, "bob")
	s.wantOursExactly(r, vms[1].Ref)
}

func TestAWaitThatVCenterRefusesDoesNotSpin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.vc.FailCall("CreateFilter", nil, &types.NoPermission{PrivilegeId: "System.View"}, -1)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	r := s.round(s.started("alarm"))
	s.wantOursExactly(r)
	if n := s.calls("CreateFilter"); n > 30 {
		t.Errorf("%d attempts within a grace period of 2s", n)
	}
}

func TestAHigherCriticalityForTheSameScopeCutsTheWaitingVMsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Minute) }))
	vms := s.vc.TaggedVMs("cluster-a")
	for _, vm := range vms {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	low := s.alarmRequest("cluster-a", preemption.CriticalityLow)
	s.signal("alarm", low)
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	s.signal("alarm", preemption.WorkflowRequest{
		Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: s.alarmEvent("cluster-a", 1, "yellow", "red"),
	})
	began := time.Now()
	r := s.round(round)
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("cut only after %s", took)
	}
	wantState(t, r, preemptapi.RoundCompleted, 6)
	for _, vm := range vms {
		wantOutcome(t, r, vm, action.Forced)
		s.wantForced(vm.Ref, true)
	}
	if r.Criticality != preemption.CriticalityHigh || !strings.Contains(strings.Join(r.Changes, "\n"), "raised to HIGH") {
		t.Errorf("criticality %s, changes %q", r.Criticality, r.Changes)
	}
	if got := s.until("alarm", "the round is reported", func(r preemptapi.Response) bool { return r.State != preemptapi.IntakeRunning }); got.RoundID != round {
		t.Errorf("a second round ran: %s", got.RoundID)
	}
	s.wantOursExactly(r)
}

func TestAPersonsHigherCriticalityJoinsTheRoundOfAnotherIntake(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Minute) }))
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Origin = preemption.OriginPerson
	s.signal("person", req)
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	got := s.until("person", "the person is told", func(r preemptapi.Response) bool { return r.LastDecision != nil })
	if d := got.LastDecision; d.Verdict != preemptapi.Joined || d.RoundID != round {
		t.Errorf("decision %+v, want joined to %s", d, round)
	}
	s.wantOursExactly(r)
}
