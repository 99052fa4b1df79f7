package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// wantForced checks what the attribute says about how the VM went.
func wantForced(s *sitetest.Site, vm types.ManagedObjectReference, forced bool) {
	s.T.Helper()
	if a, ok := s.Attribute(vm); !ok || a.ForcedShutdown != forced || !a.Preempted {
		s.T.Errorf("the attribute of %s: %+v (present %v), want forcedShutdown %v", vm.Value, a, ok, forced)
	}
}

func TestMEDIUMShutsGuestsDownWithoutForce(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	r := s.Preempt(preemption.CriticalityMedium)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		sitetest.WantOutcome(t, r, vm, action.ShutDown)
		wantForced(s, vm.Ref, false)
	}
	if n := s.Calls("PowerOffVM_Task"); n != 0 {
		t.Errorf("%d VMs were powered off", n)
	}
	s.WantOursExactly(r)
}

func TestMEDIUMForcesAGuestThatIgnoresItsShutdownWhenTheGracePeriodEnds(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vms := s.VC.TaggedVMs("cluster-a")
	s.VC.IgnoreShutdown(vms[1].Ref)
	var at time.Time
	s.VC.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) { at = time.Now() })
	s.Worker()
	began := time.Now()
	r := s.Preempt(preemption.CriticalityMedium)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	sitetest.WantOutcome(t, r, vms[1], action.Forced)
	wantForced(s, vms[1].Ref, true)
	wantForced(s, vms[0].Ref, false)
	if grace := at.Sub(began); grace < 2*time.Second {
		t.Errorf("forced after %s, want no sooner than the grace period of 2s", grace)
	}
	s.WantOursExactly(r)
}

func TestMEDIUMPowersAVMWithoutToolsOffAtOnceAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vms := s.VC.TaggedVMs("cluster-a")
	s.Must(s.VC.SetToolsRunning(vms[1].Ref, false))
	s.Worker()
	r := s.Preempt(preemption.CriticalityMedium)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	sitetest.WantOutcome(t, r, vms[1], action.Forced, string(policy.ForcedNoTools))
	wantForced(s, vms[1].Ref, true)
	s.WantOursExactly(r)
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
			s := sitetest.New(t)
			vm := s.VC.TaggedVMs("cluster-a")[1]
			s.VC.FailCall("ShutdownGuest", &vm.Ref, &types.ToolsUnavailable{}, -1)
			s.Worker()
			r := s.Preempt(c.criticality)
			sitetest.WantOutcome(t, r, vm, c.outcome, c.reason)
			s.WantOursExactly(r)
		})
	}
}

func TestLOWSparesAVMWithoutTools(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vms := s.VC.TaggedVMs("cluster-a")
	s.Must(s.VC.SetToolsRunning(vms[1].Ref, false))
	s.Worker()
	r := s.Preempt(preemption.CriticalityLow)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vms[1], action.Spared, string(policy.NoTools))
	s.WantOursExactly(r)
}

func TestLOWSparesAGuestThatIgnoresItsShutdown(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vms := s.VC.TaggedVMs("cluster-a")
	s.VC.IgnoreShutdown(vms[1].Ref)
	s.Worker()
	r := s.Preempt(preemption.CriticalityLow)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vms[1], action.Spared, string(policy.GuestIgnored))
	if n := s.Calls("PowerOffVM_Task"); n != 0 {
		t.Errorf("LOW powered %d VMs off", n)
	}
	s.WantOursExactly(r)
}

// late runs a LOW round on guests that do not go off, until it looks on; it returns the round's id.
func late(s *sitetest.Site) string {
	s.T.Helper()
	for _, vm := range s.VC.TaggedVMs("") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWatching)
	return round
}

func TestALOWGuestThatGoesOffLateByOurShutdownIsReportedAfterAll(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.LateGuests(time.Minute))
	s.Worker()
	round := late(s)
	for _, vm := range s.VC.TaggedVMs("") {
		s.Must(s.GuestOff(vm.Ref))
	}
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range s.VC.TaggedVMs("") {
		sitetest.WantOutcome(t, r, vm, action.ShutDown)
	}
	s.Eventually("the intake tells of it too", func() bool { return len(s.State("alarm").VirtualMachines) == 2 })
	s.WantOursExactly(r)
}

func TestALOWGuestThatGoesOffLateWhileNoWorkerLivesIsReportedAfterAll(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.Impatient, sitetest.LateGuests(2*time.Second))
	p := s.Process()
	round := late(s)
	p.Kill()
	for _, vm := range s.VC.TaggedVMs("") {
		s.Must(s.GuestOff(vm.Ref))
	}
	time.Sleep(2500 * time.Millisecond) // the look-on is over before anybody could look
	s.Worker()
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	s.WantOursExactly(r)
}

func TestALOWGuestThatAnotherTurnsOffLateIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.LateGuests(time.Minute))
	s.Worker()
	round, vm := late(s), s.VC.TaggedVMs("")[0]
	s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org"))
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 0)
	sitetest.WantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.WantOursExactly(r, vm.Ref)
}

func TestALateGuestThatALaterRoundAskedTooIsClaimedByOneAlone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.LateGuests(time.Minute), sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.Retry = sitetest.HalfASecond }),
		sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	s.Worker()
	round, vm := late(s), s.VC.TaggedVMs("")[0]
	s.Signal("other", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	later := s.Started("other")
	s.Reaches(later, preemptapi.RoundWaiting)
	s.Must(s.GuestOff(vm.Ref))
	first, second := s.Round(round), s.Round(later)
	sitetest.WantOutcome(t, second, vm, action.ShutDown)
	sitetest.WantOutcome(t, first, vm, action.AlreadyOff)
	s.Agree(first, second)
}

func TestAVMThatAnotherTurnsOffDuringTheGracePeriodIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vms := s.VC.TaggedVMs("cluster-a")
	s.VC.IgnoreShutdown(vms[1].Ref)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	s.Must(s.VC.PowerOffAs(vms[1].Ref, "bob@example.org"))
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vms[1], action.AlreadyOff, "bob")
	s.WantOursExactly(r, vms[1].Ref)
}

func TestAWaitThatVCenterRefusesDoesNotSpin(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.VC.FailCall("CreateFilter", nil, &types.NoPermission{PrivilegeId: "System.View"}, -1)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	r := s.Round(s.Started("alarm"))
	s.WantOursExactly(r)
	if n := s.Calls("CreateFilter"); n > 30 {
		t.Errorf("%d attempts within a grace period of 2s", n)
	}
}

func TestAHigherCriticalityForTheSameScopeCutsTheWaitingVMsAtOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Minute) }))
	vms := s.VC.TaggedVMs("cluster-a")
	for _, vm := range vms {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	low := s.AlarmRequest("cluster-a", preemption.CriticalityLow)
	s.Signal("alarm", low)
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	s.Signal("alarm", preemption.WorkflowRequest{
		Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: s.AlarmEvent("cluster-a", 1, "yellow", "red"),
	})
	began := time.Now()
	r := s.Round(round)
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("cut only after %s", took)
	}
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	for _, vm := range vms {
		sitetest.WantOutcome(t, r, vm, action.Forced)
		wantForced(s, vm.Ref, true)
	}
	if r.Criticality != preemption.CriticalityHigh || !strings.Contains(strings.Join(r.Changes, "\n"), "raised to HIGH") {
		t.Errorf("criticality %s, changes %q", r.Criticality, r.Changes)
	}
	if got := s.Until("alarm", "the round is reported", func(r preemptapi.Response) bool { return r.State != preemptapi.IntakeRunning }); got.RoundID != round {
		t.Errorf("a second round ran: %s", got.RoundID)
	}
	s.WantOursExactly(r)
}

func TestAPersonsHigherCriticalityJoinsTheRoundOfAnotherIntake(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Minute) }))
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Origin = preemption.OriginPerson
	s.Signal("person", req)
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	got := s.Until("person", "the person is told", func(r preemptapi.Response) bool { return r.LastDecision != nil })
	if d := got.LastDecision; d.Verdict != preemptapi.Joined || d.RoundID != round {
		t.Errorf("decision %+v, want joined to %s", d, round)
	}
	s.WantOursExactly(r)
}
