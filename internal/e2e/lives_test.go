package e2e

import (
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func liveSoftened(t *testing.T, name string) {
	s := watched(t)
	s.rules = []trigger.Rule{{Alarm: s.id("cpu"), Action: trigger.Preempt{Tag: "preemptible", OnFall: trigger.OnFallSoften}}}
	planned := s.hold("RetrievePropertiesEx")
	s.worker()
	url := s.receiver()
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	id := s.intake("cpu", "cluster-a")
	round := s.started(id)
	s.bringAlarm(url, "cpu", "cluster-a", 0, "red", "yellow")
	s.eventually("the round knows of the fall", func() bool { return len(s.under(round).Changes) > 0 })
	planned()
	if r := s.done(id); r.Count(action.ShutDown) != 6 {
		t.Fatalf("%+v", r)
	}
	s.keep(name, s.id(id), round)
}

func liveGray(t *testing.T, name string) {
	s := watched(t, withPolicy(func(p *policy.Policy) {
		p.GrayTimeout = clock.Duration(time.Second)
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
	s.done(id)
	s.keep(name, s.id(id), round)
}

func liveOutlasting(t *testing.T, name string) {
	s := watched(t)
	s.rules = rulesOn(s.id("cpu"), s.id("mem"))
	planned := s.hold("RetrievePropertiesEx")
	s.worker()
	url := s.receiver()
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
	first, other := s.intake("cpu", "cluster-a"), s.intake("mem", "cluster-a")
	round := s.started(first)
	s.bringAlarm(url, "mem", "cluster-a", 0, "green", "red")
	s.until(other, "it joined", func(r preemptapi.Response) bool {
		return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Joined
	})
	s.bringAlarm(url, "cpu", "cluster-a", 0, "yellow", "green")
	s.eventually("the round is withdrawn", func() bool { return len(s.under(round).Changes) == 2 })
	planned()
	s.done(first)
	wantState(t, s.done(other), preemptapi.RoundCompleted, 6)
	s.keep(name, s.id(first), s.id(other), round)
}

func liveAlarmOver(t *testing.T, name string) {
	s := watched(t, withSettings(func(set *preempt.Settings) { set.Timing.AlarmAge = time.Nanosecond }))
	url := s.receiver()
	red := routed(t, s.vc.URL(), s.alarm("cluster-a", 0, "green", "red"))
	s.alarm("cluster-a", 0, "red", "green")
	s.bring(url, red)
	s.worker()
	id := s.intake("cpu", "cluster-a")
	r := s.done(id)
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.keep(name, s.id(id), r.RoundID)
}

// liveBundled has signals of many changes each, one of which is none.
func liveBundled(t *testing.T, name string) {
	s := newSite(t)
	s.worker()
	s.changes("alarm", []any{s.changed("cluster-a", 0, "green", "red"), "rubbish", s.changed("cluster-a", 1, "green", "red")})
	r := s.done("alarm")
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.until("alarm", "two hosts stand, and what is no change is rejected", func(p preemptapi.Response) bool {
		return len(p.Levels) == 2 && len(p.Rejections) == 1 && p.Requests == 3
	})
	s.changes("alarm", []any{s.changed("cluster-a", 0, "red", "green"), s.changed("cluster-a", 1, "red", "green")})
	s.until("alarm", "both fell", func(p preemptapi.Response) bool { return len(p.Levels) == 0 && p.Requests == 5 })
	s.changes("alarm", []any{}) // no change at all
	s.until("alarm", "it is rejected", func(p preemptapi.Response) bool { return len(p.Rejections) == 2 })
	s.keep(name, s.id("alarm"), r.RoundID)
}

// liveAgain is red again while the round that was withdrawn at green has not ended: it has a round of its own.
func liveAgain(t *testing.T, name string) {
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Second) }))
	s.vc.SetTaskDelay(3 * time.Second)
	s.worker()
	s.change("alarm", "cluster-a", 0, "green", "red")
	first := s.started("alarm")
	s.eventually("VMs are going off", func() bool { return s.calls("PowerOffVM_Task") == 2 })
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.eventually("the round is withdrawn", func() bool { return len(s.under(first).Changes) == 1 })
	s.change("alarm", "cluster-a", 0, "green", "red")
	s.until("alarm", "the second red waits for the end of the round", func(r preemptapi.Response) bool {
		return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Deferred && r.LastDecision.RoundID == first
	})
	r := s.until("alarm", "another round is over", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.RoundID != first && r.State != preemptapi.IntakeRunning
	})
	wantState(t, *r.Round, preemptapi.RoundCompleted, 2)
	if n := s.off("cluster-a"); n != 4 || len(r.Levels) != 1 {
		t.Errorf("%d VMs are off: %s", n, pretty(r))
	}
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.until("alarm", "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	if n := s.off("cluster-a"); n != 4 {
		t.Errorf("%d VMs are off in the end", n)
	}
	s.keep(name, s.id("alarm"), first)
}

// liveAdopted loses what the intake decided, as when a worker dies between the start of a round and the end of the task
// that started it; the round is over when the decision is made again.
func liveAdopted(t *testing.T, name string) {
	s := newSite(t)
	s.worker()
	s.change("alarm", "cluster-a", 0, "green", "red")
	first := s.done("alarm")
	run := s.run(s.id("alarm"))
	_, err := s.c.ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: s.server.Namespace(), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: s.id("alarm"), RunId: run},
		Reason: "its first task is lost", RequestId: name, WorkflowTaskFinishEventId: 4,
	})
	s.must(err)
	r := s.until("alarm", "it knows the round that it started", func(r preemptapi.Response) bool {
		return r.RunID != run && r.Round != nil && r.State != preemptapi.IntakeRunning
	})
	if r.Round.RoundID != first.RoundID || len(r.VirtualMachines) != 6 || len(r.Levels) != 1 || r.Requests != 1 {
		t.Errorf("%s", pretty(r))
	}
	if n := len(s.rounds()); n != 1 {
		t.Errorf("%d rounds ran", n)
	}
	s.keep(name, s.id("alarm"))
}

// TestWatchLivesWorthReplaying walks through the lives whose histories are replayed by internal/watch:
// go test ./internal/e2e -run TestWatchLivesWorthReplaying -record=$PWD/internal/watch/testdata/histories/<date>
func TestWatchLivesWorthReplaying(t *testing.T) {
	for name, live := range map[string]func(*testing.T, string){
		"followed": watchFollowed, "paused-and-resumed": watchPaused, "continued-as-new": watchContinued,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live(t, name)
		})
	}
}

// watchFollowed goes through the end of a lease and from one worker to another, until it is cancelled.
func watchFollowed(t *testing.T, name string) {
	s := watched(t)
	first := s.worker()
	timing := quickWatch
	timing.Lease = time.Second
	s.watch(timing)
	s.alarm("cluster-a", 0, "green", "red")
	s.done(s.exists(s.intake("cpu", "cluster-a")))
	first.stop()
	s.worker()
	s.alarm("cluster-a", 0, "red", "green")
	s.until(s.intake("cpu", "cluster-a"), "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.point("both were counted", func(c watchapi.Checkpoint) bool { return c.Sent == 2 })
	state := s.stopped()
	if state.Checkpoint.Sent != 2 || state.Checkpoint.Events != 2 || len(state.Checkpoint.Levels) != 0 {
		t.Errorf("the result forgot what was done: %+v", state)
	}
	s.keep(name, watchapi.WorkflowID(s.queue))
}

// stopped cancels the watch and returns its result.
func (s *site) stopped() (state watchapi.State) {
	s.t.Helper()
	id := watchapi.WorkflowID(s.queue)
	s.must(s.c.CancelWorkflow(s.t.Context(), id, ""))
	s.must(s.c.GetWorkflow(s.t.Context(), id, "").Get(s.t.Context(), &state))
	if got := s.status(id); got != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		s.t.Errorf("a cancelled watch ends %s", got)
	}
	return state
}

func watchPaused(t *testing.T, name string) {
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.control(true)
	s.alarm("cluster-a", 0, "green", "red")
	s.control(false)
	s.done(s.exists(s.intake("cpu", "cluster-a")))
	s.control(true)
	if state := s.stopped(); !state.Paused || state.Checkpoint.Sent != 1 {
		t.Errorf("%+v", state)
	}
	s.keep(name, watchapi.WorkflowID(s.queue))
}

// watchContinued is told so often to pause that it needs another run, which forgets nothing.
func watchContinued(t *testing.T, name string) {
	s := watched(t)
	first := s.worker()
	s.watch(quickWatch)
	s.alarm("cluster-a", 0, "green", "red")
	s.done(s.exists(s.intake("cpu", "cluster-a")))
	s.control(true)
	first.stop()
	id := watchapi.WorkflowID(s.queue)
	run := s.run(id)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 550 {
				s.must(s.c.SignalWorkflow(t.Context(), id, run, watchapi.ControlSignal, watchapi.Control{Paused: true}))
			}
		})
	}
	wg.Wait()
	s.worker()
	s.eventually("it continues as new", func() bool { return s.run(id) != run })
	s.alarm("cluster-a", 0, "red", "green")
	s.control(false)
	s.until(s.intake("cpu", "cluster-a"), "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.point("both were counted", func(c watchapi.Checkpoint) bool { return c.Sent == 2 })
	if state := s.stopped(); state.Paused || state.Checkpoint.Events != 2 || state.Checkpoint.Sent != 2 {
		t.Errorf("%+v", state)
	}
	s.keepRun(name+"-first", id, run)
	s.keep(name, id)
}

// run is the id of a workflow's latest run.
func (s *site) run(id string) string {
	s.t.Helper()
	d, err := s.c.DescribeWorkflowExecution(s.t.Context(), id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return d.WorkflowExecutionInfo.GetExecution().GetRunId()
}
