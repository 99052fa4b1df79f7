package faults

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestAGuestWhoseToolsAreStartingIsAskedWhenTheyRun(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vm := s.VC.TaggedVMs("")[1]
	s.Must(s.VC.StartTools(vm.Ref, 3*time.Second))
	s.Worker()
	r := s.Preempt(preemption.CriticalityMedium)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	sitetest.WantOutcome(t, r, vm, action.ShutDown)
	wantForced(s, vm.Ref, false)
	s.WantOursExactly(r)
}

func TestAGuestWhoseToolsNeverComeHasItsGracePeriodAllTheSame(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(5 * time.Second) }))
	vm := s.VC.TaggedVMs("")[1]
	s.Must(s.VC.StartTools(vm.Ref, -1))
	s.Worker()
	r := s.Preempt(preemption.CriticalityMedium)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	sitetest.WantOutcome(t, r, vm, action.Forced)
	if o := sitetest.OutcomeOf(t, r, vm); o.OffAt.Before(r.StartedAt.Add(5 * time.Second)) {
		t.Errorf("it went %s after the round began, within its grace period", o.OffAt.Sub(r.StartedAt))
	}
	s.WantOursExactly(r)
}

func TestALOWGuestWhoseToolsNeverComeIsSparedAndNotClaimedLater(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.LateGuests(time.Minute))
	vm := s.VC.TaggedVMs("")[0]
	s.Must(s.VC.StartTools(vm.Ref, -1))
	s.Worker()
	r := s.Preempt(preemption.CriticalityLow)
	sitetest.WantOutcome(t, r, vm, action.Spared, string(policy.NoTools))
	s.WantOursExactly(r)
}
