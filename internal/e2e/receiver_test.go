package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/receiver"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestAnEventSentInAnyWayIsAnsweredWhenTemporalHasItAndPreempts(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(*testing.T, string, event.Event) int{
		"binary by the CloudEvents client":     func(t *testing.T, url string, e event.Event) int { return bySDK(t, url, e, false) },
		"structured by the CloudEvents client": func(t *testing.T, url string, e event.Event) int { return bySDK(t, url, e, true) },
		"curl":                                 byCurl,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := watched(t)
			url := s.receiver()
			code := send(t, url, routed(t, s.vc.URL(), s.alarm("cluster-a", 0, "green", "red")))
			id := s.intake("cpu", "cluster-a")
			if _, err := s.c.DescribeWorkflowExecution(t.Context(), s.id(id), ""); err != nil || code != http.StatusAccepted {
				t.Fatalf("answered %d; in Temporal: %v", code, err)
			}
			s.worker()
			r := s.done(id)
			wantState(t, r, preemptapi.RoundCompleted, 6)
			s.agree(r)
			if a, _ := s.attribute(s.vc.TaggedVMs("cluster-a")[0].Ref); a.WorkflowID != s.id(id) || a.Criticality != "HIGH" {
				t.Errorf("attribute: %+v", a)
			}
		})
	}
}

// documented is the documented event; with a site it names what that has instead, where its alarm is red now. Its source
// is another address than the site's.
func documented(t *testing.T, s *site) event.Event {
	t.Helper()
	text, err := os.ReadFile("../../testdata/alarm-green-to-red-host1.structured.json")
	if err != nil {
		t.Fatal(err)
	}
	if s != nil {
		c := s.vc.Cluster("cluster-a")
		for old, now := range map[string]string{
			`"domain-c7"`: c.Ref.Value, `"cls"`: c.Name, `"host-21"`: c.Hosts[0].Ref.Value, `"10.161.166.252"`: c.Hosts[0].Name,
			`"cluster-cpu-above-80"`: s.id("cpu"), `"alarm-282"`: s.vc.Alarm(s.id("cpu")).Value,
		} {
			text = bytes.ReplaceAll(text, []byte(old), fmt.Appendf(nil, "%q", now))
		}
		_, err := s.vc.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.id("cpu"), Entity: c.Hosts[0].Ref, From: "green", To: "red", Silent: true})
		s.must(err)
	}
	e, err := preemption.ParseEvent(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTheDocumentedEventPreemptsInTheClusterThatItNames(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	if a := s.bring(s.receiver(), documented(t, s)); a.code != http.StatusAccepted || a.What != "HIGH preemption" {
		t.Fatalf("%+v", a)
	}
	r := s.done(s.intake("cpu", "cluster-a"))
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
	if n := s.off("cluster-b"); n != 0 {
		t.Errorf("%d VMs of another cluster are off", n)
	}
}

func TestTheDocumentedEventOfAnotherVCenterIsRefusedAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rules = rulesOn("cluster-cpu-above-80")
	s.worker()
	a := s.bring(s.receiver(), documented(t, nil))
	if a.code != http.StatusAccepted || a.WorkflowID != "cluster-cpu-above-80@domain-c7@"+s.queue {
		t.Fatalf("%+v", a)
	}
	t.Cleanup(func() { _ = s.c.TerminateWorkflow(context.Background(), a.WorkflowID, "", "the test is over") }) // its id is not this site's own
	var r preemptapi.Response
	s.eventually("it is rejected", func() bool {
		v, err := s.c.QueryWorkflow(t.Context(), a.WorkflowID, "", preemption.WorkFlowQueryType)
		var text string
		if err == nil && v.Get(&text) == nil {
			s.must(json.Unmarshal([]byte(text), &r))
		}
		return len(r.Rejections) == 1
	})
	if !containsAll(r.Rejections[0].Reason, "10.161.164.224", "not of this vCenter") || len(s.rounds()) != 0 {
		t.Errorf("want it refused for its vCenter: %s", pretty(r))
	}
	if n := s.off(""); n != 0 || s.calls("PowerOffVM_Task")+s.calls("ShutdownGuest") != 0 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestTwoHostsOfAClusterThatAlarmAtOnceArePreemptedForOnce(t *testing.T) {
	t.Parallel()
	s := watched(t, withPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.worker()
	url := s.receiver()
	var wg sync.WaitGroup
	for host := range 2 {
		wg.Go(func() { s.bringAlarm(url, "cpu", "cluster-a", host, "green", "red") })
	}
	wg.Wait()
	id := s.intake("cpu", "cluster-a")
	wantState(t, s.done(id), preemptapi.RoundCompleted, 2)
	s.until(id, "both hosts are known to be in alarm", func(r preemptapi.Response) bool { return len(r.Levels) == 2 && r.Requests == 2 })
	if rounds := s.rounds(); len(rounds) != 1 || s.off("") != 2 {
		t.Errorf("%d VMs are off by the rounds %v", s.off(""), rounds)
	}
}

func TestAnAlarmOnTwoClustersIsPreemptedForInEach(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	url := s.receiver()
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	s.bringAlarm(url, "cpu", "cluster-b", 0, "green", "red")
	a, b := s.done(s.intake("cpu", "cluster-a")), s.done(s.intake("cpu", "cluster-b"))
	wantState(t, a, preemptapi.RoundCompleted, 6)
	wantState(t, b, preemptapi.RoundCompleted, 6)
	s.agree(a, b)
}

func TestAnEventActsOnceHoweverOftenAndInWhateverDressItComes(t *testing.T) {
	t.Parallel()
	s := watched(t, withPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Millisecond) }),
		withSettings(func(set *preempt.Settings) { set.Timing.IntakeIdle = 300 * time.Millisecond }))
	s.worker()
	url := s.receiver()
	red := s.alarm("cluster-a", 0, "green", "red")
	again := func() []event.Event {
		return []event.Event{
			routed(t, "https://vc.example.com/sdk", red), routed(t, "https://vc.example.com/sdk", red),
			sourced(t, "https://VC.example.com:443/sdk", red), routed(t, "vc.example.com", red), sourced(t, "https://vc.example.com", red),
			wrapped(t, "https://vc.example.com/sdk", string(alarm.ClassAlarm), red.CreatedTime, event.ApplicationJSON, red),
		}
	}
	id := s.intake("cpu", "cluster-a")
	n := 0
	for _, e := range again() {
		if a := s.bring(url, e); a.code != http.StatusAccepted || a.WorkflowID != s.id(id) {
			t.Fatalf("%s from %s: %+v", e.Type(), e.Source(), a)
		}
		if n++; n == 1 {
			wantState(t, s.done(id), preemptapi.RoundCompleted, 2) // the cooldown is over: nothing else holds the others back
		}
	}
	s.until(id, "all were taken", func(r preemptapi.Response) bool { return r.Requests == n })
	s.bringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	s.must(s.c.GetWorkflow(t.Context(), s.id(id), "").Get(t.Context(), nil)) // it has nothing to do and ends; what it knew goes with it
	for _, e := range again() {
		s.bring(url, e)
		s.until(id, "it is decided", func(r preemptapi.Response) bool {
			return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Duplicate
		})
	}
	if rounds := s.rounds(); len(rounds) != 1 || s.off("") != 2 {
		t.Errorf("one event took %d VMs in the rounds %v; 2 is the plan's limit", s.off(""), rounds)
	}
}

func TestALateRedThatIsOlderThanASeenGreenStartsNothing(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	url := s.receiver()
	red, green := s.alarm("cluster-a", 0, "green", "red"), s.alarm("cluster-a", 0, "red", "green")
	s.bring(url, routed(t, s.vc.URL(), green))
	if a := s.bring(url, routed(t, s.vc.URL(), red)); a.code != http.StatusAccepted {
		t.Fatalf("%+v", a)
	}
	r := s.until(s.intake("cpu", "cluster-a"), "both were taken", func(r preemptapi.Response) bool { return r.Requests == 2 })
	if r.LastDecision.Verdict != preemptapi.Duplicate || len(r.Levels) != 0 || len(s.rounds()) != 0 || s.off("") != 0 {
		t.Errorf("%s", pretty(r))
	}
}

func TestARuleSaysWhatAColourMeans(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.rules = []trigger.Rule{{Alarm: s.id("cpu"), Action: trigger.Preempt{Tag: "preemptible", Yellow: trigger.None, Red: preemption.CriticalityLow}}}
	s.worker()
	url := s.receiver()
	if a := s.bring(url, routed(t, s.vc.URL(), s.alarm("cluster-a", 0, "green", "yellow"))); a.code != http.StatusOK || a.Verdict != "ignored" {
		t.Errorf("yellow, at which the rule does nothing: %+v", a)
	}
	s.bringAlarm(url, "cpu", "cluster-a", 0, "yellow", "red")
	r := s.done(s.intake("cpu", "cluster-a"))
	if r.Criticality != preemption.CriticalityLow || r.Count(action.ShutDown) != 6 {
		t.Errorf("red, which is LOW: %s", pretty(r))
	}
	s.agree(r)
}

func TestTheReceiverAndTheWatchTogetherAreOnePreemption(t *testing.T) {
	t.Parallel()
	s := watched(t, withPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Millisecond) }))
	s.worker()
	s.watch(quickWatch)
	url := s.receiver()
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	s.bringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	s.bringAlarm(url, "cpu", "cluster-b", 0, "green", "red")
	s.point("the watch saw both", func(c watchapi.Checkpoint) bool { return c.Events == 3 })
	id := s.intake("cpu", "cluster-b")
	wantState(t, s.done(id), preemptapi.RoundCompleted, 2)
	s.until(id, "it was told twice", func(r preemptapi.Response) bool { return r.Requests == 2 })
	s.until(s.intake("cpu", "cluster-a"), "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 && r.State != "running" })
	if n := s.off("cluster-b"); n != 2 {
		t.Errorf("%d VMs are off; 2 is the plan's limit", n)
	}
	for scope, n := range map[string]int{"cluster-a": 1, "cluster-b": 1} {
		found := 0
		for _, r := range s.rounds() {
			if strings.HasSuffix(r, s.intake("", scope)) {
				found++
			}
		}
		if found != n {
			t.Errorf("%d rounds in %s, want %d: %v", found, scope, n, s.rounds())
		}
	}
}

func TestWhileTemporalIsAwayEventsAreToBeSentAgainAndThenTheyAreTaken(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	way := newGate(t)
	c, err := client.NewLazyClient(client.Options{
		HostPort: way.listener.Addr().String(), Namespace: s.server.Namespace(), Logger: sdklog.NewStructuredLogger(s.log),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	way.set(true)
	url := s.receiver(func(cfg *receiver.Config, e *trigger.Engine) { e.Temporal, cfg.SendTimeout = c, 500*time.Millisecond })
	id := s.intake("cpu", "cluster-a")
	e := routed(t, s.vc.URL(), s.alarm("cluster-a", 0, "green", "red"))
	if a := s.bring(url, e); a.code != http.StatusServiceUnavailable || a.after == "" || a.Verdict != "unavailable" {
		t.Fatalf("while Temporal is away: %+v", a)
	}
	way.set(false)
	s.eventually("the event is taken", func() bool { return s.bring(url, e).code == http.StatusAccepted })
	wantState(t, s.done(id), preemptapi.RoundCompleted, 6)
	way.set(true)
	green := routed(t, s.vc.URL(), s.alarm("cluster-a", 0, "red", "green"))
	if a := s.bring(url, green); a.code != http.StatusServiceUnavailable {
		t.Errorf("when Temporal went away: %+v", a)
	}
	way.set(false)
	s.eventually("the fall is taken", func() bool { return s.bring(url, green).code == http.StatusAccepted })
	s.until(id, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}
