package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// wantRolled checks that a workflow continued as new at least so often, as nothing else.
func (s *site) wantRolled(id, kind string, times int) {
	s.t.Helper()
	rolled := 0
	s.eventually(id+" has rolled", func() bool {
		page, err := s.c.ListWorkflow(s.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf("WorkflowId = %q AND TaskQueue = %q", id, s.queue), PageSize: 1000,
		})
		if err != nil {
			s.t.Fatal(err)
		}
		rolled = 0
		for _, e := range page.GetExecutions() {
			if got := e.GetType().GetName(); got != kind {
				s.t.Fatalf("a run of %s is of type %s", id, got)
			}
			if e.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
				rolled++
			}
		}
		return rolled >= times
	})
}

func TestTheWatchKeepsItsCheckpointAndItsPauseWhenItRolls(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t))
	s.rules = rulesOn(s.id("cpu"))
	s.worker()
	timing := quickWatch
	timing.Lease = 300 * time.Millisecond // each lease leaves its events in the history
	s.watch(timing)
	id := watchapi.WorkflowID(s.queue)
	s.alarm("cluster-a", 0, "green", "red")
	intake := s.exists(s.intake("cpu", "cluster-a"))
	s.agree(s.done(intake))
	before := s.point("the alarm is known", func(c watchapi.Checkpoint) bool { return len(c.Levels) == 1 && c.Trouble == "" })

	s.rolls(id, watchapi.WorkflowType, 3, func(int) { time.Sleep(50 * time.Millisecond) })
	after := s.point("the watch follows", func(c watchapi.Checkpoint) bool { return c.Trouble == "" && !c.Compared.IsZero() })
	if len(after.Levels) != 1 || after.Events < before.Events || after.Sent != before.Sent || after.Reached.Before(before.Reached) {
		t.Errorf("the checkpoint after the rolls: %s\nbefore: %s", pretty(after), pretty(before))
	}
	if n := len(s.rounds()); n != 1 {
		t.Errorf("the one alarm has %d rounds", n)
	}

	s.control(true)
	s.rolls(id, watchapi.WorkflowType, 2, func(int) {
		s.must(s.c.SignalWorkflow(t.Context(), id, "", watchapi.ControlSignal, watchapi.Control{Paused: true, Reason: "again"}))
		time.Sleep(20 * time.Millisecond) // a task for each
	})
	v, err := s.c.QueryWorkflow(t.Context(), id, "", watchapi.StateQuery)
	var st watchapi.State
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil || !st.Paused || st.Reason != "a test" || st.PausedAt.IsZero() || len(st.Checkpoint.Levels) != 1 {
		t.Errorf("paused, it remembers %s, %v", pretty(st), err)
	}
	s.alarm("cluster-a", 0, "red", "green")
	time.Sleep(10 * timing.Poll)
	if levels := s.state(intake).Levels; len(levels) != 1 {
		t.Errorf("the paused watch handed on: %s", pretty(levels))
	}
	s.control(false)
	s.until(intake, "the fall is handed on", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAnIntakeKeepsLevelsRoundsAndDeferralsWhenItRolls(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t), withPolicy(func(p *policy.Policy) {
		p.Cooldown, p.RepeatWhileRed = clock.Duration(time.Hour), true
		p.Criticality.Low.GracePeriod = clock.Duration(10 * time.Minute)
	}))
	for _, vm := range s.vc.TaggedVMs("cluster-b") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	s.change("alarm", "cluster-a", 0, "green", "red")
	first := s.done("alarm")
	wantState(t, first, preemptapi.RoundCompleted, 6)
	s.until("alarm", "it is repeated later", func(r preemptapi.Response) bool { return len(r.Deferred) == 1 })
	slow := s.changed("cluster-b", 0, "green", "yellow")
	slow.Request = requestOf(t, preemption.CriticalityLow)
	s.changes("alarm", slow)
	before := s.until("alarm", "a second round waits for its guests", func(r preemptapi.Response) bool {
		return r.State == preemptapi.IntakeRunning && s.vc.Calls()["ShutdownGuest"] == 6
	})

	sent := 0
	s.rolls(s.id("alarm"), preemption.WorkflowName, 3, func(i int) {
		s.changes("alarm", fmt.Sprintf("rubbish %d", i))
		sent++
		time.Sleep(10 * time.Millisecond)
	})
	after := s.until("alarm", "all is taken", func(r preemptapi.Response) bool { return r.Requests == before.Requests+sent })
	if after.RoundID != before.RoundID || after.State != preemptapi.IntakeRunning || len(after.Levels) != 2 || len(after.Deferred) != 1 ||
		!after.Deferred[0].Until.Equal(before.Deferred[0].Until) || !after.LastPreemption.Equal(before.LastPreemption) || len(after.VirtualMachines) != 6 {
		t.Errorf("after the rolls: %s\nbefore: %s", pretty(after), pretty(before))
	}
	s.change("alarm", "cluster-b", 0, "yellow", "green")
	r := s.until("alarm", "the round that was under way ends as withdrawn", func(r preemptapi.Response) bool {
		return r.State != preemptapi.IntakeRunning && r.Round != nil && r.Round.RoundID == before.RoundID
	})
	if r.Round.State != preemptapi.RoundWithdrawn || len(r.Levels) != 1 || len(s.rounds()) != 2 {
		t.Errorf("%d rounds: %s", len(s.rounds()), pretty(r))
	}
}

func TestWhatIsPendingWhenAnIntakeRollsIsTakenOnce(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t))
	const flood = 3 * rollAfter // the first task finds a history that is too long already
	for i := range flood {
		s.changes("alarm", fmt.Sprintf("rubbish %d", i))
	}
	s.change("alarm", "cluster-a", 0, "green", "red")
	s.worker()
	r := s.until("alarm", "all is taken, in its order", func(r preemptapi.Response) bool {
		return r.Requests == flood+1 && r.Round != nil && r.State != preemptapi.IntakeRunning
	})
	if r.Round.State != preemptapi.RoundCompleted || len(r.Levels) != 1 {
		t.Errorf("%s", pretty(r))
	}
	s.wantRolled(s.id("alarm"), preemption.WorkflowName, 1)
}

func TestARestoreKeepsWhoCameBackWhenItRolls(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t), restoring(func(p *policy.Policy) { p.Restore.Wave = 1 }))
	s.worker()
	s.preempted(6)
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.restored()
	s.wantRestored(r, preemptapi.RestoreCompleted, 6)
	if len(r.VMs) != 6 || s.vc.Calls()["PowerOnMultiVM_Task"] != 6 {
		t.Errorf("%d VMs in %d waves: %s", len(r.VMs), s.vc.Calls()["PowerOnMultiVM_Task"], pretty(r))
	}
	s.wantRolled(s.restoreID(), preemptapi.RestoreType, 2)
}

// floods sends so many requests to one remediation while no worker runs, and returns what was decided about them.
func (s *site) floods(n int, kind string, one func(i int) remedy.Request) []remediateapi.Decision {
	s.t.Helper()
	var id string
	var ids []string
	for i := range n {
		req := one(i)
		req.ID = fmt.Sprintf("request-%03d", i)
		ids = append(ids, req.ID)
		object := req.VM
		if object.Zero() {
			object = req.Source
		}
		id = remedy.WorkflowID(kind, object, s.queue)
		_, err := s.c.SignalWithStartWorkflow(s.t.Context(), id, remedy.Signal, req,
			client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, remedy.WorkflowType(kind))
		s.must(err)
	}
	s.worker()
	r := s.reportOf(id)
	var decided []string
	for _, d := range r.Decisions {
		decided = append(decided, d.RequestID)
	}
	if !slices.Equal(decided, ids) {
		s.t.Errorf("decided was about %v, want %v", decided, ids)
	}
	s.wantRolled(id, remedy.WorkflowType(kind), 2)
	return r.Decisions
}

// wantOnce checks that the first request was carried out, and no other.
func wantOnce(t *testing.T, all []remediateapi.Decision) {
	t.Helper()
	for i, d := range all {
		if (d.State == remediateapi.Applied) != (i == 0) || d.State == remediateapi.Failed {
			t.Errorf("request %d: %s", i, pretty(d))
		}
	}
}

func TestAResizeKeepsItsRequestsAndItsCooldownWhenItRolls(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t), oneCluster(4))
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	wantOnce(t, s.floods(20, remedy.KindResize, func(int) remedy.Request {
		return asks(remedy.KindResize, vm, func(r *remedy.Request) { r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotAdd} })
	}))
	s.wantHardware(vm, 3, 16<<10)
}

func TestAReconfigurationKeepsItsRequestsWhenItRolls(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t), oneCluster(4))
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetTags(vm, remedy.CategoryMemory, "20480"))
	s.must(s.vc.PowerOffAs(vm, "owner@example.org"))
	wantOnce(t, s.floods(20, remedy.KindReconfigure, func(int) remedy.Request { return asks(remedy.KindReconfigure, vm, nil) }))
	s.wantHardware(vm, 4, 20480)
}

func TestAMoveKeepsItsRequestsWhenItRolls(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t), oneCluster(4))
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 300, 220, 100, 30)
	wantOnce(t, s.floods(20, remedy.KindMove, func(int) remedy.Request { return asks(remedy.KindMove, ds, nil) }))
	if s.disksOn(vms[1].Ref, ds) || !s.disksOn(vms[0].Ref, ds) || !s.disksOn(vms[2].Ref, ds) || s.vc.Calls()["RelocateVM_Task"] != 1 {
		t.Errorf("%d VMs moved", s.vc.Calls()["RelocateVM_Task"])
	}
}

func TestTheReconcilerKeepsWhatItDidWhenItRolls(t *testing.T) {
	t.Parallel()
	const n = 12
	s := newSiteOn(t, rolling(t), oneCluster(n))
	for _, vm := range s.vc.TaggedVMs("") {
		s.must(s.vc.SetTags(vm.Ref, remedy.CategoryMemory, "20480"))
		s.must(s.vc.PowerOffAs(vm.Ref, "owner@example.org"))
	}
	s.worker()
	id := s.id("reconcile")
	run, err := s.c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, remediateapi.ReconcileType, remediateapi.ReconcileInput{})
	s.must(err)
	var r remediateapi.ReconcileResult
	s.must(run.Get(t.Context(), &r))
	if r.State != remediateapi.Applied || r.Looked != n || len(r.Decisions) != n || s.vc.Calls()["ReconfigVM_Task"] != n {
		t.Errorf("%d reconfigurations: %s", s.vc.Calls()["ReconfigVM_Task"], pretty(r))
	}
	for _, vm := range s.vc.TaggedVMs("") {
		s.wantHardware(vm.Ref, 4, 20480)
	}
	s.wantRolled(id, remediateapi.ReconcileType, 2)
}

// requestOf is what an alarm change asks for.
func requestOf(t *testing.T, c preemption.Criticality) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: c})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
