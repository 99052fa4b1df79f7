package faults

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

var (
	transient = &types.GenericVmConfigFault{Reason: "try again"}
	noRights  = &types.NoPermission{PrivilegeId: "VirtualMachine.Interact.PowerOff"}
)

func TestAPowerOffCallThatFaultsOnceIsRepeated(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.FailCall("PowerOffVM_Task", &vm.Ref, transient, 1)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if n := s.Calls("PowerOffVM_Task"); n != 7 {
		t.Errorf("%d power-offs were sent, want one repeated: 7", n)
	}
	s.Agree(r)
}

func TestAPowerOffCallWithoutPermissionFailsThatVMAndNamesThePrivilege(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.FailCall("PowerOffVM_Task", &vm.Ref, noRights, -1)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundPartial, 5)
	sitetest.WantOutcome(t, r, vm, action.Failed, vm.Name, "VirtualMachine.Interact.PowerOff")
	if n := s.Calls("PowerOffVM_Task"); n != 6 {
		t.Errorf("%d power-offs were sent, want 6: a missing privilege does not appear by asking again", n)
	}
	if s.Status(r.RoundID) != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		t.Errorf("a partial round is %s", s.Status(r.RoundID))
	}
	s.Agree(r)
}

func TestAPowerOffTaskThatFailsTwiceIsRepeated(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.FailTask(vm.Ref, transient, 2)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
}

func TestAPowerOffTaskThatFailsForEverFailsThatVMAlone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.FailTask(vm.Ref, transient, -1)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundPartial, 5)
	sitetest.WantOutcome(t, r, vm, action.Failed, vm.Name)
	if n := s.Calls("PowerOffVM_Task"); n != 8 {
		t.Errorf("%d power-offs were sent, want 3 attempts on the one VM: 8", n)
	}
	s.Agree(r)
}

func TestASlowTaskThatFailsIsGivenUpAfterThreeAttempts(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.StalePlan = 2 * time.Second }))
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.SetTaskDelayFor(vm.Ref, 2200*time.Millisecond) // each attempt outlives the plan's freshness
	s.VC.FailTask(vm.Ref, transient, -1)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundPartial, 5)
	sitetest.WantOutcome(t, r, vm, action.Failed, vm.Name)
	if n := s.Calls("PowerOffVM_Task"); n != 8 {
		t.Errorf("%d power-offs were sent, want 3 attempts on the one VM: 8", n)
	}
	s.WantOursExactly(r)
}

func TestAPowerOffThatTakesLongIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.SetTaskDelayFor(vm.Ref, 3*time.Second) // longer than the heartbeat timeout
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	round := s.Started("alarm")
	s.Eventually("the quick ones are annotated", func() bool {
		_, ok := s.Attribute(s.VC.TaggedVMs("cluster-a")[0].Ref)
		return ok
	})
	if _, ok := s.Attribute(vm.Ref); ok {
		t.Error("a VM that is still on is annotated")
	}
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if n := s.Calls("PowerOffVM_Task"); n != 6 {
		t.Errorf("%d power-offs were sent, want 6", n)
	}
	s.Agree(r)
}

func TestAPowerOffBeyondItsTimeoutFailsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(sitetest.HalfASecond) }))
	vm := s.VC.TaggedVMs("cluster-a")[1]
	s.VC.SetTaskDelayFor(vm.Ref, 10*time.Second)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundPartial, 5)
	sitetest.WantOutcome(t, r, vm, action.Failed, "500ms", "task")
	if n := s.Calls("PowerOffVM_Task"); n != 6 {
		t.Errorf("%d power-offs were sent, want 6: the first may still be at work", n)
	}
	s.Agree(r)
}

func TestWhenAllVMsFailTheRoundFailsInResultStatusAndWorkflow(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.VC.FailCall("PowerOffVM_Task", nil, noRights, -1)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	res := s.Until("alarm", "the failure shows", func(r preemptapi.Response) bool { return r.State == preemptapi.IntakeFailed })
	if res.Failure == "" || res.Round == nil || res.Round.State != preemptapi.RoundFailed || len(res.VirtualMachines) != 0 {
		t.Errorf("the status: %s", sitetest.Pretty(res))
	}
	r := s.Round(res.RoundID)
	sitetest.WantState(t, r, preemptapi.RoundFailed, 0)
	if r.Count(action.Failed) != 6 {
		t.Errorf("want 6 failed: %s", sitetest.Pretty(r))
	}
	if got := s.Status(res.RoundID); got != enums.WORKFLOW_EXECUTION_STATUS_FAILED {
		t.Errorf("the round workflow is %s", got)
	}
	s.Agree(r)
}

func TestAnnotationsThatFailTransientlyAreRepeated(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	for i, vm := range s.VC.TaggedVMs("cluster-a") {
		if i%2 == 0 {
			s.VC.FailCall("SetField", &vm.Ref, transient, 2)
		}
	}
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.WantOursExactly(r)
}

func TestAnnotationsThatFailForEverAreReported(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vms := s.VC.TaggedVMs("cluster-a")
	denied := &types.NoPermission{PrivilegeId: "Global.SetCustomField"}
	for i, vm := range vms {
		if i%2 == 0 {
			s.VC.FailCall("SetField", &vm.Ref, denied, -1)
		}
	}
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	if len(r.Preempted()) != 6 {
		t.Fatalf("want 6 preempted: %s", sitetest.Pretty(r))
	}
	for i, vm := range vms {
		o := sitetest.OutcomeOf(t, r, vm)
		if bad := i%2 == 0; o.Annotated == bad || bad != sitetest.ContainsAll(o.AnnotationError, vm.Name, "Global.SetCustomField") {
			t.Errorf("%s: annotated=%v, error %q", vm.Name, o.Annotated, o.AnnotationError)
		}
	}
	if !sitetest.ContainsAll(r.Reason, "3", "annotated") {
		t.Errorf("the result's reason does not tell of it: %q", r.Reason)
	}
	s.Agree(r)
}
