package e2e

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// lagging lets events of these classes come so long after the state.
func (s *site) lagging(d time.Duration, classes ...string) {
	s.vc.LagEvents(simulation.LagOf(d, classes...))
}

const (
	offEvent     = "VmPoweredOffEvent"
	onEvent      = "VmPoweredOnEvent"
	requestEvent = "VmGuestShutdownEvent"
)

// laggingEvents are those that tell of power states.
var laggingEvents = []string{
	offEvent, onEvent, requestEvent, "DrsVmPoweredOnEvent", "VmSuspendedEvent", "VmStoppingEvent", "VmStartingEvent", "VmSuspendingEvent",
}

// usualLag is how every simulated vCenter posts events unless a test says otherwise: after the state that they tell of,
// and requests after what they led to.
func usualLag(class string) time.Duration {
	switch {
	case class == requestEvent:
		return 400 * time.Millisecond
	case slices.Contains(laggingEvents, class):
		return 250 * time.Millisecond
	}
	return 0
}

// lags draws how long events of each kind come after the state: up to ten seconds, as vCenter may.
func lags(t testing.TB, random *rand.Rand) map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, class := range laggingEvents {
		all[class] = time.Duration(random.Int64N(int64(10 * time.Second)))
	}
	t.Logf("events come later by %v", all)
	return all
}

// lagged lets events come as late as drawn, and the workers wait as long for them as they do in production.
func (s *site) lagged(by map[string]time.Duration) {
	s.eventLag = 0
	s.vc.LagEvents(func(class string) time.Duration { return by[class] })
}

func TestGuestsThatShutDownAreOursWhateverTheLagOfEvents(t *testing.T) {
	t.Parallel()
	for name, lag := range map[string]func(*site){
		"the off event comes late":     func(s *site) { s.lagging(time.Second, offEvent) },
		"the off event never comes":    func(s *site) { s.lagging(time.Hour, offEvent) },
		"the request comes after both": func(s *site) { s.lagging(time.Second, requestEvent) },
		"no event comes at all":        func(s *site) { s.lagging(time.Hour, offEvent, requestEvent) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			lag(s)
			s.worker()
			r := s.preempt(preemption.CriticalityMedium)
			wantState(t, r, preemptapi.RoundCompleted, 6)
			for _, o := range r.Targets {
				if o.Outcome != action.ShutDown {
					t.Errorf("%s is %s (%s)", o.Name, o.Outcome, o.Reason)
				}
			}
			s.wantOursExactly(r)
		})
	}
}

func TestAPowerCutByAnotherIsNotClaimedThoughItsEventComesLate(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	s.lagging(time.Second, offEvent)
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.IgnoreShutdown(vm.Ref)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org"))
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.wantOursExactly(r, vm.Ref)
}

func TestAGuestWhoseOffEventNamesOurUserIsOurs(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1), withPolicy(func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute) }))
	vm := s.vc.TaggedVMs("")[0]
	s.vc.IgnoreShutdown(vm.Ref)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	s.must(s.vc.PowerOffAs(vm.Ref, s.vc.Username()))
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 1)
	s.wantOursExactly(r)
}

func TestALateGuestIsOursThoughItsOffEventComesLate(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(1), lateGuests(time.Minute))
	s.worker()
	round, vm := s.late(), s.vc.TaggedVMs("")[0]
	s.lagging(time.Second, offEvent)
	s.must(s.guestOff(vm.Ref))
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 1)
	wantOutcome(t, r, vm, action.ShutDown)
	s.wantOursExactly(r)
}
