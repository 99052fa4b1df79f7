package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// record makes this test binary record histories of real runs into a folder instead of only testing:
// go test ./internal/e2e -run TestLivesWorthReplaying -record=$PWD/internal/preempt/testdata/histories/<date>
var record = flag.String("record", "", "folder to record workflow histories into")

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
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live(t, name)
		})
	}
}

func liveHigh(t *testing.T, name string) {
	s := newSite(t)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	if r.Count(action.PoweredOff) != 6 {
		t.Fatalf("%+v", r)
	}
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.until("alarm", "the alarm fell", func(p preemptapi.Response) bool { return len(p.Levels) == 0 })
	s.keep(name, s.id("alarm"), r.RoundID, ledger.WorkflowID(s.queue))
}

// liveInParts is a round of more targets than one activity takes, with a notice for which many ask for more time.
func liveInParts(t *testing.T, name string) {
	c := newCrowd(t, 510, withPolicy(crowdPolicy))
	l := c.live(preemption.CriticalityMedium, time.Minute)
	if off := len(l.round.Preempted()); off != 510 {
		t.Fatalf("%d VMs are off: %+v", off, l.round)
	}
	c.keep(name, l.round.RoundID)
}

// liveBacklog takes what waited for a worker, more than one answer to Temporal may hold, in several tasks.
func liveBacklog(t *testing.T, name string) {
	s := newSite(t)
	s.backlog(700, 4<<10)
	began, err := s.c.GetWorkflowHistory(t.Context(), s.id("alarm"), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
	s.must(err)
	s.keepRun(name+"-1", s.id("alarm"), began.GetWorkflowExecutionStartedEventAttributes().GetFirstExecutionRunId())
}

func liveReserved(t *testing.T, name string) {
	s := newSite(t)
	s.worker()
	id := workflowid.Restore + s.queue
	run, err := s.c.SignalWithStartWorkflow(t.Context(), id, preemption.SignalChannel, person(preemption.CriticalityHigh),
		client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, preemption.WorkflowName)
	s.must(err)
	s.must(run.Get(t.Context(), nil))
	s.keep(name, id)
}

// liveExpired completes with a level that stands, which its successor holds.
func liveExpired(t *testing.T, name string) {
	s := newSite(t)
	s.worker()
	run, err := s.c.SignalWithStartWorkflow(t.Context(), s.id("alarm"), preemption.SignalChannel, s.alarmRequest("cluster-a", preemption.CriticalityHigh),
		client.StartWorkflowOptions{ID: s.id("alarm"), TaskQueue: s.queue, WorkflowExecutionTimeout: 8 * time.Second}, preemption.WorkflowName)
	s.must(err)
	s.must(s.c.GetWorkflow(t.Context(), s.id("alarm"), run.GetRunID()).Get(t.Context(), nil))
	s.until("alarm", "a successor holds the level", func(r preemptapi.Response) bool { return r.RunID != run.GetRunID() && len(r.Levels) == 1 })
	s.keepRun(name+"-1", s.id("alarm"), run.GetRunID())
	s.keep(name+"-handover", workflowid.Handover+s.id("alarm"))
	s.keepRun(name+"-2", s.id("alarm"), "")
}

func liveForced(t *testing.T, name string) {
	s := newSite(t)
	vms := s.vc.TaggedVMs("cluster-a")
	s.vc.IgnoreShutdown(vms[0].Ref)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	r := s.done("alarm")
	if r.Count(action.Forced) != 1 || r.Count(action.ShutDown) != 5 {
		t.Fatalf("%+v", r)
	}
	s.agree(r)
	s.keep(name, s.id("alarm"), r.RoundID)
}

func liveCancelled(t *testing.T, name string) {
	s := newSite(t)
	s.vc.SetTaskDelay(time.Second)
	s.vc.SetLatency(50 * time.Millisecond)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.until("alarm", "the round runs", func(p preemptapi.Response) bool { return p.RoundID != "" }).RoundID
	for s.vc.Calls()["PowerOffVM_Task"] == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.c.CancelWorkflow(t.Context(), s.id("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.c.GetWorkflow(t.Context(), s.id("alarm"), "").Get(t.Context(), &res); err != nil {
		t.Fatal(err)
	}
	r := s.round(id)
	s.agree(r)
	if len(r.Changes) == 0 || len(r.Targets) != 6 {
		t.Fatalf("%+v", r)
	}
	s.keep(name, s.id("alarm"), id)
}

func liveEscalated(t *testing.T, name string) {
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Minute) }))
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityLow))
	for s.vc.Calls()["ShutdownGuest"] < 6 {
		time.Sleep(5 * time.Millisecond)
	}
	s.signal("alarm", preemption.WorkflowRequest{
		Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: s.alarmEvent("cluster-a", 1, "green", "red"),
	})
	r := s.done("alarm")
	if r.Count(action.Forced) != 6 || r.Criticality != preemption.CriticalityHigh {
		t.Fatalf("%+v", r)
	}
	s.agree(r)
	s.keep(name, s.id("alarm"), r.RoundID)
}

func liveContinued(t *testing.T, name string) {
	s := newSite(t)
	s.worker()
	first := s.ask("cli", person(preemption.CriticalityHigh))
	s.done("cli")
	// A cancel that finds a newer request goes on in a new run.
	run := s.state("cli").RunID
	s.workers[0].stop()
	if err := s.c.CancelWorkflow(t.Context(), s.id("cli"), ""); err != nil {
		t.Fatal(err)
	}
	time.Sleep(s.set.Policies["default"].Cooldown.D())
	s.signal("cli", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	s.worker()
	s.until("cli", "the new run did it", func(p preemptapi.Response) bool {
		return p.RunID != run && p.Round != nil && p.Round.RoundID != first.RoundID && p.State != preemptapi.IntakeRunning
	})
	s.keepRun(name+"-first", s.id("cli"), run)
	s.keep(name, s.id("cli"))
}

func liveDeferred(t *testing.T, name string) {
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.done("alarm")
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.until("alarm", "the deferred round ran", func(p preemptapi.Response) bool {
		return p.Round != nil && p.Round.RoundID != first.RoundID && p.State != preemptapi.IntakeRunning
	})
	s.keep(name, s.id("alarm"), ledger.WorkflowID(s.queue))
}

// keep records the histories of the latest runs of some workflows, if asked to.
func (s *site) keep(name string, ids ...string) {
	s.t.Helper()
	for i, id := range ids {
		s.keepRun(fmt.Sprintf("%s-%d", name, i+1), id, "")
	}
}

func (s *site) keepRun(name, id, run string) {
	s.t.Helper()
	if *record == "" {
		return
	}
	var h history.History
	it := s.c.GetWorkflowHistory(context.Background(), id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	b, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&h)
	if err == nil {
		err = os.MkdirAll(*record, 0o755)
	}
	path := filepath.Join(*record, name+".json")
	if len(b) > 1<<20 && err == nil {
		path += ".gz"
		b, err = packed(b)
	}
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func packed(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}
