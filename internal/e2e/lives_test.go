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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func liveSoftened(t *testing.T, name string) {
	s := sitetest.Watched(t)
	s.Rules = []trigger.Rule{{Alarm: s.ID("cpu"), Action: trigger.Preempt{Tag: "preemptible", OnFall: trigger.OnFallSoften}}}
	planned := s.Hold("RetrievePropertiesEx")
	s.Worker()
	url := s.Receiver()
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	id := s.Intake("cpu", "cluster-a")
	round := s.Started(id)
	s.BringAlarm(url, "cpu", "cluster-a", 0, "red", "yellow")
	s.Eventually("the round knows of the fall", func() bool { return len(s.Under(round).Changes) > 0 })
	planned()
	if r := s.Done(id); r.Count(action.ShutDown) != 6 {
		t.Fatalf("%+v", r)
	}
	s.Keep(name, s.ID(id), round)
}

func liveGray(t *testing.T, name string) {
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.GrayTimeout = clock.Duration(time.Second)
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
	s.Done(id)
	s.Keep(name, s.ID(id), round)
}

func liveOutlasting(t *testing.T, name string) {
	s := sitetest.Watched(t)
	s.Rules = sitetest.RulesOn(s.ID("cpu"), s.ID("mem"))
	planned := s.Hold("RetrievePropertiesEx")
	s.Worker()
	url := s.Receiver()
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "yellow")
	first, other := s.Intake("cpu", "cluster-a"), s.Intake("mem", "cluster-a")
	round := s.Started(first)
	s.BringAlarm(url, "mem", "cluster-a", 0, "green", "red")
	s.Until(other, "it joined", func(r preemptapi.Response) bool {
		return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Joined
	})
	s.BringAlarm(url, "cpu", "cluster-a", 0, "yellow", "green")
	s.Eventually("the round is withdrawn", func() bool { return len(s.Under(round).Changes) == 2 })
	planned()
	s.Done(first)
	sitetest.WantState(t, s.Done(other), preemptapi.RoundCompleted, 6)
	s.Keep(name, s.ID(first), s.ID(other), round)
}

func liveAlarmOver(t *testing.T, name string) {
	s := sitetest.Watched(t, sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.AlarmAge = time.Nanosecond }))
	url := s.Receiver()
	red := sitetest.Routed(t, s.VC.URL(), s.Alarm("cluster-a", 0, "green", "red"))
	s.Alarm("cluster-a", 0, "red", "green")
	s.Bring(url, red)
	s.Worker()
	id := s.Intake("cpu", "cluster-a")
	r := s.Done(id)
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.Keep(name, s.ID(id), r.RoundID)
}

// liveBundled has signals of many changes each, one of which is none.
func liveBundled(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Worker()
	s.Changes("alarm", []any{s.Changed("cluster-a", 0, "green", "red"), "rubbish", s.Changed("cluster-a", 1, "green", "red")})
	r := s.Done("alarm")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Until("alarm", "two hosts stand, and what is no change is rejected", func(p preemptapi.Response) bool {
		return len(p.Levels) == 2 && len(p.Rejections) == 1 && p.Requests == 3
	})
	s.Changes("alarm", []any{s.Changed("cluster-a", 0, "red", "green"), s.Changed("cluster-a", 1, "red", "green")})
	s.Until("alarm", "both fell", func(p preemptapi.Response) bool { return len(p.Levels) == 0 && p.Requests == 5 })
	s.Changes("alarm", []any{}) // no change at all
	s.Until("alarm", "it is rejected", func(p preemptapi.Response) bool { return len(p.Rejections) == 2 })
	s.Keep(name, s.ID("alarm"), r.RoundID)
}

// liveAgain is red again while the round that was withdrawn at green has not ended: it has a round of its own.
func liveAgain(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Second) }))
	s.VC.SetTaskDelay(3 * time.Second)
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	first := s.Started("alarm")
	s.Eventually("VMs are going off", func() bool { return s.Calls("PowerOffVM_Task") == 2 })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("the round is withdrawn", func() bool { return len(s.Under(first).Changes) == 1 })
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Until("alarm", "the second red waits for the end of the round", func(r preemptapi.Response) bool {
		return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Deferred && r.LastDecision.RoundID == first
	})
	r := s.Until("alarm", "another round is over", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.RoundID != first && r.State != preemptapi.IntakeRunning
	})
	sitetest.WantState(t, *r.Round, preemptapi.RoundCompleted, 2)
	if n := s.OffIn("cluster-a"); n != 4 || len(r.Levels) != 1 {
		t.Errorf("%d VMs are off: %s", n, sitetest.Pretty(r))
	}
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Until("alarm", "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	if n := s.OffIn("cluster-a"); n != 4 {
		t.Errorf("%d VMs are off in the end", n)
	}
	s.Keep(name, s.ID("alarm"), first)
}

// liveAdopted loses what the intake decided, as when a worker dies between the start of a round and the end of the task
// that started it; the round is over when the decision is made again.
func liveAdopted(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	first := s.Done("alarm")
	run := latestRun(s, s.ID("alarm"))
	_, err := s.Temporal.ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: s.Server.Namespace(), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: s.ID("alarm"), RunId: run},
		Reason: "its first task is lost", RequestId: name, WorkflowTaskFinishEventId: 4,
	})
	s.Must(err)
	r := s.Until("alarm", "it knows the round that it started", func(r preemptapi.Response) bool {
		return r.RunID != run && r.Round != nil && r.State != preemptapi.IntakeRunning
	})
	if r.Round.RoundID != first.RoundID || len(r.VirtualMachines) != 6 || len(r.Levels) != 1 || r.Requests != 1 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	if n := len(s.Rounds()); n != 1 {
		t.Errorf("%d rounds ran", n)
	}
	s.Keep(name, s.ID("alarm"))
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
	s := sitetest.Watched(t)
	first := s.Worker()
	timing := sitetest.QuickWatch
	timing.Lease = time.Second
	s.Watch(timing)
	s.Alarm("cluster-a", 0, "green", "red")
	s.Done(s.Exists(s.Intake("cpu", "cluster-a")))
	first.Stop()
	s.Worker()
	s.Alarm("cluster-a", 0, "red", "green")
	s.Until(s.Intake("cpu", "cluster-a"), "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.Point("both were counted", func(c watchapi.Checkpoint) bool { return c.Sent == 2 })
	state := stopped(s)
	if state.Checkpoint.Sent != 2 || state.Checkpoint.Events != 2 || len(state.Checkpoint.Levels) != 0 {
		t.Errorf("the result forgot what was done: %+v", state)
	}
	s.Keep(name, watchapi.WorkflowID(s.Queue))
}

// stopped cancels the watch and returns its result.
func stopped(s *sitetest.Site) (state watchapi.State) {
	s.T.Helper()
	id := watchapi.WorkflowID(s.Queue)
	s.Must(s.Temporal.CancelWorkflow(s.T.Context(), id, ""))
	s.Must(s.Temporal.GetWorkflow(s.T.Context(), id, "").Get(s.T.Context(), &state))
	if got := s.Status(id); got != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		s.T.Errorf("a cancelled watch ends %s", got)
	}
	return state
}

func watchPaused(t *testing.T, name string) {
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Control(true)
	s.Alarm("cluster-a", 0, "green", "red")
	s.Control(false)
	s.Done(s.Exists(s.Intake("cpu", "cluster-a")))
	s.Control(true)
	if state := stopped(s); !state.Paused || state.Checkpoint.Sent != 1 {
		t.Errorf("%+v", state)
	}
	s.Keep(name, watchapi.WorkflowID(s.Queue))
}

// watchContinued is told so often to pause that it needs another run, which forgets nothing.
func watchContinued(t *testing.T, name string) {
	s := sitetest.Watched(t)
	first := s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Alarm("cluster-a", 0, "green", "red")
	s.Done(s.Exists(s.Intake("cpu", "cluster-a")))
	s.Control(true)
	first.Stop()
	id := watchapi.WorkflowID(s.Queue)
	run := latestRun(s, id)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 550 {
				s.Must(s.Temporal.SignalWorkflow(t.Context(), id, run, watchapi.ControlSignal, watchapi.Control{Paused: true}))
			}
		})
	}
	wg.Wait()
	s.Worker()
	s.Eventually("it continues as new", func() bool { return latestRun(s, id) != run })
	s.Alarm("cluster-a", 0, "red", "green")
	s.Control(false)
	s.Until(s.Intake("cpu", "cluster-a"), "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.Point("both were counted", func(c watchapi.Checkpoint) bool { return c.Sent == 2 })
	if state := stopped(s); state.Paused || state.Checkpoint.Events != 2 || state.Checkpoint.Sent != 2 {
		t.Errorf("%+v", state)
	}
	s.KeepRun(name+"-first", id, run)
	s.Keep(name, id)
}

// latestRun is the id of a workflow's latest run.
func latestRun(s *sitetest.Site, id string) string {
	s.T.Helper()
	d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), id, "")
	if err != nil {
		s.T.Fatal(err)
	}
	return d.WorkflowExecutionInfo.GetExecution().GetRunId()
}
