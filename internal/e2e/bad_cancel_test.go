package e2e

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// response waits for an intake to close and returns its result.
func (s *site) response(id string) (r preemptapi.Response) {
	s.t.Helper()
	if err := s.c.GetWorkflow(s.t.Context(), s.id(id), "").Get(s.t.Context(), &r); err != nil {
		s.t.Fatalf("the intake did not complete: %v", err)
	}
	return r
}

func (s *site) cancel(id string) {
	s.t.Helper()
	if err := s.c.CancelWorkflow(s.t.Context(), s.id(id), ""); err != nil {
		s.t.Fatal(err)
	}
}

func TestACancelWhileVMsAreGoingOffFinishesTheCommittedAndSparesTheRest(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(15), withPolicy(func(p *policy.Policy) { p.MaxVMs = 15 }),
		withSettings(func(set *preempt.Settings) { set.Timing.CancelWait = 20 * time.Second }))
	s.vc.SetTaskDelay(3 * time.Second) // the committed take longer than the heartbeat timeout after the cancellation
	served := make(chan struct{})
	serve := sync.OnceFunc(func() { close(served) })
	t.Cleanup(serve) // or the simulator would wait for it for ever
	s.vc.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) { <-served })
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("power-offs are sent", func() bool { return s.calls("PowerOffVM_Task") >= 5 })
	round := s.started("alarm")
	s.cancel("alarm")
	s.eventually("the round is withdrawn", func() bool { return len(s.under(round).Changes) > 0 })
	time.Sleep(2 * time.Second) // its step is told with the next answer to a heartbeat
	serve()
	res := s.response("alarm")
	if res.Round == nil || res.WorkflowID != s.id("alarm") {
		t.Fatalf("the response holds no result: %s", pretty(res))
	}
	r := s.round(res.RoundID)
	sent := s.calls("PowerOffVM_Task")
	if sent >= 15 || sent < 5 {
		t.Fatalf("%d power-offs were sent: the cancellation came too late or too early to tell anything", sent)
	}
	wantState(t, r, preemptapi.RoundWithdrawn, sent)
	for _, o := range r.Targets {
		if !o.Outcome.Ours() && (o.Outcome != action.Spared || o.Reason != policy.Because(policy.Withdrawn)) {
			t.Errorf("%s is %s (%s)", o.Name, o.Outcome, o.Reason)
		}
	}
	if len(r.Targets) != 15 || len(res.VirtualMachines) != sent {
		t.Errorf("%d targets, %d VMs in the response", len(r.Targets), len(res.VirtualMachines))
	}
	s.wantOursExactly(r)
}

func TestACancelDuringTheGracePeriodForcesNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(4), withPolicy(func(p *policy.Policy) {
		p.Criticality.Medium.GracePeriod = clock.Duration(time.Minute)
		p.WithdrawWait, p.LateWatch = clock.Duration(3*time.Second), 0
	}))
	vms := s.vc.TaggedVMs("")
	for _, vm := range vms {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	round := s.started("alarm")
	s.reaches(round, preemptapi.RoundWaiting)
	s.cancel("alarm")
	s.must(s.guestOff(vms[0].Ref)) // within withdrawWait
	s.response("alarm")
	r := s.round(round)
	wantState(t, r, preemptapi.RoundWithdrawn, 1)
	wantOutcome(t, r, vms[0], action.ShutDown)
	for _, vm := range vms[1:] {
		wantOutcome(t, r, vm, action.Spared, string(policy.OnAtWithdraw))
	}
	if n := s.calls("PowerOffVM_Task"); n != 0 {
		t.Errorf("%d VMs were forced after the withdrawal", n)
	}
	s.wantOursExactly(r)
}

func TestACancelWhileNoWorkerLivesClaimsWhatWasSentBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(10), impatient)
	p := s.process()
	vms := s.vc.TaggedVMs("")
	slow := vms[9]
	s.vc.SetTaskDelayFor(slow.Ref, 4*time.Second) // still under way when the next worker looks
	s.vc.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == slow.Ref {
			go p.kill()
			<-time.After(30 * time.Millisecond) // the call itself is served when its sender is no more
		}
	})
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	<-p.gone
	time.Sleep(100 * time.Millisecond)
	// vCenter disables the method while the operation is under way.
	s.must(s.vc.SetDisabledMethods(slow.Ref, "PowerOffVM_Task"))
	s.cancel("alarm")
	time.Sleep(1500 * time.Millisecond) // the round's step is not under way any more
	s.worker()
	res := s.response("alarm")
	r := s.round(res.RoundID)
	s.eventually("the slow power-off ends", func() bool { return s.vc.PowerState(slow.Ref) == "poweredOff" })
	wantOutcome(t, r, slow, action.PoweredOff)
	s.wantOursExactly(r)
}

// survives checks that a round under way outlives the end of its intake.
func survives(t *testing.T, o client.StartWorkflowOptions, end func(s *site), status enums.WorkflowExecutionStatus) {
	t.Helper()
	s := newSite(t)
	s.vc.SetTaskDelay(5 * time.Second)
	s.worker()
	o.ID, o.TaskQueue = s.id("alarm"), s.queue
	_, err := s.c.SignalWithStartWorkflow(t.Context(), o.ID, preemption.SignalChannel,
		s.alarmRequest("cluster-a", preemption.CriticalityHigh), o, preemption.WorkflowName)
	if err != nil {
		t.Fatal(err)
	}
	round := s.started("alarm")
	s.eventually("power-offs are sent", func() bool { return s.calls("PowerOffVM_Task") == 6 })
	end(s)
	s.eventually("the intake has ended", func() bool { return s.status(o.ID) == status })
	if s.status(round) != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Fatal("the round had ended before its intake: nothing to see")
	}
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.wantOursExactly(r)
	for key, scope := range s.ledger().Scopes {
		if scope.Active != "" {
			t.Errorf("the ledger still holds %s for %s", key, scope.Active)
		}
	}
}

func TestARoundOutlivesItsTerminatedIntake(t *testing.T) {
	t.Parallel()
	survives(t, client.StartWorkflowOptions{}, func(s *site) {
		s.must(s.c.TerminateWorkflow(t.Context(), s.id("alarm"), "", "a client's habit"))
	}, enums.WORKFLOW_EXECUTION_STATUS_TERMINATED)
}

func TestARoundOutlivesItsIntakeThatEndsBeforeItsClientsTimeout(t *testing.T) {
	t.Parallel()
	survives(t, client.StartWorkflowOptions{WorkflowExecutionTimeout: 3 * time.Second}, func(s *site) {
		s.eventually("the intake was handed over", func() bool {
			d, err := s.c.DescribeWorkflowExecution(s.t.Context(), workflowid.Handover+s.id("alarm"), "")
			return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
		})
	}, enums.WORKFLOW_EXECUTION_STATUS_RUNNING) // its successor
}

func TestARoundThatAPersonCancelsIsNotFollowedByAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t, notice(time.Minute))
	s.worker()
	yellow := s.changed("cluster-a", 0, "green", "yellow")
	yellow.Request = json.RawMessage(`{"tag":"preemptible","criticality":"MEDIUM"}`)
	s.changes("alarm", yellow)
	round := s.started("alarm")
	s.eventually("a guest has its notice", func() bool { return s.guest(s.vc.TaggedVMs("cluster-a")[0]) != "" })
	s.change("alarm", "cluster-a", 0, "yellow", "red")
	s.eventually("the round is raised", func() bool { return s.under(round).Criticality == preemption.CriticalityHigh })
	s.must(s.c.CancelWorkflow(t.Context(), round, ""))
	wantState(t, s.done("alarm"), preemptapi.RoundWithdrawn, 0)
	time.Sleep(time.Second) // while the alarm stands
	if r := s.state("alarm"); len(r.Levels) != 1 || r.State != preemptapi.IntakeIdle || r.RoundID != round || len(r.Deferred) != 0 {
		t.Errorf("%s", pretty(r))
	}
	if n := len(s.rounds()); n != 1 {
		t.Errorf("%d rounds ran", n)
	}
}
