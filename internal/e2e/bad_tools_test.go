package e2e

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestAGuestWhoseToolsAreStartingIsAskedWhenTheyRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3), withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vm := s.vc.TaggedVMs("")[1]
	s.must(s.vc.StartTools(vm.Ref, 3*time.Second))
	s.worker()
	r := s.preempt(preemption.CriticalityMedium)
	wantState(t, r, preemptapi.RoundCompleted, 3)
	wantOutcome(t, r, vm, action.ShutDown)
	s.wantForced(vm.Ref, false)
	s.wantOursExactly(r)
}

func TestAGuestWhoseToolsNeverComeHasItsGracePeriodAllTheSame(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3), withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(5 * time.Second) }))
	vm := s.vc.TaggedVMs("")[1]
	s.must(s.vc.StartTools(vm.Ref, -1))
	s.worker()
	r := s.preempt(preemption.CriticalityMedium)
	wantState(t, r, preemptapi.RoundCompleted, 3)
	wantOutcome(t, r, vm, action.Forced)
	if o := of(t, r, vm); o.OffAt.Before(r.StartedAt.Add(5 * time.Second)) {
		t.Errorf("it went %s after the round began, within its grace period", o.OffAt.Sub(r.StartedAt))
	}
	s.wantOursExactly(r)
}

func TestALOWGuestWhoseToolsNeverComeIsSparedAndNotClaimedLater(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1), lateGuests(time.Minute))
	vm := s.vc.TaggedVMs("")[0]
	s.must(s.vc.StartTools(vm.Ref, -1))
	s.worker()
	r := s.preempt(preemption.CriticalityLow)
	wantOutcome(t, r, vm, action.Spared, string(policy.NoTools))
	s.wantOursExactly(r)
}
