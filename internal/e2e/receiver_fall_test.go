package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestTheGreenOfOneHostDoesNotUndoTheRedOfAnother(t *testing.T) {
	t.Parallel()
	s := watched(t)
	served := s.hold("PowerOffVM_Task")
	s.worker()
	url := s.receiver()
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	s.bringAlarm(url, "cpu", "cluster-a", 1, "green", "red")
	s.bringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	id := s.intake("cpu", "cluster-a")
	s.until(id, "all were taken", func(r preemptapi.Response) bool { return r.Requests == 3 && r.RoundID != "" })
	served()
	r := s.done(id)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	if up := s.state(id).Levels; len(r.Changes) != 0 || len(up) != 1 {
		t.Errorf("changes %v, up %+v", r.Changes, up)
	}
}

// hold keeps every call of a SOAP method waiting until the function that it returns is called.
func (s *site) hold(method string) (release func()) {
	held := make(chan struct{})
	release = sync.OnceFunc(func() { close(held) })
	s.t.Cleanup(release)
	s.vc.Hook(method, func(types.ManagedObjectReference) { <-held })
	return release
}

// deaf lets every guest ignore its shutdown.
func (s *site) deaf() {
	for _, vm := range s.vc.TaggedVMs("") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
}

func TestAFallEndsOnlyWhatItsAlarmStartedInItsScope(t *testing.T) {
	t.Parallel()
	s := watched(t, withPolicy(func(p *policy.Policy) {
		p.MaxVMs = 2
		p.Criticality.Medium.GracePeriod = clock.Duration(8 * time.Second)
	}), withClusters(3))
	s.rules = rulesOn(s.id("cpu"), s.id("mem"))
	s.deaf()
	s.worker()
	url := s.receiver()
	s.ask("preempctl-run", person(preemption.CriticalityMedium))
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
	s.bringAlarm(url, "mem", "cluster-b", 0, "green", "yellow")
	s.bringAlarm(url, "cpu", "cluster-c", 0, "green", "yellow")
	falls, others := s.intake("cpu", "cluster-a"), []string{"preempctl-run", s.intake("mem", "cluster-b"), s.intake("cpu", "cluster-c")}
	for _, id := range append(others, falls) {
		s.reaches(s.started(id), preemptapi.RoundWaiting)
	}
	s.bringAlarm(url, "cpu", "cluster-a", 0, "yellow", "green")
	r := s.done(falls)
	if len(r.Preempted()) != 0 || r.Count(action.Spared) != 2 || len(r.Changes) != 1 {
		t.Errorf("what fell went on: %s", pretty(r))
	}
	results := []preemptapi.RoundResult{r}
	for _, id := range others {
		r := s.done(id)
		if r.Count(action.Forced) != 2 || len(r.Changes) != 0 {
			t.Errorf("%s was disturbed: %s", id, pretty(r))
		}
		results = append(results, r)
	}
	s.agree(results...)
}

func withClusters(n int) siteOption {
	return withInventory(func(o *simulation.Options) { o.Clusters = n })
}

func TestTheFallOfAnAlarmLeavesAnotherOfTheSameScopeItsPreemption(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]string{"as urgent": "yellow", "more urgent": "red"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := watched(t)
			s.rules = rulesOn(s.id("cpu"), s.id("mem"))
			planned := s.hold("RetrievePropertiesEx")
			s.worker()
			url := s.receiver()
			s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
			first, other := s.intake("cpu", "cluster-a"), s.intake("mem", "cluster-a")
			round := s.started(first)
			s.bringAlarm(url, "mem", "cluster-a", 0, "green", second)
			s.until(other, "it is decided", func(r preemptapi.Response) bool { return r.LastDecision != nil })
			s.bringAlarm(url, "cpu", "cluster-a", 0, "yellow", "green")
			s.eventually("the round is withdrawn", func() bool { return strings.Contains(pretty(s.under(round).Changes), "withdrawn") })
			planned()
			wantState(t, s.done(first), preemptapi.RoundWithdrawn, 0)
			r := s.done(other)
			wantState(t, r, preemptapi.RoundCompleted, 6)
			s.agree(r)
		})
	}
}

func TestWhereAFallSoftensTheRoundGoesOnMoreMildlyAndElseItSpares(t *testing.T) {
	t.Parallel()
	for onFall, want := range map[string]action.Outcome{trigger.OnFallSoften: action.ShutDown, trigger.OnFallCancel: action.Spared, "": action.Spared} {
		t.Run("onFall "+onFall, func(t *testing.T) {
			t.Parallel()
			s := watched(t)
			s.rules = []trigger.Rule{{Alarm: s.id("cpu"), Action: trigger.Preempt{Tag: "preemptible", OnFall: onFall}}}
			planned := s.hold("RetrievePropertiesEx")
			s.worker()
			url := s.receiver()
			s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
			id := s.intake("cpu", "cluster-a")
			round := s.started(id)
			s.bringAlarm(url, "cpu", "cluster-a", 0, "red", "yellow")
			s.eventually("the round knows of the fall", func() bool { return len(s.under(round).Changes) > 0 })
			planned()
			r := s.done(id)
			if want == action.Spared {
				wantState(t, r, preemptapi.RoundWithdrawn, 0)
			} else if r.Count(want) != 6 {
				t.Errorf("want 6 %s: %s", want, pretty(r))
			}
			s.agree(r)
			if a, ok := s.attribute(s.vc.TaggedVMs("cluster-a")[0].Ref); ok && (a.Criticality != "MEDIUM" || a.ForcedShutdown) {
				t.Errorf("attribute: %+v", a)
			}
		})
	}
}

func TestAnUnknownStateHoldsAndCountsAsFallenWhenItLasts(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	s := watched(t, withPolicy(func(p *policy.Policy) {
		p.GrayTimeout = clock.Duration(timeout)
		p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute)
	}))
	s.deaf()
	s.worker()
	url := s.receiver()
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
	id := s.intake("cpu", "cluster-a")
	round := s.started(id)
	s.reaches(round, preemptapi.RoundWaiting)
	s.bringAlarm(url, "cpu", "cluster-a", 0, "yellow", "gray")
	gray := s.until(id, "gray is known", func(r preemptapi.Response) bool { return len(r.Levels) == 1 && !r.Levels[0].Gray.IsZero() })
	if gray.State != "running" || gray.LastDecision.Verdict != preemptapi.Deferred {
		t.Errorf("%s", pretty(gray))
	}
	r := s.done(id)
	if len(r.Preempted()) != 0 || !strings.Contains(pretty(r.Changes), "unknown for too long") {
		t.Errorf("%s", pretty(r))
	}
	if held := r.EndedAt.Sub(gray.Levels[0].Gray); held < timeout {
		t.Errorf("it held for %s", held)
	}
}
