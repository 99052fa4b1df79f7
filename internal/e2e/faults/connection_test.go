package faults

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// waiting starts a round that cannot reach its vCenter, checks that it says why, mends that, and returns
// the result.
func waiting(s *sitetest.Site, mend func(), words ...string) preemptapi.RoundResult {
	s.T.Helper()
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	round := s.Started("alarm")
	s.WaitsBecause(round, words...)
	if state := s.Under(round).State; state != preemptapi.RoundPlanning {
		s.T.Errorf("the round is %s while it cannot reach vCenter", state)
	}
	mend()
	return s.Round(round)
}

func TestSecretFilesMissingAtStartAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	password := filepath.Join(s.Secret, "password")
	s.Must(os.Remove(password))
	r := waiting(s, func() { s.Must(s.VC.WriteSecret(s.Secret)) }, password, "VCENTER_SECRET_PATH")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
}

func TestAWrongPasswordIsWaitedOutUntilItIsRotated(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Must(os.WriteFile(filepath.Join(s.Secret, "password"), []byte("of-yesterday"), 0o600))
	r := waiting(s, func() {
		if n := s.Calls("Login"); n > 2 {
			t.Errorf("%d logins with a password that vCenter had refused: it locks accounts for less", n)
		}
		s.Must(s.VC.WriteSecret(s.Secret))
	}, s.VC.Username(), "correct the files in "+s.Secret)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
}

func TestAWaitForThePasswordShowsNoPassword(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Must(os.WriteFile(filepath.Join(s.Secret, "password"), []byte("hunter2-of-yesterday"), 0o600))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	round := s.Started("alarm")
	s.WaitsBecause(round, "correct the files")
	d, err := s.Temporal.DescribeWorkflowExecution(t.Context(), round, "")
	s.Must(err)
	if text := d.String(); strings.Contains(text, "hunter2") {
		t.Errorf("the password is in %s", text)
	}
	s.Must(s.VC.WriteSecret(s.Secret))
	s.Round(round)
}

func TestAnUntrustedCertificateIsNamedWithItsThumbprintAndWaitedOut(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	var trusting atomic.Bool
	s.Config = func(c *vcenter.Config) { c.Insecure = trusting.Load() }
	r := waiting(s, func() {
		for _, w := range s.Workers {
			w.Stop()
		}
		trusting.Store(true) // as a redeployment with the right setting does
		s.Worker()
	}, "certificate", "VCENTER_THUMBPRINT")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
}

func TestAVCenterThatIsAwayAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Must(s.VC.Stop())
	r := waiting(s, func() { s.Must(s.VC.Restart()) }, "connection refused")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
}

func TestACancelEndsARoundThatWaitsForAnAbsentVCenter(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Must(s.VC.Stop())
	r := waiting(s, func() { s.Must(s.Temporal.CancelWorkflow(t.Context(), s.ID("alarm"), "")) }, "connection refused")
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.Must(s.VC.Restart())
	s.Agree(r)
}

// disturbed runs a HIGH round on ten VMs, with trouble at its third power-off.
func disturbed(s *sitetest.Site, trouble func()) preemptapi.RoundResult {
	s.T.Helper()
	s.VC.SetTaskDelay(100 * time.Millisecond)
	s.OnCall("PowerOffVM_Task", 3, func(types.ManagedObjectReference) {
		go trouble()
		<-time.After(20 * time.Millisecond)
	})
	s.Worker()
	return s.Preempt(preemption.CriticalityHigh)
}

func TestSessionsEndedDuringARoundAreMadeAnew(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10))
	r := disturbed(s, func() { s.Must(s.VC.TerminateSessions()) })
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestSessionsEndedBetweenRoundsAreMadeAnew(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	first := s.Preempt(preemption.CriticalityHigh)
	s.Must(s.VC.TerminateSessions())
	s.Signal("other", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	second := s.Round(s.Started("other"))
	sitetest.WantState(t, second, preemptapi.RoundCompleted, 6)
	s.Agree(first, second)
}

func TestAVCenterRestartedInTheMiddleOfActingLosesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10))
	r := disturbed(s, func() { s.Must(s.VC.Restart()) })
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAVCenterThatAnswers503ForAWhileIsWaitedOut(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10))
	r := disturbed(s, func() {
		s.VC.Outage()
		time.Sleep(2 * time.Second)
		s.VC.Recover()
	})
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestConnectionsDroppedForAWhileLoseNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10))
	r := disturbed(s, func() {
		s.VC.DropConnections()
		time.Sleep(time.Second)
		s.VC.Recover()
	})
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAnOutageLongerThanAPowerOffMayTakeLosesNoVM(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.WithPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(sitetest.HalfASecond) }))
	r := disturbed(s, func() {
		s.VC.Outage()
		time.Sleep(4 * sitetest.HalfASecond)
		s.VC.Recover()
	})
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}

func TestAfterALongAbsenceThePlanIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(14), sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.StalePlan = 2 * time.Second }))
	vms := s.VC.TaggedVMs("")
	oldest := vms[0] // over the limit in the first plan
	var younger types.ManagedObjectReference
	r := disturbed(s, func() {
		s.VC.Outage()
		time.Sleep(3 * time.Second)
		for _, vm := range vms[4:] { // in the first plan, still on
			if s.VC.PowerState(vm.Ref) == "poweredOn" {
				younger = vm.Ref
				s.Must(s.VC.DetachTag("preemption", "preemptible", vm.Ref))
				break
			}
		}
		s.VC.Recover()
	})
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	if len(r.Changes) == 0 || !strings.Contains(r.Changes[0], "planning again") {
		t.Errorf("the result does not tell of a new plan: %q", r.Changes)
	}
	if s.VC.PowerState(younger) != "poweredOn" {
		t.Error("the VM that lost its tag meanwhile went off")
	}
	if got := sitetest.Spared(r, oldest.Ref); got != policy.OverLimit {
		t.Errorf("%s: %q", oldest.Name, got)
	}
	s.WantOursExactly(r)
}

func TestAfterALongAbsenceGuestsThatWereAskedAreNotAskedAgain(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(14), sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.StalePlan = 2 * time.Second }),
		sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(10 * time.Second) }))
	s.VC.SetShutdownDelay(5 * time.Second)
	s.OnCall("ShutdownGuest", 3, func(types.ManagedObjectReference) {
		go func() {
			s.VC.Outage()
			time.Sleep(3 * time.Second)
			s.VC.Recover()
		}()
		<-time.After(20 * time.Millisecond)
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityMedium)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	s.WantOursExactly(r)
}
