package events

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/receiver"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestAnEventSentInAnyWayIsAnsweredWhenTemporalHasItAndPreempts(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(*testing.T, string, event.Event) int{
		"binary by the CloudEvents client":     func(t *testing.T, url string, e event.Event) int { return sitetest.BySDK(t, url, e, false) },
		"structured by the CloudEvents client": func(t *testing.T, url string, e event.Event) int { return sitetest.BySDK(t, url, e, true) },
		"curl":                                 sitetest.ByCurl,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.Watched(t)
			url := s.Receiver()
			code := send(t, url, sitetest.Routed(t, s.VC.URL(), s.Alarm("cluster-a", 0, "green", "red")))
			id := s.Intake("cpu", "cluster-a")
			if _, err := s.Temporal.DescribeWorkflowExecution(t.Context(), s.ID(id), ""); err != nil || code != http.StatusAccepted {
				t.Fatalf("answered %d; in Temporal: %v", code, err)
			}
			s.Worker()
			r := s.Done(id)
			sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
			s.Agree(r)
			if a, _ := s.Attribute(s.VC.TaggedVMs("cluster-a")[0].Ref); a.WorkflowID != s.ID(id) || a.Criticality != "HIGH" {
				t.Errorf("attribute: %+v", a)
			}
		})
	}
}

// documented is the documented event; with a site it names what that has instead, where its alarm is red now. Its source
// is another address than the site's.
func documented(t *testing.T, s *sitetest.Site) event.Event {
	t.Helper()
	text, err := os.ReadFile("../../../testdata/alarm-green-to-red-host1.structured.json")
	if err != nil {
		t.Fatal(err)
	}
	if s != nil {
		c := s.VC.Cluster("cluster-a")
		for old, now := range map[string]string{
			`"domain-c7"`: c.Ref.Value, `"cls"`: c.Name, `"host-21"`: c.Hosts[0].Ref.Value, `"10.161.166.252"`: c.Hosts[0].Name,
			`"cluster-cpu-above-80"`: s.ID("cpu"), `"alarm-282"`: s.VC.Alarm(s.ID("cpu")).Value,
		} {
			text = bytes.ReplaceAll(text, []byte(old), fmt.Appendf(nil, "%q", now))
		}
		_, err := s.VC.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.ID("cpu"), Entity: c.Hosts[0].Ref, From: "green", To: "red", Silent: true})
		s.Must(err)
	}
	e, err := preemption.ParseEvent(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTheDocumentedEventPreemptsInTheClusterThatItNames(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	if a := s.Bring(s.Receiver(), documented(t, s)); a.Code != http.StatusAccepted || a.What != "HIGH preemption" {
		t.Fatalf("%+v", a)
	}
	r := s.Done(s.Intake("cpu", "cluster-a"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
	if n := s.OffIn("cluster-b"); n != 0 {
		t.Errorf("%d VMs of another cluster are off", n)
	}
}

func TestTheDocumentedEventOfAnotherVCenterIsRefusedAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Rules = sitetest.RulesOn("cluster-cpu-above-80")
	s.Worker()
	a := s.Bring(s.Receiver(), documented(t, nil))
	if a.Code != http.StatusAccepted || a.WorkflowID != "cluster-cpu-above-80@domain-c7@"+s.Queue {
		t.Fatalf("%+v", a)
	}
	t.Cleanup(func() { _ = s.Temporal.TerminateWorkflow(context.Background(), a.WorkflowID, "", "the test is over") }) // its id is not this site's own
	var r preemptapi.Response
	s.Eventually("it is rejected", func() bool {
		v, err := s.Temporal.QueryWorkflow(t.Context(), a.WorkflowID, "", preemption.WorkFlowQueryType)
		var text string
		if err == nil && v.Get(&text) == nil {
			s.Must(json.Unmarshal([]byte(text), &r))
		}
		return len(r.Rejections) == 1
	})
	if !sitetest.ContainsAll(r.Rejections[0].Reason, "10.161.164.224", "not of this vCenter") || len(s.Rounds()) != 0 {
		t.Errorf("want it refused for its vCenter: %s", sitetest.Pretty(r))
	}
	if n := s.OffIn(""); n != 0 || s.Calls("PowerOffVM_Task")+s.Calls("ShutdownGuest") != 0 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestTwoHostsOfAClusterThatAlarmAtOnceArePreemptedForOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.Worker()
	url := s.Receiver()
	var wg sync.WaitGroup
	for host := range 2 {
		wg.Go(func() { s.BringAlarm(url, "cpu", "cluster-a", host, "green", "red") })
	}
	wg.Wait()
	id := s.Intake("cpu", "cluster-a")
	sitetest.WantState(t, s.Done(id), preemptapi.RoundCompleted, 2)
	s.Until(id, "both hosts are known to be in alarm", func(r preemptapi.Response) bool { return len(r.Levels) == 2 && r.Requests == 2 })
	if rounds := s.Rounds(); len(rounds) != 1 || s.OffIn("") != 2 {
		t.Errorf("%d VMs are off by the rounds %v", s.OffIn(""), rounds)
	}
}

func TestAnAlarmOnTwoClustersIsPreemptedForInEach(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	url := s.Receiver()
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	s.BringAlarm(url, "cpu", "cluster-b", 0, "green", "red")
	a, b := s.Done(s.Intake("cpu", "cluster-a")), s.Done(s.Intake("cpu", "cluster-b"))
	sitetest.WantState(t, a, preemptapi.RoundCompleted, 6)
	sitetest.WantState(t, b, preemptapi.RoundCompleted, 6)
	s.Agree(a, b)
}

func TestAnEventActsOnceHoweverOftenAndInWhateverDressItComes(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Millisecond) }),
		sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.IntakeIdle = 300 * time.Millisecond }))
	s.Worker()
	url := s.Receiver()
	red := s.Alarm("cluster-a", 0, "green", "red")
	again := func() []event.Event {
		return []event.Event{
			sitetest.Routed(t, "https://vc.example.com/sdk", red), sitetest.Routed(t, "https://vc.example.com/sdk", red),
			sitetest.Sourced(t, "https://VC.example.com:443/sdk", red), sitetest.Routed(t, "vc.example.com", red), sitetest.Sourced(t, "https://vc.example.com", red),
			sitetest.Wrapped(t, "https://vc.example.com/sdk", string(alarm.ClassAlarm), red.CreatedTime, event.ApplicationJSON, red),
		}
	}
	id := s.Intake("cpu", "cluster-a")
	n := 0
	for _, e := range again() {
		if a := s.Bring(url, e); a.Code != http.StatusAccepted || a.WorkflowID != s.ID(id) {
			t.Fatalf("%s from %s: %+v", e.Type(), e.Source(), a)
		}
		if n++; n == 1 {
			sitetest.WantState(t, s.Done(id), preemptapi.RoundCompleted, 2) // the cooldown is over: nothing else holds the others back
		}
	}
	s.Until(id, "all were taken", func(r preemptapi.Response) bool { return r.Requests == n })
	s.BringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	s.Must(s.Temporal.GetWorkflow(t.Context(), s.ID(id), "").Get(t.Context(), nil)) // it has nothing to do and ends; what it knew goes with it
	for _, e := range again() {
		s.Bring(url, e)
		s.Until(id, "it is decided", func(r preemptapi.Response) bool {
			return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Duplicate
		})
	}
	if rounds := s.Rounds(); len(rounds) != 1 || s.OffIn("") != 2 {
		t.Errorf("one event took %d VMs in the rounds %v; 2 is the plan's limit", s.OffIn(""), rounds)
	}
}

func TestALateRedThatIsOlderThanASeenGreenStartsNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	url := s.Receiver()
	red, green := s.Alarm("cluster-a", 0, "green", "red"), s.Alarm("cluster-a", 0, "red", "green")
	s.Bring(url, sitetest.Routed(t, s.VC.URL(), green))
	if a := s.Bring(url, sitetest.Routed(t, s.VC.URL(), red)); a.Code != http.StatusAccepted {
		t.Fatalf("%+v", a)
	}
	r := s.Until(s.Intake("cpu", "cluster-a"), "both were taken", func(r preemptapi.Response) bool { return r.Requests == 2 })
	if r.LastDecision.Verdict != preemptapi.Duplicate || len(r.Levels) != 0 || len(s.Rounds()) != 0 || s.OffIn("") != 0 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
}

func TestARuleSaysWhatAColourMeans(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Rules = []trigger.Rule{{Alarm: s.ID("cpu"), Action: trigger.Preempt{Tag: "preemptible", Yellow: trigger.None, Red: preemption.CriticalityLow}}}
	s.Worker()
	url := s.Receiver()
	if a := s.Bring(url, sitetest.Routed(t, s.VC.URL(), s.Alarm("cluster-a", 0, "green", "yellow"))); a.Code != http.StatusOK || a.Verdict != "ignored" {
		t.Errorf("yellow, at which the rule does nothing: %+v", a)
	}
	s.BringAlarm(url, "cpu", "cluster-a", 0, "yellow", "red")
	r := s.Done(s.Intake("cpu", "cluster-a"))
	if r.Criticality != preemption.CriticalityLow || r.Count(action.ShutDown) != 6 {
		t.Errorf("red, which is LOW: %s", sitetest.Pretty(r))
	}
	s.Agree(r)
}

func TestTheReceiverAndTheWatchTogetherAreOnePreemption(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Millisecond) }))
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	url := s.Receiver()
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	s.BringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	s.BringAlarm(url, "cpu", "cluster-b", 0, "green", "red")
	s.Point("the watch saw both", func(c watchapi.Checkpoint) bool { return c.Events == 3 })
	id := s.Intake("cpu", "cluster-b")
	sitetest.WantState(t, s.Done(id), preemptapi.RoundCompleted, 2)
	s.Until(id, "it was told twice", func(r preemptapi.Response) bool { return r.Requests == 2 })
	s.Until(s.Intake("cpu", "cluster-a"), "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 && r.State != preemptapi.IntakeRunning })
	if n := s.OffIn("cluster-b"); n != 2 {
		t.Errorf("%d VMs are off; 2 is the plan's limit", n)
	}
	for scope, n := range map[string]int{"cluster-a": 1, "cluster-b": 1} {
		found := 0
		for _, r := range s.Rounds() {
			if strings.HasSuffix(r, s.Intake("", scope)) {
				found++
			}
		}
		if found != n {
			t.Errorf("%d rounds in %s, want %d: %v", found, scope, n, s.Rounds())
		}
	}
}

func TestWhileTemporalIsAwayEventsAreToBeSentAgainAndThenTheyAreTaken(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	way := sitetest.NewGate(t)
	c, err := client.NewLazyClient(client.Options{
		HostPort: way.Listener.Addr().String(), Namespace: s.Server.Namespace(), Logger: sdklog.NewStructuredLogger(s.Log),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	way.Set(true)
	url := s.Receiver(func(cfg *receiver.Config, e *trigger.Engine) { e.Temporal, cfg.SendTimeout = c, 500*time.Millisecond })
	id := s.Intake("cpu", "cluster-a")
	e := sitetest.Routed(t, s.VC.URL(), s.Alarm("cluster-a", 0, "green", "red"))
	if a := s.Bring(url, e); a.Code != http.StatusServiceUnavailable || a.After == "" || a.Verdict != "unavailable" {
		t.Fatalf("while Temporal is away: %+v", a)
	}
	way.Set(false)
	s.Eventually("the event is taken", func() bool { return s.Bring(url, e).Code == http.StatusAccepted })
	sitetest.WantState(t, s.Done(id), preemptapi.RoundCompleted, 6)
	way.Set(true)
	green := sitetest.Routed(t, s.VC.URL(), s.Alarm("cluster-a", 0, "red", "green"))
	if a := s.Bring(url, green); a.Code != http.StatusServiceUnavailable {
		t.Errorf("when Temporal went away: %+v", a)
	}
	way.Set(false)
	s.Eventually("the fall is taken", func() bool { return s.Bring(url, green).Code == http.StatusAccepted })
	s.Until(id, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}
