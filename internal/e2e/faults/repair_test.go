package faults

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/intake"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/repair"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// surgery is a site whose worker can repair, and has some workflows that are broken on purpose.
func surgery(s *sitetest.Site, broken map[string]any) {
	s.T.Helper()
	g := s.Gateway()
	a := s.Preemption(s.Temporal, g)
	w := worker.New(s.Temporal, s.Queue, worker.Options{WorkerStopTimeout: time.Second})
	health.Register(w)
	repair.Register(w, &repair.Activities{VCenter: g, Temporal: s.Temporal, Namespace: sitetest.Shared.Namespace(), TaskQueue: s.Queue, Log: s.Log})
	w.RegisterActivityWithOptions((&ledger.Activities{Client: s.Temporal}).ClosedOwners, activity.RegisterOptions{Name: "ClosedOwners"})
	w.RegisterActivityWithOptions(a.Intake.DecodeMessages, activity.RegisterOptions{Name: "DecodeMessages"})
	w.RegisterActivityWithOptions(a.Round.PlanRound, activity.RegisterOptions{Name: "PlanRound"})
	for kind, f := range map[string]any{
		ledger.WorkflowType: ledger.Ledger, preemption.WorkflowName: intake.Intake, preemptapi.RoundType: round.Round, watchapi.WorkflowType: watch.Watch,
	} {
		if broken[kind] != nil {
			f = broken[kind]
		}
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: kind})
	}
	s.Must(w.Start())
	s.T.Cleanup(w.Stop)
}

// stuck waits until doctor's look finds the workflow.
func stuck(s *sitetest.Site, id string) {
	s.T.Helper()
	l := &health.Looker{Client: s.Temporal, Namespace: sitetest.Shared.Namespace(), TaskQueue: s.Queue}
	deadline := time.Now().Add(redWithin)
	for {
		if _, stalled, err := l.LookAt(s.T.Context(), id); err == nil && stalled {
			return
		}
		if time.Now().After(deadline) {
			s.T.Fatalf("%s is never stuck", id)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// planThenPanic plans and reserves as a round does, and then dies of every task.
func planThenPanic(ctx workflow.Context, in round.Input) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute})
	plan := round.PlanInput{Demand: in.Demand, RoundID: workflow.GetInfo(ctx).WorkflowExecution.ID, Reserve: true}
	var a *round.Activities
	if err := workflow.ExecuteActivity(ctx, a.PlanRound, plan).Get(ctx, nil); err != nil {
		return err
	}
	workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
	panic("the round is broken")
}

func TestAStuckRoundIsFreedWithTheResultThatCanBeProven(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3))
	surgery(s, map[string]any{preemptapi.RoundType: planThenPanic})
	id, scope := s.ID("round"), s.Cluster("cluster-a")
	demand := preemptapi.Demand{
		RequestID: "r", Tag: "preemptible", Criticality: preemption.CriticalityHigh, Scope: scope, Policy: s.Settings.Policies["default"], PolicyName: "default",
		Event: json.RawMessage("null"),
	}
	book := ledger.Client{Temporal: s.Temporal, TaskQueue: s.Queue, Sweep: time.Hour}
	if a, err := book.Admit(t.Context(), ledger.AdmitRequest{RequestID: "r", Scope: scope.String(), Owner: id, Rank: 3}); err != nil || a.Verdict != ledger.Granted {
		t.Fatalf("%+v %v", a, err)
	}
	_, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, preemptapi.RoundType, round.Input{Demand: demand})
	s.Must(err)
	s.Eventually("the VMs are reserved", func() bool { return len(s.Ledger().Reserved) == 3 })
	// What the round would have done before it broke: one VM by our session, one by somebody else.
	vms := s.VC.TaggedVMs("cluster-a")
	g := s.Gateway()
	task, err := g.PowerOff(t.Context(), sitetest.Ref(vms[0].Ref))
	s.Must(err)
	s.Must(g.AwaitTask(t.Context(), task, nil))
	s.Must(s.VC.PowerOffAs(vms[1].Ref, `CORP\somebody`))
	s.Must(s.Temporal.SignalWorkflow(t.Context(), id, "", "go on", nil))
	stuck(s, id)

	code, out, errs := s.Typed("workflow", "repair", id, "-o", "json")
	var r health.RepairResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || r.Executed || r.Stall == nil || r.Round == nil {
		t.Fatalf("dry run: exit %d, %v\n%s%s", code, err, out, errs)
	}
	if _, annotated := s.Attribute(vms[0].Ref); annotated || s.Status(id).String() != "Running" || len(s.Ledger().Reserved) != 3 {
		t.Fatal("the dry run changed something")
	}
	code, out, errs = s.Typed("workflow", "repair", id, "--yes", "-o", "json")
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || !r.Executed {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	sitetest.WantOutcome(t, *r.Round, vms[0], action.PoweredOff)
	sitetest.WantOutcome(t, *r.Round, vms[1], action.Unattributed)
	sitetest.WantOutcome(t, *r.Round, vms[2], action.Spared, "ended by a repair")
	if !sitetest.ContainsAll(out, vms[1].Name+" (", "nothing says by whom") {
		t.Errorf("it does not say what it could not prove: %s", out)
	}
	if a, ok := s.Attribute(vms[0].Ref); !ok || !a.Preempted || a.RoundID != id {
		t.Errorf("the attribute of %s: %+v", vms[0].Name, a)
	}
	st := s.Ledger()
	if len(st.Reserved) != 0 || st.Scopes[scope.String()].Active != "" || st.Scopes[scope.String()].Until.IsZero() || len(st.Evictions) != 1 {
		t.Errorf("the ledger holds %s", sitetest.Pretty(st))
	}
	code, out, errs = s.Typed("workflow", "status", "-w", id, "-o", "json")
	var shown preemptapi.RoundResult
	if err := json.Unmarshal([]byte(out), &shown); err != nil || code != 0 || len(shown.Preempted()) != 1 {
		t.Errorf("status does not show the result: exit %d\n%s%s", code, out, errs)
	}
	if code, _, errs = s.Typed("workflow", "repair", id); code != 3 {
		t.Errorf("a second repair: exit %d %s", code, errs)
	}
}

func TestALedgerOfTheWrongTypeIsStartedAnewWithItsState(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1))
	surgery(s, nil)
	id := ledger.WorkflowID(s.Queue)
	held := ledger.State{Reserved: map[string]string{"VirtualMachine:vm-1": id}, Seen: []ledger.Seen{{RequestID: "r", Owner: "o", Time: time.Now()}}}
	_, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, watchapi.WorkflowType, ledger.Input{State: held, Sweep: time.Hour})
	s.Must(err)
	stuck(s, id)
	if code, out, errs := s.Typed("workflow", "repair", id, "--yes"); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	if st := s.Ledger(); len(st.Reserved) != 1 || len(st.Seen) != 1 {
		t.Errorf("the ledger forgot: %s", sitetest.Pretty(st))
	}
}

func TestAWedgedLedgerIsStartedAnewWithEveryUpdateThatItTook(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1))
	broken := func(ctx workflow.Context, in ledger.Input) error {
		workflow.Go(ctx, func(ctx workflow.Context) {
			workflow.GetSignalChannel(ctx, "break").Receive(ctx, nil)
			if in.Sweep == 2*time.Hour {
				panic("the ledger is broken")
			}
		})
		return ledger.Ledger(ctx, in)
	}
	surgery(s, map[string]any{ledger.WorkflowType: broken})
	id := ledger.WorkflowID(s.Queue)
	_, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, ledger.WorkflowType, ledger.Input{Sweep: 2 * time.Hour})
	s.Must(err)
	book := ledger.Client{Temporal: s.Temporal, TaskQueue: s.Queue}
	_, err = book.Admit(t.Context(), ledger.AdmitRequest{RequestID: "r", Scope: "ClusterComputeResource:c1", Owner: "o", Rank: 3})
	s.Must(err)
	_, err = book.Reserve(t.Context(), ledger.ReserveRequest{Owner: "o", VMs: []string{"VirtualMachine:vm-1"}})
	s.Must(err)
	before := s.Ledger()
	s.Must(s.Temporal.SignalWorkflow(t.Context(), id, "", "break", nil))
	stuck(s, id)
	if code, out, errs := s.Typed("workflow", "repair", id, "--yes"); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	after := s.Ledger()
	if after.Reserved["VirtualMachine:vm-1"] != "o" || after.Scopes["ClusterComputeResource:c1"].Active != "o" || len(after.Seen) != len(before.Seen) {
		t.Errorf("before\n%s\nafter\n%s", sitetest.Pretty(before), sitetest.Pretty(after))
	}
}

func TestAStuckIntakeIsStartedAnewWithWhatItHadNotDealtWith(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2))
	first := true
	surgery(s, map[string]any{preemption.WorkflowName: func(ctx workflow.Context, in intake.Input) (preemptapi.Response, error) {
		if info := workflow.GetInfo(ctx); info.WorkflowStartTime.Before(time.Now().Add(-time.Hour)) || info.ContinuedExecutionRunID == "" && info.Attempt == 1 && first && in.State.Requests == 7 {
			panic("the intake is broken")
		}
		return intake.Intake(ctx, in)
	}})
	id := s.ID("alarm")
	in := intake.Input{State: intake.State{Requests: 7}}
	_, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, preemption.WorkflowName, in)
	s.Must(err)
	for range 3 {
		s.Must(s.Temporal.SignalWorkflow(t.Context(), id, "", preemption.SignalChannel, preemption.WorkflowRequest{Tag: ""}))
	}
	stuck(s, id)
	first = false // a new version of the worker can do it
	if code, out, errs := s.Typed("workflow", "repair", id, "--yes"); code != 0 || !sitetest.ContainsAll(out, "handed it 3 message(s)") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	s.Until("alarm", "the three requests have been looked at", func(r preemptapi.Response) bool { return r.Requests == 10 && len(r.Rejections) == 3 })
}

func TestAWatchInTroubleIsStartedAnewFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1))
	reached := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	surgery(s, map[string]any{watchapi.WorkflowType: func(ctx workflow.Context, in watch.Input) (watchapi.State, error) {
		if in.State.Checkpoint.Worker == "broken" {
			panic("the watch is broken")
		}
		return watch.Watch(ctx, in)
	}})
	id := watchapi.WorkflowID(s.Queue)
	in := watch.Input{State: watchapi.State{Paused: true, Checkpoint: watchapi.Checkpoint{Worker: "broken", Reached: reached}}}
	run, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, watchapi.WorkflowType, in)
	s.Must(err)
	s.T.Cleanup(func() { _ = s.Temporal.TerminateWorkflow(context.Background(), id, "", "end") })
	stuck(s, id)
	if code, out, errs := s.Typed("workflow", "repair", id, "--yes"); code != 0 || !sitetest.ContainsAll(out, "reached 2026-01-02T03:04:05Z") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	d, err := s.Temporal.DescribeWorkflowExecution(t.Context(), id, "")
	s.Must(err)
	if now := d.GetWorkflowExecutionInfo(); now.GetExecution().GetRunId() == run.GetRunID() || now.GetType().GetName() != watchapi.WorkflowType {
		t.Errorf("it was not started anew: %s", now)
	}
}

func TestRepairRefusesWhatIsWellUnlessForced(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(1))
	surgery(s, map[string]any{preemptapi.RoundType: waits})
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"nosuch"}, 3, "no workflow nosuch"},
		{[]string{" "}, 2, "ID is empty"},
		{[]string{}, 2, "takes one workflow id"},
	} {
		if code, _, errs := s.Typed(append([]string{"workflow", "repair"}, c.args...)...); code != c.code || !sitetest.ContainsAll(errs, c.says) {
			t.Errorf("%q: exit %d, %s", c.args, code, errs)
		}
	}
	id := s.ID("well")
	_, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, preemptapi.RoundType)
	s.Must(err)
	s.T.Cleanup(func() { _ = s.Temporal.TerminateWorkflow(context.Background(), id, "", "end") })
	if code, _, errs := s.Typed("workflow", "repair", id, "--yes"); code != 4 || !sitetest.ContainsAll(errs, "it makes progress") || s.Status(id).String() != "Running" {
		t.Errorf("a healthy workflow: exit %d %s", code, errs)
	}
	if code, out, errs := s.Typed("workflow", "repair", id, "--yes", "--force"); code != 0 || s.Status(id).String() != "Terminated" {
		t.Errorf("--force: exit %d\n%s%s", code, out, errs)
	}
}
