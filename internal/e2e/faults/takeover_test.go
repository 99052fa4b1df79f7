package faults

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/takeover"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// quiet waits until the id's workflow has no workflow task under way.
func quiet(s *sitetest.Site, id string) {
	s.T.Helper()
	s.Eventually(id+" is idle", func() bool {
		d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), s.ID(id), "")
		return err == nil && d.GetPendingWorkflowTask() == nil && len(d.GetPendingActivities()) == 0
	})
}

// takenOver waits until the id runs in another run, and checks that the earlier one was ended.
func takenOver(s *sitetest.Site, id, run string) {
	s.T.Helper()
	s.Eventually(id+" is taken over", func() bool { _, now := s.TypeOf(s.ID(id)); return now != run })
	d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), s.ID(id), run)
	if err != nil {
		s.T.Fatal(err)
	}
	if got := d.GetWorkflowExecutionInfo().GetStatus(); got != enums.WORKFLOW_EXECUTION_STATUS_TERMINATED {
		s.T.Errorf("the prototype's run is %s", got)
	}
}

func TestWhatAPrototypeHadDealtWithIsNotDoneAgainAndTheRestIsDoneOnce(t *testing.T) {
	for name, life := range map[string]struct {
		stuck  string // the activity in which it is killed
		acted  int    // how often it powered off
		unread int    // requests that come when it is dead
		rounds int    // of ours, for what it left
	}{
		"idle after a run":                            {acted: 1},
		"idle, with a request that nobody read":       {acted: 1, unread: 1, rounds: 1},
		"while it looks for VMs: nothing was done":    {stuck: "GetPreemptibleVMs", rounds: 1},
		"while it powers off":                         {stuck: "PowerOffVMs", acted: 1},
		"while it powers off, with an unread request": {stuck: "PowerOffVMs", acted: 1, unread: 1, rounds: 1},
		"while it annotates":                          {stuck: "AnnotateVms", acted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t)
			old := startPrototype(s, life.stuck)
			s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
			if life.stuck == "" {
				s.Eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
				quiet(s, "alarm")
			} else {
				s.Eventually("the prototype is in "+life.stuck, func() bool { return old.times(life.stuck) == 1 })
			}
			old.kill()
			_, run := s.TypeOf(s.ID("alarm"))
			for range life.unread {
				s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
			}

			s.Worker()
			takenOver(s, "alarm", run)
			s.Until("alarm", "what was left is done", func(r preemptapi.Response) bool {
				return r.Requests == life.rounds && r.State != preemptapi.IntakeRunning && (life.rounds == 0 || r.Round != nil)
			})
			if got := old.times("PowerOffVMs"); got != life.acted {
				t.Errorf("the prototype powered off %d times, not %d", got, life.acted)
			}

			s.Signal("alarm", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
			r := s.Until("alarm", "a later request is acted upon", func(r preemptapi.Response) bool {
				return r.Requests == life.rounds+1 && r.State != preemptapi.IntakeRunning && r.Round != nil && r.Round.Scope == s.Cluster("cluster-b")
			})
			if r.Round.State != preemptapi.RoundCompleted || len(r.Rejections) > 0 {
				t.Errorf("the later request: %s", sitetest.Pretty(r))
			}
			s.Eventually("all rounds are listed", func() bool { return len(s.Rounds()) == life.rounds+1 })
		})
	}
}

func TestRequestsThatAWorkerOfOursHasLongChokedOnAreDone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	old := startPrototype(s, "")
	s.Signal("alarm", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	s.Eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	quiet(s, "alarm")
	old.kill()
	_, run := s.TypeOf(s.ID("alarm"))
	careless := worker.Poller(s.Temporal, s.Queue, time.Second, nil)
	s.Preemption(s.Temporal, nil).Register(careless)
	s.Must(careless.Start())
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("its tasks fail", func() bool {
		d, err := s.Temporal.DescribeWorkflowExecution(t.Context(), s.ID("alarm"), "")
		return err == nil && d.GetPendingWorkflowTask().GetAttempt() > 2
	})
	s.Signal("alarm", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	careless.Stop()

	s.Worker()
	takenOver(s, "alarm", run)
	s.Until("alarm", "both requests are done", func(r preemptapi.Response) bool {
		return r.Requests == 2 && r.State != preemptapi.IntakeRunning && s.OffIn("cluster-a") == 6
	})
	s.Eventually("each had its round", func() bool { return len(s.Rounds()) == 2 })
}

func TestARequestThatOnlyTheSkippingPrototypeSawIsOver(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	old := startPrototype(s, "")
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh)) // within the minute: it is skipped
	quiet(s, "alarm")
	old.kill()
	_, run := s.TypeOf(s.ID("alarm"))
	s.Worker()
	takenOver(s, "alarm", run)
	if r := s.State("alarm"); r.Requests != 0 {
		t.Errorf("the skipped request was taken up: %s", sitetest.Pretty(r))
	}
}

func TestACancelledRequestOfThePrototypeIsNotDone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	old := startPrototype(s, "")
	s.Signal("alarm", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	s.Eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	quiet(s, "alarm")
	old.kill()
	_, run := s.TypeOf(s.ID("alarm"))
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Must(s.Temporal.CancelWorkflow(t.Context(), s.ID("alarm"), "")) // the old function's falling alarm
	s.Signal("alarm", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	s.Worker()
	takenOver(s, "alarm", run)
	r := s.Until("alarm", "what came after is done", func(r preemptapi.Response) bool { return r.Round != nil && r.State != preemptapi.IntakeRunning })
	if r.Requests != 1 || r.Round.Scope != s.Cluster("cluster-b") || s.OffIn("cluster-a") != 0 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
}

func TestRequestsThatComeWhileAPrototypeIsTakenOverAreAllTaken(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	old := startPrototype(s, "")
	s.Signal("cli", sitetest.PersonRequest(preemption.CriticalityLow))
	s.Eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	quiet(s, "cli")
	old.kill()
	_, run := s.TypeOf(s.ID("cli"))

	const flood = 120
	var sent sync.WaitGroup
	for range 4 {
		sent.Go(func() {
			for range flood / 4 {
				s.Signal("cli", sitetest.PersonRequest(preemption.CriticalityLow))
			}
		})
	}
	var counted atomic.Int64
	var keepers sync.WaitGroup // as of several workers that start at once
	for range 2 {
		keepers.Go(func() {
			takeover.Start(t.Context(), takeover.Config{Temporal: s.Temporal, Namespace: s.Server.Namespace(), TaskQueue: s.Queue, Log: s.Log, Count: func(string) { counted.Add(1) }})
		})
	}
	keepers.Wait()
	s.Worker()
	sent.Wait()
	takenOver(s, "cli", run)
	s.UntilWithin(time.Minute, "cli", "every request was taken", func(r preemptapi.Response) bool { return r.Requests >= flood })
	time.Sleep(2 * time.Second)
	// On a server that is so slow that clients send again, a request may have reached both the old run and the new one.
	if r := s.State("cli"); r.Requests < flood || r.Requests > flood+flood/10 {
		t.Errorf("%d requests were taken of %d", r.Requests, flood)
	}
	if n := counted.Load(); n != 1 {
		t.Errorf("%d takeovers are counted", n)
	}
}

// dying is a Temporal that a worker reaches no more once it has replaced a run.
type dying struct{ client.Client }

type dyingService struct {
	workflowservice.WorkflowServiceClient
}

func (d dying) WorkflowService() workflowservice.WorkflowServiceClient {
	return dyingService{d.Client.WorkflowService()}
}

func (dyingService) SignalWithStartWorkflowExecution(
	context.Context, *workflowservice.SignalWithStartWorkflowExecutionRequest, ...grpc.CallOption,
) (*workflowservice.SignalWithStartWorkflowExecutionResponse, error) {
	return nil, errors.New("the worker was killed")
}

func TestWhatAWorkerThatDiedInATakeoverHadNotPassedOnIsPassedOnOnceByTheNext(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	old := startPrototype(s, "")
	s.Signal("cli", sitetest.PersonRequest(preemption.CriticalityLow))
	s.Eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	quiet(s, "cli")
	old.kill()
	const backlog = 9 // of which some travel with the start, and the others do not
	large := sitetest.PersonRequest(preemption.CriticalityLow)
	large.Event = s.AlarmEvent("cluster-a", 0, "green", "red")
	s.Must(large.Event.SetData(event.ApplicationJSON, map[string]string{"fullFormattedMessage": strings.Repeat("x", 100<<10)}))
	for range backlog {
		s.Signal("cli", large)
	}
	_, run := s.TypeOf(s.ID("cli"))
	look := func(c client.Client) {
		takeover.Start(t.Context(), takeover.Config{Temporal: c, Namespace: s.Server.Namespace(), TaskQueue: s.Queue, Log: slog.New(slog.DiscardHandler)})
	}
	for _, now := s.TypeOf(s.ID("cli")); now == run; _, now = s.TypeOf(s.ID("cli")) {
		look(dying{s.Temporal}) // its list may be behind
	}
	for range 2 { // each as of a worker that starts
		look(s.Temporal)
	}
	s.Worker()
	s.UntilWithin(time.Minute, "cli", "every request was taken", func(r preemptapi.Response) bool { return r.Requests >= backlog })
	time.Sleep(2 * time.Second)
	if r := s.State("cli"); r.Requests != backlog {
		t.Errorf("%d requests were taken of %d", r.Requests, backlog)
	}
}

func TestAPrototypeOfAnotherTaskQueueIsLeftAlone(t *testing.T) {
	t.Parallel()
	other, s := sitetest.New(t), sitetest.New(t)
	old := startPrototype(other, "PowerOffVMs")
	other.Signal("alarm", other.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	other.Eventually("the prototype works", func() bool { return old.times("PowerOffVMs") == 1 })
	_, run := other.TypeOf(other.ID("alarm"))
	w := s.Worker()
	s.Preempt(preemption.CriticalityHigh)
	w.Keeper.Look(t.Context())
	if _, now := other.TypeOf(other.ID("alarm")); now != run {
		t.Error("another queue's workflow was replaced")
	}
	if _, taken, err := w.Keeper.Report(); err != nil || len(taken) > 0 {
		t.Errorf("%v %v", taken, err)
	}
}

func TestOurOwnIntakesAreNeverTakenOver(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	w := s.Worker()
	s.Preempt(preemption.CriticalityHigh)
	s.Changes("empty", "rubbish")
	s.Until("empty", "the rubbish is rejected", func(r preemptapi.Response) bool { return len(r.Rejections) == 1 })
	w.Stop()
	s.Signal("waiting", s.AlarmRequest("cluster-b", preemption.CriticalityHigh)) // no worker has seen it
	runs := map[string]string{}
	for _, id := range []string{"alarm", "empty", "waiting"} {
		_, runs[id] = s.TypeOf(s.ID(id))
	}
	k := takeover.Start(t.Context(), takeover.Config{
		Temporal: s.Temporal, Namespace: s.Server.Namespace(), TaskQueue: s.Queue, Every: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
	k.Look(t.Context())
	for id, run := range runs {
		if _, now := s.TypeOf(s.ID(id)); now != run {
			t.Errorf("%s was replaced", id)
		}
	}
	if open, taken, err := k.Report(); err != nil || len(open)+len(taken) > 0 {
		t.Errorf("%v %v %v", open, taken, err)
	}
}

func TestTheDoctorTellsOfAPrototypeThatWasTakenOver(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	old := startPrototype(s, "")
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	quiet(s, "alarm")
	old.kill()
	_, run := s.TypeOf(s.ID("alarm"))
	s.Worker()
	takenOver(s, "alarm", run)
	w, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: s.Queue}, doctorapi.Type, doctorapi.Input{})
	if err != nil {
		t.Fatal(err)
	}
	var r doctorapi.Result
	if err := w.Get(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Name == "workflows of other programs" && c.State == doctorapi.Warning && strings.Contains(c.Text, s.ID("alarm")) {
			return
		}
	}
	t.Errorf("nothing of it in %s", sitetest.Pretty(r))
}

func TestTheWorkerProgramTakesOverAndCountsIt(t *testing.T) {
	t.Parallel()
	path, _ := sitetest.Program(t, "worker")
	s := sitetest.New(t)
	old := startPrototype(s, "GetPreemptibleVMs")
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("the prototype looks", func() bool { return old.times("GetPreemptibleVMs") == 1 })
	old.kill()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	addr := free.Addr().String()
	s.Must(free.Close())
	_, run := s.TypeOf(s.ID("alarm"))
	s.WorkerProcess(path, "HTTP_ADDR="+addr)
	takenOver(s, "alarm", run)
	r := s.Until("alarm", "the request is done", func(r preemptapi.Response) bool { return r.Round != nil && r.State != preemptapi.IntakeRunning })
	sitetest.WantState(t, *r.Round, preemptapi.RoundCompleted, 6)
	if got := sitetest.Scrape(t, addr)["preemption_takeovers_total"]; got != 1 {
		t.Errorf("%v takeovers are counted", got)
	}
}
