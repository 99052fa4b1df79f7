package sitetest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// Impatient notices a dead worker soon.
var Impatient = WithSettings(func(set *preempt.Settings) { set.Timing.Heartbeat = time.Second })

// HalfASecond is long for a call to the simulator and short for a person.
const HalfASecond = 500 * time.Millisecond

// After runs fn after d, unless the test is over by then.
func After(d time.Duration, fn func()) { time.AfterFunc(d, fn) }

// WithTarget is a utilisation to come down to.
func WithTarget(cpu int) Option {
	return WithPolicy(func(p *policy.Policy) { p.Target = policy.Goal{CPU: cpu, Margin: 1, IfShort: policy.ShortPartial} })
}

// FirstChosen is the first target of a dry run.
func (s *Site) FirstChosen(cluster string) types.ManagedObjectReference {
	s.T.Helper()
	run, err := s.Temporal.ExecuteWorkflow(s.T.Context(), client.StartWorkflowOptions{TaskQueue: s.Queue}, preemptapi.PlanType,
		s.AlarmRequest(cluster, preemption.CriticalityHigh))
	if err != nil {
		s.T.Fatal(err)
	}
	var r preemptapi.RoundResult
	if err := run.Get(s.T.Context(), &r); err != nil {
		s.T.Fatal(err)
	}
	return types.ManagedObjectReference{Type: r.Targets[0].Ref.Type, Value: r.Targets[0].Ref.Value}
}

// WithNotice gives every criticality a notice before it acts.
func WithNotice(d time.Duration) Option {
	return WithPolicy(func(p *policy.Policy) {
		p.Criticality.High.Notice, p.Criticality.Medium.Notice, p.Criticality.Low.Notice = clock.Duration(d), clock.Duration(d), clock.Duration(d)
	})
}

// WantNotice checks what became of the notice of a VM.
func WantNotice(t testing.TB, r preemptapi.RoundResult, vm, want string) {
	t.Helper()
	for _, o := range r.Targets {
		if o.Name == vm {
			if !strings.Contains(o.Notice, want) {
				t.Errorf("the notice of %s: %q, want %q", vm, o.Notice, want)
			}
			return
		}
	}
	t.Errorf("%s is no target", vm)
}

// Guest is what the guest of a VM reads of its notice.
func (s *Site) Guest(vm simulation.VM) string { return s.VC.GuestInfo(vm.Ref, "guestinfo.preemption") }

// LateGuests ignore their shutdown for the grace period at least, and are watched on for d.
func LateGuests(d time.Duration) Option {
	return WithPolicy(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod, p.LateWatch = clock.Duration(HalfASecond), clock.Duration(d)
	})
}

// Lagging lets events of these classes come so long after the state.
func (s *Site) Lagging(d time.Duration, classes ...string) {
	s.VC.LagEvents(simulation.LagOf(d, classes...))
}

const (
	// OffEvent is the class of vCenter's event of a power-off.
	OffEvent = "VmPoweredOffEvent"
	// RequestEvent is the class of its event of a request to shut a guest down.
	RequestEvent = "VmGuestShutdownEvent"
	onEvent      = "VmPoweredOnEvent"
)

// laggingEvents are those that tell of power states.
var laggingEvents = []string{
	OffEvent, onEvent, RequestEvent, "DrsVmPoweredOnEvent", "VmSuspendedEvent", "VmStoppingEvent", "VmStartingEvent", "VmSuspendingEvent",
}

// usualLag is how every simulated vCenter posts events unless a test says otherwise: after the state that they tell of,
// and requests after what they led to.
func usualLag(class string) time.Duration {
	switch {
	case class == RequestEvent:
		return 400 * time.Millisecond
	case slices.Contains(laggingEvents, class):
		return 250 * time.Millisecond
	}
	return 0
}

// DrawLags draws how long events of each kind come after the state: up to ten seconds, as vCenter may.
func DrawLags(t testing.TB, random *rand.Rand) map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, class := range laggingEvents {
		all[class] = time.Duration(random.Int64N(int64(10 * time.Second)))
	}
	t.Logf("events come later by %v", all)
	return all
}

// Lagged lets events come as late as drawn, and the workers wait as long for them as they do in production.
func (s *Site) Lagged(by map[string]time.Duration) {
	s.eventLag = 0
	s.VC.LagEvents(func(class string) time.Duration { return by[class] })
}

// RaisedWhileAway runs a LOW round that is raised to HIGH while vCenter is away at the end of its grace period.
func RaisedWhileAway(t *testing.T) (s *Site, r preemptapi.RoundResult) {
	s = New(t, OneCluster(2), LateGuests(time.Minute), WithPolicy(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod = clock.Duration(2 * time.Second)
	}))
	s.Deaf()
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	event := s.AlarmEvent("cluster-a", 1, "yellow", "red")
	s.VC.Outage()
	time.Sleep(4 * time.Second) // the grace period is over
	s.Signal("alarm", preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: event})
	s.Eventually("the round is raised", func() bool { return s.Under(round).Criticality == preemption.CriticalityHigh })
	s.VC.Recover()
	return s, s.Round(round)
}
