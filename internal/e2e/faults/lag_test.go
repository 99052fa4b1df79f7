package faults

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestGuestsThatShutDownAreOursWhateverTheLagOfEvents(t *testing.T) {
	t.Parallel()
	for name, lag := range map[string]func(*sitetest.Site){
		"the off event comes late":     func(s *sitetest.Site) { s.Lagging(time.Second, sitetest.OffEvent) },
		"the off event never comes":    func(s *sitetest.Site) { s.Lagging(time.Hour, sitetest.OffEvent) },
		"the request comes after both": func(s *sitetest.Site) { s.Lagging(time.Second, sitetest.RequestEvent) },
		"no event comes at all":        func(s *sitetest.Site) { s.Lagging(time.Hour, sitetest.OffEvent, sitetest.RequestEvent) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t)
			lag(s)
			s.Worker()
			r := s.Preempt(preemption.CriticalityMedium)
			sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
			for _, o := range r.Targets {
				if o.Outcome != action.ShutDown {
					t.Errorf("%s is %s (%s)", o.Name, o.Outcome, o.Reason)
				}
			}
			s.WantOursExactly(r)
		})
	}
}

func TestAPowerCutByAnotherIsNotClaimedThoughItsEventComesLate(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	s.Lagging(time.Second, sitetest.OffEvent)
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.IgnoreShutdown(vm.Ref)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org"))
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.WantOursExactly(r, vm.Ref)
}

func TestAGuestWhoseOffEventNamesOurUserIsOurs(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vm := s.VC.TaggedVMs("")[0]
	s.VC.IgnoreShutdown(vm.Ref)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	s.Must(s.VC.PowerOffAs(vm.Ref, s.VC.Username()))
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 1)
	s.WantOursExactly(r)
}

func TestALateGuestIsOursThoughItsOffEventComesLate(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1), sitetest.LateGuests(time.Minute))
	s.Worker()
	round, vm := late(s), s.VC.TaggedVMs("")[0]
	s.Lagging(time.Second, sitetest.OffEvent)
	s.Must(s.GuestOff(vm.Ref))
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 1)
	sitetest.WantOutcome(t, r, vm, action.ShutDown)
	s.WantOursExactly(r)
}
