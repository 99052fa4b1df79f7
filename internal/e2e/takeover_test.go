package e2e

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/takeover"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// quiet waits until the id's workflow has no workflow task under way.
func (s *site) quiet(id string) {
	s.t.Helper()
	s.eventually(id+" is idle", func() bool {
		d, err := s.c.DescribeWorkflowExecution(s.t.Context(), s.id(id), "")
		return err == nil && d.GetPendingWorkflowTask() == nil && len(d.GetPendingActivities()) == 0
	})
}

// takenOver waits until the id runs in another run, and checks that the earlier one was ended.
func (s *site) takenOver(id, run string) {
	s.t.Helper()
	s.eventually(id+" is taken over", func() bool { _, now := s.typeOf(s.id(id)); return now != run })
	d, err := s.c.DescribeWorkflowExecution(s.t.Context(), s.id(id), run)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := d.GetWorkflowExecutionInfo().GetStatus(); got != enums.WORKFLOW_EXECUTION_STATUS_TERMINATED {
		s.t.Errorf("the prototype's run is %s", got)
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
			s := newSite(t)
			old := s.prototype(life.stuck)
			s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
			if life.stuck == "" {
				s.eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
				s.quiet("alarm")
			} else {
				s.eventually("the prototype is in "+life.stuck, func() bool { return old.times(life.stuck) == 1 })
			}
			old.kill()
			_, run := s.typeOf(s.id("alarm"))
			for range life.unread {
				s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
			}

			s.worker()
			s.takenOver("alarm", run)
			s.until("alarm", "what was left is done", func(r preemptapi.Response) bool {
				return r.Requests == life.rounds && r.State != "running" && (life.rounds == 0 || r.Round != nil)
			})
			if got := old.times("PowerOffVMs"); got != life.acted {
				t.Errorf("the prototype powered off %d times, not %d", got, life.acted)
			}

			s.signal("alarm", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
			r := s.until("alarm", "a later request is acted upon", func(r preemptapi.Response) bool {
				return r.Requests == life.rounds+1 && r.State != "running" && r.Round != nil && r.Round.Scope == s.cluster("cluster-b")
			})
			if r.Round.State != preemptapi.RoundCompleted || len(r.Rejections) > 0 {
				t.Errorf("the later request: %s", pretty(r))
			}
			s.eventually("all rounds are listed", func() bool { return len(s.rounds()) == life.rounds+1 })
		})
	}
}

func TestRequestsThatAWorkerOfOursHasLongChokedOnAreDone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.prototype("")
	s.signal("alarm", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	s.eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	s.quiet("alarm")
	old.kill()
	_, run := s.typeOf(s.id("alarm"))
	careless := worker.Poller(s.c, s.queue, time.Second, nil)
	s.preemption(s.c, nil).Register(careless)
	s.must(careless.Start())
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("its tasks fail", func() bool {
		d, err := s.c.DescribeWorkflowExecution(t.Context(), s.id("alarm"), "")
		return err == nil && d.GetPendingWorkflowTask().GetAttempt() > 2
	})
	s.signal("alarm", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	careless.Stop()

	s.worker()
	s.takenOver("alarm", run)
	s.until("alarm", "both requests are done", func(r preemptapi.Response) bool {
		return r.Requests == 2 && r.State != "running" && s.off("cluster-a") == 6
	})
	s.eventually("each had its round", func() bool { return len(s.rounds()) == 2 })
}

func TestARequestThatOnlyTheSkippingPrototypeSawIsOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.prototype("")
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh)) // within the minute: it is skipped
	s.quiet("alarm")
	old.kill()
	_, run := s.typeOf(s.id("alarm"))
	s.worker()
	s.takenOver("alarm", run)
	if r := s.state("alarm"); r.Requests != 0 {
		t.Errorf("the skipped request was taken up: %s", pretty(r))
	}
}

func TestACancelledRequestOfThePrototypeIsNotDone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.prototype("")
	s.signal("alarm", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	s.eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	s.quiet("alarm")
	old.kill()
	_, run := s.typeOf(s.id("alarm"))
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.must(s.c.CancelWorkflow(t.Context(), s.id("alarm"), "")) // the old function's falling alarm
	s.signal("alarm", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	s.worker()
	s.takenOver("alarm", run)
	r := s.until("alarm", "what came after is done", func(r preemptapi.Response) bool { return r.Round != nil && r.State != "running" })
	if r.Requests != 1 || r.Round.Scope != s.cluster("cluster-b") || s.off("cluster-a") != 0 {
		t.Errorf("%s", pretty(r))
	}
}

func TestRequestsThatComeWhileAPrototypeIsTakenOverAreAllTaken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.prototype("")
	s.signal("cli", person(preemption.CriticalityLow))
	s.eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	s.quiet("cli")
	old.kill()
	_, run := s.typeOf(s.id("cli"))

	const flood = 120
	var sent sync.WaitGroup
	for range 4 {
		sent.Go(func() {
			for range flood / 4 {
				s.signal("cli", person(preemption.CriticalityLow))
			}
		})
	}
	var counted atomic.Int64
	var keepers sync.WaitGroup // as of several workers that start at once
	for range 2 {
		keepers.Go(func() {
			takeover.Start(t.Context(), takeover.Config{Temporal: s.c, Namespace: s.server.Namespace(), TaskQueue: s.queue, Log: s.log, Count: func(string) { counted.Add(1) }})
		})
	}
	keepers.Wait()
	s.worker()
	sent.Wait()
	s.takenOver("cli", run)
	s.untilWithin(time.Minute, "cli", "every request was taken", func(r preemptapi.Response) bool { return r.Requests >= flood })
	time.Sleep(2 * time.Second)
	// On a server that is so slow that clients send again, a request may have reached both the old run and the new one.
	if r := s.state("cli"); r.Requests != flood && !(raceDetector && r.Requests > flood) {
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
	s := newSite(t)
	old := s.prototype("")
	s.signal("cli", person(preemption.CriticalityLow))
	s.eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	s.quiet("cli")
	old.kill()
	const backlog = 9 // of which some travel with the start, and the others do not
	large := person(preemption.CriticalityLow)
	large.Event = s.alarmEvent("cluster-a", 0, "green", "red")
	s.must(large.Event.SetData(event.ApplicationJSON, map[string]string{"fullFormattedMessage": strings.Repeat("x", 100<<10)}))
	for range backlog {
		s.signal("cli", large)
	}
	_, run := s.typeOf(s.id("cli"))
	look := func(c client.Client) {
		takeover.Start(t.Context(), takeover.Config{Temporal: c, Namespace: s.server.Namespace(), TaskQueue: s.queue, Log: slog.New(slog.DiscardHandler)})
	}
	for _, now := s.typeOf(s.id("cli")); now == run; _, now = s.typeOf(s.id("cli")) {
		look(dying{s.c}) // its list may be behind
	}
	for range 2 { // each as of a worker that starts
		look(s.c)
	}
	s.worker()
	s.untilWithin(time.Minute, "cli", "every request was taken", func(r preemptapi.Response) bool { return r.Requests >= backlog })
	time.Sleep(2 * time.Second)
	if r := s.state("cli"); r.Requests != backlog {
		t.Errorf("%d requests were taken of %d", r.Requests, backlog)
	}
}

func TestAPrototypeOfAnotherTaskQueueIsLeftAlone(t *testing.T) {
	t.Parallel()
	other, s := newSite(t), newSite(t)
	old := other.prototype("PowerOffVMs")
	other.signal("alarm", other.alarmRequest("cluster-a", preemption.CriticalityHigh))
	other.eventually("the prototype works", func() bool { return old.times("PowerOffVMs") == 1 })
	_, run := other.typeOf(other.id("alarm"))
	w := s.worker()
	s.preempt(preemption.CriticalityHigh)
	w.keeper.Look(t.Context())
	if _, now := other.typeOf(other.id("alarm")); now != run {
		t.Error("another queue's workflow was replaced")
	}
	if _, taken, err := w.keeper.Report(); err != nil || len(taken) > 0 {
		t.Errorf("%v %v", taken, err)
	}
}

func TestOurOwnIntakesAreNeverTakenOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.worker()
	s.preempt(preemption.CriticalityHigh)
	s.changes("empty", "rubbish")
	s.until("empty", "the rubbish is rejected", func(r preemptapi.Response) bool { return len(r.Rejections) == 1 })
	w.stop()
	s.signal("waiting", s.alarmRequest("cluster-b", preemption.CriticalityHigh)) // no worker has seen it
	runs := map[string]string{}
	for _, id := range []string{"alarm", "empty", "waiting"} {
		_, runs[id] = s.typeOf(s.id(id))
	}
	k := takeover.Start(t.Context(), takeover.Config{
		Temporal: s.c, Namespace: s.server.Namespace(), TaskQueue: s.queue, Every: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
	k.Look(t.Context())
	for id, run := range runs {
		if _, now := s.typeOf(s.id(id)); now != run {
			t.Errorf("%s was replaced", id)
		}
	}
	if open, taken, err := k.Report(); err != nil || len(open)+len(taken) > 0 {
		t.Errorf("%v %v %v", open, taken, err)
	}
}

func TestTheDoctorTellsOfAPrototypeThatWasTakenOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.prototype("")
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("the prototype ran", func() bool { return old.times("SendPreemptedEvent") == 1 })
	s.quiet("alarm")
	old.kill()
	_, run := s.typeOf(s.id("alarm"))
	s.worker()
	s.takenOver("alarm", run)
	w, err := s.c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: s.queue}, doctorapi.Type, doctorapi.Input{})
	if err != nil {
		t.Fatal(err)
	}
	var r doctorapi.Result
	if err := w.Get(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Name == "workflows of other programs" && c.State == doctorapi.Warning && strings.Contains(c.Text, s.id("alarm")) {
			return
		}
	}
	t.Errorf("nothing of it in %s", pretty(r))
}

func TestTheWorkerProgramTakesOverAndCountsIt(t *testing.T) {
	t.Parallel()
	path, _ := program(t, "worker")
	s := newSite(t)
	old := s.prototype("GetPreemptibleVMs")
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("the prototype looks", func() bool { return old.times("GetPreemptibleVMs") == 1 })
	old.kill()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	addr := free.Addr().String()
	s.must(free.Close())
	_, run := s.typeOf(s.id("alarm"))
	s.workerProcess(path, "HTTP_ADDR="+addr)
	s.takenOver("alarm", run)
	r := s.until("alarm", "the request is done", func(r preemptapi.Response) bool { return r.Round != nil && r.State != "running" })
	wantState(t, *r.Round, preemptapi.RoundCompleted, 6)
	if got := scrape(t, addr)["preemption_takeovers_total"]; got != 1 {
		t.Errorf("%v takeovers are counted", got)
	}
}
