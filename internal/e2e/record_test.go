package e2e

import (
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// TestLivesWorthReplaying walks through the lives whose histories are replayed by internal/preempt.
func TestLivesWorthReplaying(t *testing.T) {
	for name, live := range map[string]func(*testing.T, string){
		"high": liveHigh, "medium-forced": liveForced, "cancelled": liveCancelled, "escalated": liveEscalated,
		"continued-as-new": liveContinued, "deferred": liveDeferred,
		"softened": liveSoftened, "gray": liveGray, "outlasting": liveOutlasting, "alarm-over": liveAlarmOver,
		"bundled": liveBundled, "again": liveAgain, "backlog": liveBacklog, "reserved": liveReserved, "expired": liveExpired, "adopted": liveAdopted,
		"noticed": liveNoticed, "notice-withdrawn": liveNoticeWithdrawn, "rehearsed": liveRehearsed, "replaced": liveReplaced,
		"looked-up": liveLookedUp, "looked-up-raised": liveLookedUpRaised,
		"restored": liveRestored, "restore-stopped": liveRestoreStopped, "restore-held": liveRestoreHeld,
		"in-parts": liveInParts, "clock-corrected": liveClockCorrected, "held": liveHeld, "handed-on": liveHandedOn,
		"ladder": liveLadder, "ladder-ended": liveLadderEnded, "told": liveTold,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live(t, name)
		})
	}
}

func liveHigh(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	if r.Count(action.PoweredOff) != 6 {
		t.Fatalf("%+v", r)
	}
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Until("alarm", "the alarm fell", func(p preemptapi.Response) bool { return len(p.Levels) == 0 })
	s.Keep(name, s.ID("alarm"), r.RoundID, ledger.WorkflowID(s.Queue))
}

// liveInParts is a round of more targets than one activity takes, with a notice for which many ask for more time.
func liveInParts(t *testing.T, name string) {
	c := newCrowd(t, 510, sitetest.WithPolicy(crowdPolicy))
	l := c.live(preemption.CriticalityMedium, time.Minute)
	if off := len(l.round.Preempted()); off != 510 {
		t.Fatalf("%d VMs are off: %+v", off, l.round)
	}
	c.Keep(name, l.round.RoundID)
}

// liveBacklog takes what waited for a worker, more than one answer to Temporal may hold, in several tasks.
func liveBacklog(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Backlog(700, 4<<10)
	began, err := s.Temporal.GetWorkflowHistory(t.Context(), s.ID("alarm"), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
	s.Must(err)
	s.KeepRun(name+"-1", s.ID("alarm"), began.GetWorkflowExecutionStartedEventAttributes().GetFirstExecutionRunId())
}

func liveReserved(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Worker()
	id := workflowid.Restore + s.Queue
	run, err := s.Temporal.SignalWithStartWorkflow(t.Context(), id, preemption.SignalChannel, sitetest.PersonRequest(preemption.CriticalityHigh),
		client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, preemption.WorkflowName)
	s.Must(err)
	s.Must(run.Get(t.Context(), nil))
	s.Keep(name, id)
}

// liveExpired completes with a level that stands, which its successor holds.
func liveExpired(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Worker()
	run, err := s.Temporal.SignalWithStartWorkflow(t.Context(), s.ID("alarm"), preemption.SignalChannel, s.AlarmRequest("cluster-a", preemption.CriticalityHigh),
		client.StartWorkflowOptions{ID: s.ID("alarm"), TaskQueue: s.Queue, WorkflowExecutionTimeout: 8 * time.Second}, preemption.WorkflowName)
	s.Must(err)
	s.Must(s.Temporal.GetWorkflow(t.Context(), s.ID("alarm"), run.GetRunID()).Get(t.Context(), nil))
	s.Until("alarm", "a successor holds the level", func(r preemptapi.Response) bool { return r.RunID != run.GetRunID() && len(r.Levels) == 1 })
	s.KeepRun(name+"-1", s.ID("alarm"), run.GetRunID())
	s.Keep(name+"-handover", workflowid.Handover+s.ID("alarm"))
	s.KeepRun(name+"-2", s.ID("alarm"), "")
}

func liveForced(t *testing.T, name string) {
	s := sitetest.New(t)
	vms := s.VC.TaggedVMs("cluster-a")
	s.VC.IgnoreShutdown(vms[0].Ref)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	r := s.Done("alarm")
	if r.Count(action.Forced) != 1 || r.Count(action.ShutDown) != 5 {
		t.Fatalf("%+v", r)
	}
	s.Agree(r)
	s.Keep(name, s.ID("alarm"), r.RoundID)
}

func liveCancelled(t *testing.T, name string) {
	s := sitetest.New(t)
	s.VC.SetTaskDelay(time.Second)
	s.VC.SetLatency(50 * time.Millisecond)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Until("alarm", "the round runs", func(p preemptapi.Response) bool { return p.RoundID != "" }).RoundID
	for s.VC.Calls()["PowerOffVM_Task"] == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.Temporal.CancelWorkflow(t.Context(), s.ID("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.Temporal.GetWorkflow(t.Context(), s.ID("alarm"), "").Get(t.Context(), &res); err != nil {
		t.Fatal(err)
	}
	r := s.Round(id)
	s.Agree(r)
	if len(r.Changes) == 0 || len(r.Targets) != 6 {
		t.Fatalf("%+v", r)
	}
	s.Keep(name, s.ID("alarm"), id)
}

func liveEscalated(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Minute) }))
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
	for s.VC.Calls()["ShutdownGuest"] < 6 {
		time.Sleep(5 * time.Millisecond)
	}
	s.Signal("alarm", preemption.WorkflowRequest{
		Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: s.AlarmEvent("cluster-a", 1, "green", "red"),
	})
	r := s.Done("alarm")
	if r.Count(action.Forced) != 6 || r.Criticality != preemption.CriticalityHigh {
		t.Fatalf("%+v", r)
	}
	s.Agree(r)
	s.Keep(name, s.ID("alarm"), r.RoundID)
}

func liveContinued(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Worker()
	first := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityHigh))
	s.Done("cli")
	// A cancel that finds a newer request goes on in a new run.
	run := s.State("cli").RunID
	s.Workers[0].Stop()
	if err := s.Temporal.CancelWorkflow(t.Context(), s.ID("cli"), ""); err != nil {
		t.Fatal(err)
	}
	time.Sleep(s.Settings.Policies["default"].Cooldown.D())
	s.Signal("cli", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	s.Worker()
	s.Until("cli", "the new run did it", func(p preemptapi.Response) bool {
		return p.RunID != run && p.Round != nil && p.Round.RoundID != first.RoundID && p.State != preemptapi.IntakeRunning
	})
	s.KeepRun(name+"-first", s.ID("cli"), run)
	s.Keep(name, s.ID("cli"))
}

func liveDeferred(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.Done("alarm")
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Until("alarm", "the deferred round ran", func(p preemptapi.Response) bool {
		return p.Round != nil && p.Round.RoundID != first.RoundID && p.State != preemptapi.IntakeRunning
	})
	s.Keep(name, s.ID("alarm"), ledger.WorkflowID(s.Queue))
}
