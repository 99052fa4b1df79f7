package events

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestTwelveLargeEventsThatWaitForAWorkerAreHandled(t *testing.T) {
	t.Parallel()
	sitetest.New(t).Backlog(12, 480<<10)
}

func TestThousandsOfSmallEventsThatWaitForAWorkerAreHandled(t *testing.T) {
	// Not parallel: it takes all processors, and what runs beside it would be late.
	sitetest.New(t).Backlog(sitetest.Sized(2500, 500), 4<<10)
}

func TestAnAlarmWhoseNameIsNotASCIIPreemptsByWatchAndReceiverAndIsFoundByItsName(t *testing.T) {
	t.Parallel()
	const name = "CPU über 80 % – прод"
	s := sitetest.New(t)
	s.Rules = sitetest.RulesOn(s.ID("*"))
	url := s.Receiver()
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Post(name, "cluster-a", 0, "green", "red")
	s.Post("cpu", "cluster-b", 0, "green", "red") // not held up by the one before
	s.Exists(s.Intake("cpu", "cluster-b"))
	for deadline := time.Now().Add(time.Minute); s.OffIn("cluster-a") < 6 || s.OffIn("cluster-b") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d VMs of cluster-a and %d of cluster-b are off", s.OffIn("cluster-a"), s.OffIn("cluster-b"))
		}
	}
	a := s.Bring(url, sitetest.Routed(t, s.VC.URL(), s.Post(name, "cluster-a", 1, "green", "red")))
	if a.Code != http.StatusAccepted {
		t.Fatalf("the receiver answers %+v", a)
	}
	for _, r := range a.WorkflowID {
		if r < ' ' || r > '~' {
			t.Fatalf("id %q is not printable ASCII", a.WorkflowID)
		}
	}
	human := s.ID(s.Intake(name, "cluster-a"))
	ctl, _ := sitetest.Program(t, "preemptctl")
	s.WantCtl(ctl, []string{"TEMPORAL_URL=" + sitetest.Shared.HostPort()}, 0, a.WorkflowID, "workflow", "status", "-w", human)
	s.WantCtl(ctl, []string{"TEMPORAL_URL=" + sitetest.Shared.HostPort()}, 0, a.WorkflowID, "workflow", "cancel", "-w", human)
}

func TestAProducerThatGoesOnWhileNobodyTakesItsEventsIsAnswered503WithTheReason(t *testing.T) {
	// Not parallel: it takes all processors, and what runs beside it would be late.
	s := sitetest.New(t)
	s.Rules = sitetest.RulesOn(s.ID("cpu"))
	url := s.Receiver()
	c := s.VC.Cluster("cluster-a")
	ev := s.Post("cpu", "cluster-a", 0, "green", "red")
	var a sitetest.Answer
	for i := range 3000 {
		ev.Key, ev.CreatedTime = ev.Key+1, ev.CreatedTime.Add(time.Second)
		ev.FullFormattedMessage = strings.Repeat("x", 12<<10)
		if a = s.Bring(url, sitetest.Routed(t, s.VC.URL(), ev)); a.Code != http.StatusAccepted {
			t.Logf("event %d on %s: %+v", i, c.Ref.Value, a)
			break
		}
	}
	if a.Code != http.StatusServiceUnavailable || a.After == "" || !strings.Contains(a.Reason, s.Queue) || !strings.Contains(a.Reason, "worker") {
		t.Fatalf("want 503 with its reason, got %+v", a)
	}
	s.Worker()
	for deadline := time.Now().Add(2 * time.Minute); a.Code != http.StatusAccepted; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still refused although a worker takes them: %+v", a)
		}
		ev.Key, ev.CreatedTime = ev.Key+1, ev.CreatedTime.Add(time.Second)
		a = s.Bring(url, sitetest.Routed(t, s.VC.URL(), ev))
	}
}

func TestAReservedIDNeverBecomesAnIntake(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	ctl, _ := sitetest.Program(t, "preemptctl")
	for _, id := range []string{
		"preemption-ledger@" + s.Queue + "x", "vcenter-watch@" + s.Queue + "x", "restore@" + s.Queue, "resize@" + s.Queue,
		"reconfigure@" + s.Queue, "move@" + s.Queue, "round-0123456789ab-" + s.Queue, "preemption-plan-" + s.Queue,
	} {
		s.WantCtl(ctl, []string{"TEMPORAL_URL=" + sitetest.Shared.HostPort()}, 2, "is reserved", "workflow", "run", "-w", id)
		run, err := s.Temporal.SignalWithStartWorkflow(t.Context(), id, preemption.SignalChannel, sitetest.PersonRequest(preemption.CriticalityHigh),
			client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, preemption.WorkflowName)
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
	if n := s.OffIn("cluster-a") + s.OffIn("cluster-b"); n != 0 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestAnIntakeWithWorkLeftCompletesBeforeItsClientsTimeoutAndWhatStandsGoesOn(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Hour) }))
	s.Worker()
	opts := client.StartWorkflowOptions{ID: s.ID("cli"), TaskQueue: s.Queue, WorkflowExecutionTimeout: 30 * time.Second}
	first, err := s.Temporal.SignalWithStartWorkflow(t.Context(), s.ID("cli"), preemption.SignalChannel,
		s.AlarmRequest("cluster-a", preemption.CriticalityHigh), opts, preemption.WorkflowName)
	if err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.Temporal.GetWorkflow(t.Context(), s.ID("cli"), first.GetRunID()).Get(t.Context(), &res); err != nil {
		t.Fatalf("it must not end as timed out: %v", err)
	}
	if len(res.VirtualMachines) != 6 || len(res.Levels) != 1 || !strings.Contains(fmt.Sprint(res.Left), "alarm") {
		t.Errorf("%d VMs, levels %+v, left %q", len(res.VirtualMachines), res.Levels, res.Left)
	}
	next := s.Until("cli", "a successor holds what stands", func(r preemptapi.Response) bool { return r.RunID != first.GetRunID() && len(r.Levels) == 1 })
	if next.Round == nil || len(next.VirtualMachines) != 6 {
		t.Errorf("the successor forgot the last round: %+v", next)
	}
}
