package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// waiting starts a round that cannot reach its vCenter, checks that it says why, mends that, and returns
// the result.
func (s *site) waiting(mend func(), words ...string) preemptapi.RoundResult {
	s.t.Helper()
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	round := s.started("alarm")
	s.waitsBecause(round, words...)
	if state := s.under(round).State; state != preemptapi.RoundPlanning {
		s.t.Errorf("the round is %s while it cannot reach vCenter", state)
	}
	mend()
	return s.round(round)
}

func TestSecretFilesMissingAtStartAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	password := filepath.Join(s.secret, "password")
	s.must(os.Remove(password))
	r := s.waiting(func() { s.must(s.vc.WriteSecret(s.secret)) }, password, "VCENTER_SECRET_PATH")
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
}

func TestAWrongPasswordIsWaitedOutUntilItIsRotated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(os.WriteFile(filepath.Join(s.secret, "password"), []byte("of-yesterday"), 0o600))
	r := s.waiting(func() {
		if n := s.calls("Login"); n > 2 {
			t.Errorf("%d logins with a password that vCenter had refused: it locks accounts for less", n)
		}
		s.must(s.vc.WriteSecret(s.secret))
	}, s.vc.Username(), "correct the files in "+s.secret)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
}

func TestAWaitForThePasswordShowsNoPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(os.WriteFile(filepath.Join(s.secret, "password"), []byte("hunter2-of-yesterday"), 0o600))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	round := s.started("alarm")
	s.waitsBecause(round, "correct the files")
	d, err := s.c.DescribeWorkflowExecution(t.Context(), round, "")
	s.must(err)
	if text := d.String(); strings.Contains(text, "hunter2") {
		t.Errorf("the password is in %s", text)
	}
	s.must(s.vc.WriteSecret(s.secret))
	s.round(round)
}

func TestAnUntrustedCertificateIsNamedWithItsThumbprintAndWaitedOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var trusting atomic.Bool
	s.config = func(c *vcenter.Config) { c.Insecure = trusting.Load() }
	r := s.waiting(func() {
		for _, w := range s.workers {
			w.stop()
		}
		trusting.Store(true) // as a redeployment with the right setting does
		s.worker()
	}, "certificate", "VCENTER_THUMBPRINT")
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
}

func TestAVCenterThatIsAwayAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(s.vc.Stop())
	r := s.waiting(func() { s.must(s.vc.Restart()) }, "connection refused")
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
}

func TestACancelEndsARoundThatWaitsForAnAbsentVCenter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(s.vc.Stop())
	r := s.waiting(func() { s.must(s.c.CancelWorkflow(t.Context(), s.id("alarm"), "")) }, "connection refused")
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.must(s.vc.Restart())
	s.agree(r)
}

// disturbed runs a HIGH round on ten VMs, with trouble at its third power-off.
func (s *site) disturbed(trouble func()) preemptapi.RoundResult {
	s.t.Helper()
	s.vc.SetTaskDelay(100 * time.Millisecond)
	s.onCall("PowerOffVM_Task", 3, func(types.ManagedObjectReference) {
		go trouble()
		<-time.After(20 * time.Millisecond)
	})
	s.worker()
	return s.preempt(preemption.CriticalityHigh)
}

func TestSessionsEndedDuringARoundAreMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10))
	r := s.disturbed(func() { s.must(s.vc.TerminateSessions()) })
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestSessionsEndedBetweenRoundsAreMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	first := s.preempt(preemption.CriticalityHigh)
	s.must(s.vc.TerminateSessions())
	s.signal("other", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	second := s.round(s.started("other"))
	wantState(t, second, preemptapi.RoundCompleted, 6)
	s.agree(first, second)
}

func TestAVCenterRestartedInTheMiddleOfActingLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10))
	r := s.disturbed(func() { s.must(s.vc.Restart()) })
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAVCenterThatAnswers503ForAWhileIsWaitedOut(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10))
	r := s.disturbed(func() {
		s.vc.Outage()
		time.Sleep(2 * time.Second)
		s.vc.Recover()
	})
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestConnectionsDroppedForAWhileLoseNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10))
	r := s.disturbed(func() {
		s.vc.DropConnections()
		time.Sleep(time.Second)
		s.vc.Recover()
	})
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAnOutageLongerThanAPowerOffMayTakeLosesNoVM(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), withPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(time500) }))
	r := s.disturbed(func() {
		s.vc.Outage()
		time.Sleep(4 * time500)
		s.vc.Recover()
	})
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}

func TestAfterALongAbsenceThePlanIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(14), withSettings(func(set *preempt.Settings) { set.Timing.StalePlan = 2 * time.Second }))
	vms := s.vc.TaggedVMs("")
	oldest := vms[0] // over the limit in the first plan
	var younger types.ManagedObjectReference
	r := s.disturbed(func() {
		s.vc.Outage()
		time.Sleep(3 * time.Second)
		for _, vm := range vms[4:] { // in the first plan, still on
			if s.vc.PowerState(vm.Ref) == "poweredOn" {
				younger = vm.Ref
				s.must(s.vc.DetachTag("preemption", "preemptible", vm.Ref))
				break
			}
		}
		s.vc.Recover()
	})
	wantState(t, r, preemptapi.RoundCompleted, 10)
	if len(r.Changes) == 0 || !strings.Contains(r.Changes[0], "planning again") {
		t.Errorf("the result does not tell of a new plan: %q", r.Changes)
	}
	if s.vc.PowerState(younger) != "poweredOn" {
		t.Error("the VM that lost its tag meanwhile went off")
	}
	if got := spared(r, oldest.Ref); got != policy.OverLimit {
		t.Errorf("%s: %q", oldest.Name, got)
	}
	s.wantOursExactly(r)
}

func TestAfterALongAbsenceGuestsThatWereAskedAreNotAskedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(14), withSettings(func(set *preempt.Settings) { set.Timing.StalePlan = 2 * time.Second }),
		withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(10 * time.Second) }))
	s.vc.SetShutdownDelay(5 * time.Second)
	s.onCall("ShutdownGuest", 3, func(types.ManagedObjectReference) {
		go func() {
			s.vc.Outage()
			time.Sleep(3 * time.Second)
			s.vc.Recover()
		}()
		<-time.After(20 * time.Millisecond)
	})
	s.worker()
	r := s.preempt(preemption.CriticalityMedium)
	wantState(t, r, preemptapi.RoundCompleted, 10)
	s.wantOursExactly(r)
}
