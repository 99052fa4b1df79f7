package e2e

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

const time500 = 500 * time.Millisecond

// later runs fn after d, unless the test is over by then.
func later(d time.Duration, fn func()) { time.AfterFunc(d, fn) }

var (
	transient = &types.GenericVmConfigFault{Reason: "try again"}
	noRights  = &types.NoPermission{PrivilegeId: "VirtualMachine.Interact.PowerOff"}
)

func TestAPowerOffCallThatFaultsOnceIsRepeated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.FailCall("PowerOffVM_Task", &vm.Ref, transient, 1)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	if n := s.calls("PowerOffVM_Task"); n != 7 {
		t.Errorf("%d power-offs were sent, want one repeated: 7", n)
	}
	s.agree(r)
}

func TestAPowerOffCallWithoutPermissionFailsThatVMAndNamesThePrivilege(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.FailCall("PowerOffVM_Task", &vm.Ref, noRights, -1)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundPartial, 5)
	wantOutcome(t, r, vm, action.Failed, vm.Name, "VirtualMachine.Interact.PowerOff")
	if n := s.calls("PowerOffVM_Task"); n != 6 {
		t.Errorf("%d power-offs were sent, want 6: a missing privilege does not appear by asking again", n)
	}
	if s.status(r.RoundID) != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		t.Errorf("a partial round is %s", s.status(r.RoundID))
	}
	s.agree(r)
}

func TestAPowerOffTaskThatFailsTwiceIsRepeated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.FailTask(vm.Ref, transient, 2)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
}

func TestAPowerOffTaskThatFailsForEverFailsThatVMAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.FailTask(vm.Ref, transient, -1)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundPartial, 5)
	wantOutcome(t, r, vm, action.Failed, vm.Name)
	if n := s.calls("PowerOffVM_Task"); n != 8 {
		t.Errorf("%d power-offs were sent, want 3 attempts on the one VM: 8", n)
	}
	s.agree(r)
}

func TestASlowTaskThatFailsIsGivenUpAfterThreeAttempts(t *testing.T) {
	t.Parallel()
	s := newSite(t, withSettings(func(set *preempt.Settings) { set.Timing.StalePlan = 2 * time.Second }))
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.SetTaskDelayFor(vm.Ref, 2200*time.Millisecond) // each attempt outlives the plan's freshness
	s.vc.FailTask(vm.Ref, transient, -1)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundPartial, 5)
	wantOutcome(t, r, vm, action.Failed, vm.Name)
	if n := s.calls("PowerOffVM_Task"); n != 8 {
		t.Errorf("%d power-offs were sent, want 3 attempts on the one VM: 8", n)
	}
	s.wantOursExactly(r)
}

func TestAPowerOffThatTakesLongIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.SetTaskDelayFor(vm.Ref, 3*time.Second) // longer than the heartbeat timeout
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	round := s.started("alarm")
	s.eventually("the quick ones are annotated", func() bool {
		_, ok := s.attribute(s.vc.TaggedVMs("cluster-a")[0].Ref)
		return ok
	})
	if _, ok := s.attribute(vm.Ref); ok {
		t.Error("a VM that is still on is annotated")
	}
	r := s.round(round)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	if n := s.calls("PowerOffVM_Task"); n != 6 {
		t.Errorf("%d power-offs were sent, want 6", n)
	}
	s.agree(r)
}

func TestAPowerOffBeyondItsTimeoutFailsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(time500) }))
	vm := s.vc.TaggedVMs("cluster-a")[1]
	s.vc.SetTaskDelayFor(vm.Ref, 10*time.Second)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundPartial, 5)
	wantOutcome(t, r, vm, action.Failed, "500ms", "task")
	if n := s.calls("PowerOffVM_Task"); n != 6 {
		t.Errorf("%d power-offs were sent, want 6: the first may still be at work", n)
	}
	s.agree(r)
}

func TestWhenAllVMsFailTheRoundFailsInResultStatusAndWorkflow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.vc.FailCall("PowerOffVM_Task", nil, noRights, -1)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	res := s.until("alarm", "the failure shows", func(r preemptapi.Response) bool { return r.State == preemptapi.IntakeFailed })
	if res.Failure == "" || res.Round == nil || res.Round.State != preemptapi.RoundFailed || len(res.VirtualMachines) != 0 {
		t.Errorf("the status: %s", pretty(res))
	}
	r := s.round(res.RoundID)
	wantState(t, r, preemptapi.RoundFailed, 0)
	if r.Count(action.Failed) != 6 {
		t.Errorf("want 6 failed: %s", pretty(r))
	}
	if got := s.status(res.RoundID); got != enums.WORKFLOW_EXECUTION_STATUS_FAILED {
		t.Errorf("the round workflow is %s", got)
	}
	s.agree(r)
}

func TestAnnotationsThatFailTransientlyAreRepeated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i, vm := range s.vc.TaggedVMs("cluster-a") {
		if i%2 == 0 {
			s.vc.FailCall("SetField", &vm.Ref, transient, 2)
		}
	}
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.wantOursExactly(r)
}

func TestAnnotationsThatFailForEverAreReported(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vms := s.vc.TaggedVMs("cluster-a")
	denied := &types.NoPermission{PrivilegeId: "Global.SetCustomField"}
	for i, vm := range vms {
		if i%2 == 0 {
			s.vc.FailCall("SetField", &vm.Ref, denied, -1)
		}
	}
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	if len(r.Preempted()) != 6 {
		t.Fatalf("want 6 preempted: %s", pretty(r))
	}
	for i, vm := range vms {
		o := of(t, r, vm)
		if bad := i%2 == 0; o.Annotated == bad || bad != containsAll(o.AnnotationError, vm.Name, "Global.SetCustomField") {
			t.Errorf("%s: annotated=%v, error %q", vm.Name, o.Annotated, o.AnnotationError)
		}
	}
	if !containsAll(r.Reason, "3", "annotated") {
		t.Errorf("the result's reason does not tell of it: %q", r.Reason)
	}
	s.agree(r)
}
