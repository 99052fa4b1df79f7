package faults

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// response waits for an intake to close and returns its result.
func response(s *sitetest.Site, id string) (r preemptapi.Response) {
	s.T.Helper()
	if err := s.Temporal.GetWorkflow(s.T.Context(), s.ID(id), "").Get(s.T.Context(), &r); err != nil {
		s.T.Fatalf("the intake did not complete: %v", err)
	}
	return r
}

func cancel(s *sitetest.Site, id string) {
	s.T.Helper()
	if err := s.Temporal.CancelWorkflow(s.T.Context(), s.ID(id), ""); err != nil {
		s.T.Fatal(err)
	}
}

func TestACancelWhileVMsAreGoingOffFinishesTheCommittedAndSparesTheRest(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(15), sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 15 }),
		sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.CancelWait = 20 * time.Second }))
	s.VC.SetTaskDelay(3 * time.Second) // the committed take longer than the heartbeat timeout after the cancellation
	served := make(chan struct{})
	serve := sync.OnceFunc(func() { close(served) })
	t.Cleanup(serve) // or the simulator would wait for it for ever
	s.VC.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) { <-served })
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("power-offs are sent", func() bool { return s.Calls("PowerOffVM_Task") >= 5 })
	round := s.Started("alarm")
	cancel(s, "alarm")
	s.Eventually("the round is withdrawn", func() bool { return len(s.Under(round).Changes) > 0 })
	time.Sleep(2 * time.Second) // its step is told with the next answer to a heartbeat
	serve()
	res := response(s, "alarm")
	if res.Round == nil || res.WorkflowID != s.ID("alarm") {
		t.Fatalf("the response holds no result: %s", sitetest.Pretty(res))
	}
	r := s.Round(res.RoundID)
	sent := s.Calls("PowerOffVM_Task")
	if sent >= 15 || sent < 5 {
		t.Fatalf("%d power-offs were sent: the cancellation came too late or too early to tell anything", sent)
	}
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, sent)
	for _, o := range r.Targets {
		if !o.Outcome.Ours() && (o.Outcome != action.Spared || o.Reason != policy.Because(policy.Withdrawn)) {
			t.Errorf("%s is %s (%s)", o.Name, o.Outcome, o.Reason)
		}
	}
	if len(r.Targets) != 15 || len(res.VirtualMachines) != sent {
		t.Errorf("%d targets, %d VMs in the response", len(r.Targets), len(res.VirtualMachines))
	}
	s.WantOursExactly(r)
}

func TestACancelDuringTheGracePeriodForcesNobody(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(4), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute)
		p.WithdrawWait, p.LateWatch = clock.Duration(3*time.Second), 0
	}))
	vms := s.VC.TaggedVMs("")
	for _, vm := range vms {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	cancel(s, "alarm")
	s.Must(s.GuestOff(vms[0].Ref)) // within withdrawWait
	response(s, "alarm")
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 1)
	sitetest.WantOutcome(t, r, vms[0], action.ShutDown)
	for _, vm := range vms[1:] {
		sitetest.WantOutcome(t, r, vm, action.Spared, string(policy.OnAtWithdraw))
	}
	if n := s.Calls("PowerOffVM_Task"); n != 0 {
		t.Errorf("%d VMs were forced after the withdrawal", n)
	}
	s.WantOursExactly(r)
}

func TestACancelWhileNoWorkerLivesClaimsWhatWasSentBefore(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(10), sitetest.Impatient)
	p := s.Process()
	vms := s.VC.TaggedVMs("")
	slow := vms[9]
	s.VC.SetTaskDelayFor(slow.Ref, 4*time.Second) // still under way when the next worker looks
	s.VC.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == slow.Ref {
			go p.Kill()
			<-time.After(30 * time.Millisecond) // the call itself is served when its sender is no more
		}
	})
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	<-p.Gone
	time.Sleep(100 * time.Millisecond)
	// vCenter disables the method while the operation is under way.
	s.Must(s.VC.SetDisabledMethods(slow.Ref, "PowerOffVM_Task"))
	cancel(s, "alarm")
	time.Sleep(1500 * time.Millisecond) // the round's step is not under way any more
	s.Worker()
	res := response(s, "alarm")
	r := s.Round(res.RoundID)
	s.Eventually("the slow power-off ends", func() bool { return s.VC.PowerState(slow.Ref) == "poweredOff" })
	sitetest.WantOutcome(t, r, slow, action.PoweredOff)
	s.WantOursExactly(r)
}

// survives checks that a round under way outlives the end of its intake.
func survives(t *testing.T, o client.StartWorkflowOptions, end func(s *sitetest.Site), status enums.WorkflowExecutionStatus) {
	t.Helper()
	s := sitetest.New(t)
	s.VC.SetTaskDelay(5 * time.Second)
	s.Worker()
	o.ID, o.TaskQueue = s.ID("alarm"), s.Queue
	_, err := s.Temporal.SignalWithStartWorkflow(t.Context(), o.ID, preemption.SignalChannel,
		s.AlarmRequest("cluster-a", preemption.CriticalityHigh), o, preemption.WorkflowName)
	if err != nil {
		t.Fatal(err)
	}
	round := s.Started("alarm")
	s.Eventually("power-offs are sent", func() bool { return s.Calls("PowerOffVM_Task") == 6 })
	end(s)
	s.Eventually("the intake has ended", func() bool { return s.Status(o.ID) == status })
	if s.Status(round) != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Fatal("the round had ended before its intake: nothing to see")
	}
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.WantOursExactly(r)
	for key, scope := range s.Ledger().Scopes {
		if scope.Active != "" {
			t.Errorf("the ledger still holds %s for %s", key, scope.Active)
		}
	}
}

func TestARoundOutlivesItsTerminatedIntake(t *testing.T) {
	t.Parallel()
	survives(t, client.StartWorkflowOptions{}, func(s *sitetest.Site) {
		s.Must(s.Temporal.TerminateWorkflow(t.Context(), s.ID("alarm"), "", "a client's habit"))
	}, enums.WORKFLOW_EXECUTION_STATUS_TERMINATED)
}

func TestARoundOutlivesItsIntakeThatEndsBeforeItsClientsTimeout(t *testing.T) {
	t.Parallel()
	survives(t, client.StartWorkflowOptions{WorkflowExecutionTimeout: 3 * time.Second}, func(s *sitetest.Site) {
		s.Eventually("the intake was handed over", func() bool {
			d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), workflowid.Handover+s.ID("alarm"), "")
			return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
		})
	}, enums.WORKFLOW_EXECUTION_STATUS_RUNNING) // its successor
}

func TestARoundThatAPersonCancelsIsNotFollowedByAnother(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithNotice(time.Minute))
	s.Worker()
	yellow := s.Changed("cluster-a", 0, "green", "yellow")
	yellow.Request = json.RawMessage(`{"tag":"preemptible","criticality":"MEDIUM"}`)
	s.Changes("alarm", yellow)
	round := s.Started("alarm")
	s.Eventually("a guest has its notice", func() bool { return s.Guest(s.VC.TaggedVMs("cluster-a")[0]) != "" })
	s.Change("alarm", "cluster-a", 0, "yellow", "red")
	s.Eventually("the round is raised", func() bool { return s.Under(round).Criticality == preemption.CriticalityHigh })
	s.Must(s.Temporal.CancelWorkflow(t.Context(), round, ""))
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundWithdrawn, 0)
	time.Sleep(time.Second) // while the alarm stands
	if r := s.State("alarm"); len(r.Levels) != 1 || r.State != preemptapi.IntakeIdle || r.RoundID != round || len(r.Deferred) != 0 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	if n := len(s.Rounds()); n != 1 {
		t.Errorf("%d rounds ran", n)
	}
}
