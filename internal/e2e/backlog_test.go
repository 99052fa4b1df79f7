package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// padded is a change of an alarm that carries a whole event of about n bytes, as earlier receivers signalled it.
func (s *site) padded(host int, from, to string, n int) preemption.AlarmChange {
	s.t.Helper()
	c := s.changed("cluster-a", host, from, to)
	e := s.alarmEvent("cluster-a", host, from, to)
	var data map[string]any
	s.must(json.Unmarshal(e.Data(), &data))
	data["fullFormattedMessage"] = strings.Repeat("x", n)
	s.must(e.SetData(event.ApplicationJSON, data))
	c.Request, _ = json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: e})
	return c
}

// backlog sends n changes while no worker runs, then starts one: all are decided, and a later fall is acted upon.
func (s *site) backlog(n, size int) {
	s.t.Helper()
	c := s.padded(0, "green", "red", size)
	for i := range n {
		c.Time, c.EventKey = c.Time.Add(time.Second), c.EventKey+1
		c.From, c.To = "yellow", "red"
		if i%2 == 1 {
			c.From, c.To = "red", "yellow"
		}
		s.changes("alarm", c)
	}
	s.worker()
	s.untilWithin(3*time.Minute, "alarm", "all were decided", func(r preemptapi.Response) bool { return r.Requests >= n })
	c.Time, c.EventKey, c.From, c.To, c.Request = c.Time.Add(time.Second), c.EventKey+1, "yellow", "green", nil
	s.changes("alarm", c)
	s.untilWithin(time.Minute, "alarm", "the fall was acted upon", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestTwelveLargeEventsThatWaitForAWorkerAreHandled(t *testing.T) {
	t.Parallel()
	newSite(t).backlog(12, 480<<10)
}

func TestThousandsOfSmallEventsThatWaitForAWorkerAreHandled(t *testing.T) {
	t.Parallel()
	newSite(t).backlog(sized(2500, 500), 4<<10)
}

func TestAnAlarmWhoseNameIsNotASCIIPreemptsByWatchAndReceiverAndIsFoundByItsName(t *testing.T) {
	t.Parallel()
	const name = "CPU über 80 % – прод"
	s := newSite(t)
	s.rules = rulesOn(s.id("*"))
	url := s.receiver()
	s.worker()
	s.watch(quickWatch)
	s.post(name, "cluster-a", 0, "green", "red")
	s.post("cpu", "cluster-b", 0, "green", "red") // not held up by the one before
	s.exists(s.intake("cpu", "cluster-b"))
	for deadline := time.Now().Add(time.Minute); s.off("cluster-a") < 6 || s.off("cluster-b") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d VMs of cluster-a and %d of cluster-b are off", s.off("cluster-a"), s.off("cluster-b"))
		}
	}
	a := s.bring(url, routed(t, s.vc.URL(), s.post(name, "cluster-a", 1, "green", "red")))
	if a.code != http.StatusAccepted {
		t.Fatalf("the receiver answers %+v", a)
	}
	for _, r := range a.WorkflowID {
		if r < ' ' || r > '~' {
			t.Fatalf("id %q is not printable ASCII", a.WorkflowID)
		}
	}
	human := s.id(s.intake(name, "cluster-a"))
	ctl, _ := program(t, "preemptctl")
	s.wantCtl(ctl, []string{"TEMPORAL_URL=" + server.HostPort()}, 0, a.WorkflowID, "workflow", "status", "-w", human)
	s.wantCtl(ctl, []string{"TEMPORAL_URL=" + server.HostPort()}, 0, a.WorkflowID, "workflow", "cancel", "-w", human)
}

func TestAProducerThatGoesOnWhileNobodyTakesItsEventsIsAnswered503WithTheReason(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rules = rulesOn(s.id("cpu"))
	url := s.receiver()
	c := s.vc.Cluster("cluster-a")
	ev := s.post("cpu", "cluster-a", 0, "green", "red")
	var a answer
	for i := range 3000 {
		ev.Key, ev.CreatedTime = ev.Key+1, ev.CreatedTime.Add(time.Second)
		ev.FullFormattedMessage = strings.Repeat("x", 12<<10)
		if a = s.bring(url, routed(t, s.vc.URL(), ev)); a.code != http.StatusAccepted {
			t.Logf("event %d on %s: %+v", i, c.Ref.Value, a)
			break
		}
	}
	if a.code != http.StatusServiceUnavailable || a.after == "" || !strings.Contains(a.Reason, s.queue) || !strings.Contains(a.Reason, "worker") {
		t.Fatalf("want 503 with its reason, got %+v", a)
	}
	s.worker()
	for deadline := time.Now().Add(2 * time.Minute); a.code != http.StatusAccepted; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still refused although a worker takes them: %+v", a)
		}
		ev.Key, ev.CreatedTime = ev.Key+1, ev.CreatedTime.Add(time.Second)
		a = s.bring(url, routed(t, s.vc.URL(), ev))
	}
}

func TestAReservedIDNeverBecomesAnIntake(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	ctl, _ := program(t, "preemptctl")
	for _, id := range []string{
		"preemption-ledger@" + s.queue + "x", "vcenter-watch@" + s.queue + "x", "restore@" + s.queue, "resize@" + s.queue,
		"reconfigure@" + s.queue, "move@" + s.queue, "round-0123456789ab-" + s.queue, "preemption-plan-" + s.queue,
	} {
		s.wantCtl(ctl, []string{"TEMPORAL_URL=" + server.HostPort()}, 2, "is reserved", "workflow", "run", "-w", id)
		run, err := s.c.SignalWithStartWorkflow(t.Context(), id, preemption.SignalChannel, person(preemption.CriticalityHigh),
			client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, preemption.WorkflowName)
		if err != nil {
			t.Fatal(err)
		}
		var res preemptapi.Response
		if err := run.Get(t.Context(), &res); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if len(res.Rejections) != 1 || !strings.Contains(res.Rejections[0].Reason, "reserved") {
			t.Errorf("%s: want a rejection that says why, got %+v", id, res.Rejections)
		}
	}
	if n := s.off("cluster-a") + s.off("cluster-b"); n != 0 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestAnIntakeWithWorkLeftCompletesBeforeItsClientsTimeoutAndWhatStandsGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Hour) }))
	s.worker()
	opts := client.StartWorkflowOptions{ID: s.id("cli"), TaskQueue: s.queue, WorkflowExecutionTimeout: 8 * time.Second}
	first, err := s.c.SignalWithStartWorkflow(t.Context(), s.id("cli"), preemption.SignalChannel,
		s.alarmRequest("cluster-a", preemption.CriticalityHigh), opts, preemption.WorkflowName)
	if err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.c.GetWorkflow(t.Context(), s.id("cli"), first.GetRunID()).Get(t.Context(), &res); err != nil {
		t.Fatalf("it must not end as timed out: %v", err)
	}
	if len(res.VirtualMachines) != 6 || len(res.Levels) != 1 || !strings.Contains(fmt.Sprint(res.Left), "alarm") {
		t.Errorf("%d VMs, levels %+v, left %q", len(res.VirtualMachines), res.Levels, res.Left)
	}
	next := s.until("cli", "a successor holds what stands", func(r preemptapi.Response) bool { return r.RunID != first.GetRunID() && len(r.Levels) == 1 })
	if next.Round == nil || len(next.VirtualMachines) != 6 {
		t.Errorf("the successor forgot the last round: %+v", next)
	}
}
