package faults

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// wantRolled checks that a workflow continued as new at least so often, as nothing else.
func wantRolled(s *sitetest.Site, id, kind string, times int) {
	s.T.Helper()
	rolled := 0
	s.Eventually(id+" has rolled", func() bool {
		page, err := s.Temporal.ListWorkflow(s.T.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf("WorkflowId = %q AND TaskQueue = %q", id, s.Queue), PageSize: 1000,
		})
		if err != nil {
			s.T.Fatal(err)
		}
		rolled = 0
		for _, e := range page.GetExecutions() {
			if got := e.GetType().GetName(); got != kind {
				s.T.Fatalf("a run of %s is of type %s", id, got)
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
	s := sitetest.NewOn(t, sitetest.Rolling(t))
	s.Rules = sitetest.RulesOn(s.ID("cpu"))
	s.Worker()
	timing := sitetest.QuickWatch
	timing.Lease = 300 * time.Millisecond // each lease leaves its events in the history
	s.Watch(timing)
	id := watchapi.WorkflowID(s.Queue)
	s.Alarm("cluster-a", 0, "green", "red")
	intake := s.Exists(s.Intake("cpu", "cluster-a"))
	s.Agree(s.Done(intake))
	before := s.Point("the alarm is known", func(c watchapi.Checkpoint) bool { return len(c.Levels) == 1 && c.Trouble == "" })

	rolls(s, id, watchapi.WorkflowType, 3, func(int) { time.Sleep(50 * time.Millisecond) })
	after := s.Point("the watch follows", func(c watchapi.Checkpoint) bool { return c.Trouble == "" && !c.Compared.IsZero() })
	if len(after.Levels) != 1 || after.Events < before.Events || after.Sent != before.Sent || after.Reached.Before(before.Reached) {
		t.Errorf("the checkpoint after the rolls: %s\nbefore: %s", sitetest.Pretty(after), sitetest.Pretty(before))
	}
	if n := len(s.Rounds()); n != 1 {
		t.Errorf("the one alarm has %d rounds", n)
	}

	s.Control(true)
	rolls(s, id, watchapi.WorkflowType, 2, func(int) {
		s.Must(s.Temporal.SignalWorkflow(t.Context(), id, "", watchapi.ControlSignal, watchapi.Control{Paused: true, Reason: "again"}))
		time.Sleep(20 * time.Millisecond) // a task for each
	})
	v, err := s.Temporal.QueryWorkflow(t.Context(), id, "", watchapi.StateQuery)
	var st watchapi.State
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil || !st.Paused || st.Reason != "a test" || st.PausedAt.IsZero() || len(st.Checkpoint.Levels) != 1 {
		t.Errorf("paused, it remembers %s, %v", sitetest.Pretty(st), err)
	}
	s.Alarm("cluster-a", 0, "red", "green")
	time.Sleep(10 * timing.Poll)
	if levels := s.State(intake).Levels; len(levels) != 1 {
		t.Errorf("the paused watch handed on: %s", sitetest.Pretty(levels))
	}
	s.Control(false)
	s.Until(intake, "the fall is handed on", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAnIntakeKeepsLevelsRoundsAndDeferralsWhenItRolls(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Cooldown, p.RepeatWhileRed = clock.Duration(time.Hour), true
		p.Criticality.Low.GracePeriod = clock.Duration(10 * time.Minute)
	}))
	for _, vm := range s.VC.TaggedVMs("cluster-b") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	first := s.Done("alarm")
	sitetest.WantState(t, first, preemptapi.RoundCompleted, 6)
	s.Until("alarm", "it is repeated later", func(r preemptapi.Response) bool { return len(r.Deferred) == 1 })
	slow := s.Changed("cluster-b", 0, "green", "yellow")
	slow.Request = requestOf(t, preemption.CriticalityLow)
	s.Changes("alarm", slow)
	before := s.Until("alarm", "a second round waits for its guests", func(r preemptapi.Response) bool {
		return r.State == preemptapi.IntakeRunning && s.VC.Calls()["ShutdownGuest"] == 6
	})

	sent := 0
	rolls(s, s.ID("alarm"), preemption.WorkflowName, 3, func(i int) {
		s.Changes("alarm", fmt.Sprintf("rubbish %d", i))
		sent++
		time.Sleep(10 * time.Millisecond)
	})
	after := s.Until("alarm", "all is taken", func(r preemptapi.Response) bool { return r.Requests == before.Requests+sent })
	if after.RoundID != before.RoundID || after.State != preemptapi.IntakeRunning || len(after.Levels) != 2 || len(after.Deferred) != 1 ||
		!after.Deferred[0].Until.Equal(before.Deferred[0].Until) || !after.LastPreemption.Equal(before.LastPreemption) || len(after.VirtualMachines) != 6 {
		t.Errorf("after the rolls: %s\nbefore: %s", sitetest.Pretty(after), sitetest.Pretty(before))
	}
	s.Change("alarm", "cluster-b", 0, "yellow", "green")
	r := s.Until("alarm", "the round that was under way ends as withdrawn", func(r preemptapi.Response) bool {
		return r.State != preemptapi.IntakeRunning && r.Round != nil && r.Round.RoundID == before.RoundID
	})
	if r.Round.State != preemptapi.RoundWithdrawn || len(r.Levels) != 1 || len(s.Rounds()) != 2 {
		t.Errorf("%d rounds: %s", len(s.Rounds()), sitetest.Pretty(r))
	}
}

func TestWhatIsPendingWhenAnIntakeRollsIsTakenOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t))
	const flood = 3 * sitetest.RollAfter // the first task finds a history that is too long already
	for i := range flood {
		s.Changes("alarm", fmt.Sprintf("rubbish %d", i))
	}
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Worker()
	r := s.Until("alarm", "all is taken, in its order", func(r preemptapi.Response) bool {
		return r.Requests == flood+1 && r.Round != nil && r.State != preemptapi.IntakeRunning
	})
	if r.Round.State != preemptapi.RoundCompleted || len(r.Levels) != 1 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	wantRolled(s, s.ID("alarm"), preemption.WorkflowName, 1)
}

func TestARestoreKeepsWhoCameBackWhenItRolls(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t), sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Wave = 1 }))
	s.Worker()
	s.Preempted(6)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	r := s.Restored()
	s.WantRestored(r, preemptapi.RestoreCompleted, 6)
	if len(r.VMs) != 6 || s.VC.Calls()["PowerOnMultiVM_Task"] != 6 {
		t.Errorf("%d VMs in %d waves: %s", len(r.VMs), s.VC.Calls()["PowerOnMultiVM_Task"], sitetest.Pretty(r))
	}
	wantRolled(s, s.RestoreID(), preemptapi.RestoreType, 2)
}

// floods sends so many requests to one remediation while no worker runs, and returns what was decided about them.
func floods(s *sitetest.Site, n int, kind string, one func(i int) placement.Request) []remediateapi.Decision {
	s.T.Helper()
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
		id = placement.WorkflowID(kind, object, s.Queue)
		_, err := s.Temporal.SignalWithStartWorkflow(s.T.Context(), id, placement.Signal, req,
			client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, placement.WorkflowType(kind))
		s.Must(err)
	}
	s.Worker()
	r := s.ReportOf(id)
	var decided []string
	for _, d := range r.Decisions {
		decided = append(decided, d.RequestID)
	}
	if !slices.Equal(decided, ids) {
		s.T.Errorf("decided was about %v, want %v", decided, ids)
	}
	wantRolled(s, id, placement.WorkflowType(kind), 2)
	return r.Decisions
}

// wantOnce checks that the first request was carried out, and no other.
func wantOnce(t *testing.T, all []remediateapi.Decision) {
	t.Helper()
	for i, d := range all {
		if (d.State == remediateapi.Applied) != (i == 0) || d.State == remediateapi.Failed {
			t.Errorf("request %d: %s", i, sitetest.Pretty(d))
		}
	}
}

func TestAResizeKeepsItsRequestsAndItsCooldownWhenItRolls(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t), sitetest.OneCluster(4))
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	wantOnce(t, floods(s, 20, placement.KindResize, func(int) placement.Request {
		return sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
			r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
		})
	}))
	s.WantHardware(vm, 3, 16<<10)
}

func TestAReconfigurationKeepsItsRequestsWhenItRolls(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t), sitetest.OneCluster(4))
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetTags(vm, placement.CategoryMemory, "20480"))
	s.Must(s.VC.PowerOffAs(vm, "owner@example.org"))
	wantOnce(t, floods(s, 20, placement.KindReconfigure, func(int) placement.Request { return sitetest.RemedyRequest(placement.KindReconfigure, vm, nil) }))
	s.WantHardware(vm, 4, 20480)
}

func TestAMoveKeepsItsRequestsWhenItRolls(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t), sitetest.OneCluster(4))
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 300, 220, 100, 30)
	wantOnce(t, floods(s, 20, placement.KindMove, func(int) placement.Request { return sitetest.RemedyRequest(placement.KindMove, ds, nil) }))
	if s.DisksOn(vms[1].Ref, ds) || !s.DisksOn(vms[0].Ref, ds) || !s.DisksOn(vms[2].Ref, ds) || s.VC.Calls()["RelocateVM_Task"] != 1 {
		t.Errorf("%d VMs moved", s.VC.Calls()["RelocateVM_Task"])
	}
}

func TestTheReconcilerKeepsWhatItDidWhenItRolls(t *testing.T) {
	t.Parallel()
	const n = 12
	s := sitetest.NewOn(t, sitetest.Rolling(t), sitetest.OneCluster(n))
	for _, vm := range s.VC.TaggedVMs("") {
		s.Must(s.VC.SetTags(vm.Ref, placement.CategoryMemory, "20480"))
		s.Must(s.VC.PowerOffAs(vm.Ref, "owner@example.org"))
	}
	s.Worker()
	id := s.ID("reconcile")
	run, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, remediateapi.ReconcileType, remediateapi.ReconcileInput{})
	s.Must(err)
	var r remediateapi.ReconcileResult
	s.Must(run.Get(t.Context(), &r))
	if r.State != remediateapi.Applied || r.Looked != n || len(r.Decisions) != n || s.VC.Calls()["ReconfigVM_Task"] != n {
		t.Errorf("%d reconfigurations: %s", s.VC.Calls()["ReconfigVM_Task"], sitetest.Pretty(r))
	}
	for _, vm := range s.VC.TaggedVMs("") {
		s.WantHardware(vm.Ref, 4, 20480)
	}
	wantRolled(s, id, remediateapi.ReconcileType, 2)
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
