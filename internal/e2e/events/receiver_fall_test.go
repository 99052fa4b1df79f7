package events

import (
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestTheGreenOfOneHostDoesNotUndoTheRedOfAnother(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	served := s.Hold("PowerOffVM_Task")
	s.Worker()
	url := s.Receiver()
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	s.BringAlarm(url, "cpu", "cluster-a", 1, "green", "red")
	s.BringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	id := s.Intake("cpu", "cluster-a")
	s.Until(id, "all were taken", func(r preemptapi.Response) bool { return r.Requests == 3 && r.RoundID != "" })
	served()
	r := s.Done(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if up := s.State(id).Levels; len(r.Changes) != 0 || len(up) != 1 {
		t.Errorf("changes %v, up %+v", r.Changes, up)
	}
}

func TestAFallEndsOnlyWhatItsAlarmStartedInItsScope(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.MaxVMs = 2
		p.Criticality.Medium.GracePeriod = clock.Duration(8 * time.Second)
	}), withClusters(3))
	s.Rules = sitetest.RulesOn(s.ID("cpu"), s.ID("mem"))
	s.Deaf()
	s.Worker()
	url := s.Receiver()
	s.Ask("preempctl-run", sitetest.PersonRequest(preemption.CriticalityMedium))
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
	s.BringAlarm(url, "mem", "cluster-b", 0, "green", "yellow")
	s.BringAlarm(url, "cpu", "cluster-c", 0, "green", "yellow")
	falls, others := s.Intake("cpu", "cluster-a"), []string{"preempctl-run", s.Intake("mem", "cluster-b"), s.Intake("cpu", "cluster-c")}
	for _, id := range append(others, falls) {
		s.Reaches(s.Started(id), preemptapi.RoundWaiting)
	}
	s.BringAlarm(url, "cpu", "cluster-a", 0, "yellow", "green")
	r := s.Done(falls)
	if len(r.Preempted()) != 0 || r.Count(action.Spared) != 2 || len(r.Changes) != 1 {
		t.Errorf("what fell went on: %s", sitetest.Pretty(r))
	}
	results := []preemptapi.RoundResult{r}
	for _, id := range others {
		r := s.Done(id)
		if r.Count(action.Forced) != 2 || len(r.Changes) != 0 {
			t.Errorf("%s was disturbed: %s", id, sitetest.Pretty(r))
		}
		results = append(results, r)
	}
	s.Agree(results...)
}

func withClusters(n int) sitetest.Option {
	return sitetest.WithInventory(func(o *simulation.Options) { o.Clusters = n })
}

func TestTheFallOfAnAlarmLeavesAnotherOfTheSameScopeItsPreemption(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]string{"as urgent": "yellow", "more urgent": "red"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.Watched(t)
			s.Rules = sitetest.RulesOn(s.ID("cpu"), s.ID("mem"))
			planned := s.Hold("RetrievePropertiesEx")
			s.Worker()
			url := s.Receiver()
			s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
			first, other := s.Intake("cpu", "cluster-a"), s.Intake("mem", "cluster-a")
			round := s.Started(first)
			s.BringAlarm(url, "mem", "cluster-a", 0, "green", second)
			s.Until(other, "it is decided", func(r preemptapi.Response) bool { return r.LastDecision != nil })
			s.BringAlarm(url, "cpu", "cluster-a", 0, "yellow", "green")
			s.Eventually("the round is withdrawn", func() bool { return strings.Contains(sitetest.Pretty(s.Under(round).Changes), "withdrawn") })
			planned()
			sitetest.WantState(t, s.Done(first), preemptapi.RoundWithdrawn, 0)
			r := s.Done(other)
			sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
			s.Agree(r)
		})
	}
}

func TestWhereAFallSoftensTheRoundGoesOnMoreMildlyAndElseItSpares(t *testing.T) {
	t.Parallel()
	for onFall, want := range map[string]action.Outcome{trigger.OnFallSoften: action.ShutDown, trigger.OnFallCancel: action.Spared, "": action.Spared} {
		t.Run("onFall "+onFall, func(t *testing.T) {
			t.Parallel()
			s := sitetest.Watched(t)
			s.Rules = []trigger.Rule{{Alarm: s.ID("cpu"), Action: trigger.Preempt{Tag: "preemptible", OnFall: onFall}}}
			planned := s.Hold("RetrievePropertiesEx")
			s.Worker()
			url := s.Receiver()
			s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
			id := s.Intake("cpu", "cluster-a")
			round := s.Started(id)
			s.BringAlarm(url, "cpu", "cluster-a", 0, "red", "yellow")
			s.Eventually("the round knows of the fall", func() bool { return len(s.Under(round).Changes) > 0 })
			planned()
			r := s.Done(id)
			if want == action.Spared {
				sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
			} else if r.Count(want) != 6 {
				t.Errorf("want 6 %s: %s", want, sitetest.Pretty(r))
			}
			s.Agree(r)
			if a, ok := s.Attribute(s.VC.TaggedVMs("cluster-a")[0].Ref); ok && (a.Criticality != "MEDIUM" || a.ForcedShutdown) {
				t.Errorf("attribute: %+v", a)
			}
		})
	}
}

func TestAnUnknownStateHoldsAndCountsAsFallenWhenItLasts(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.GrayTimeout = clock.Duration(timeout)
		p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute)
	}))
	s.Deaf()
	s.Worker()
	url := s.Receiver()
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
	id := s.Intake("cpu", "cluster-a")
	round := s.Started(id)
	s.Reaches(round, preemptapi.RoundWaiting)
	s.BringAlarm(url, "cpu", "cluster-a", 0, "yellow", "gray")
	gray := s.Until(id, "gray is known", func(r preemptapi.Response) bool { return len(r.Levels) == 1 && !r.Levels[0].Gray.IsZero() })
	if gray.State != preemptapi.IntakeRunning || gray.LastDecision.Verdict != preemptapi.Deferred {
		t.Errorf("%s", sitetest.Pretty(gray))
	}
	r := s.Done(id)
	if len(r.Preempted()) != 0 || !strings.Contains(sitetest.Pretty(r.Changes), "unknown for too long") {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	if held := r.EndedAt.Sub(gray.Levels[0].Gray); held < timeout {
		t.Errorf("it held for %s", held)
	}
}
