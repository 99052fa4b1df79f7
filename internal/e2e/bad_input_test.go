package e2e

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestAnUnknownTagFailsTheRoundAndNamesTheTagAndTheRemedy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Tag = "no-such-tag"
	s.signal("alarm", req)
	res := s.until("alarm", "the failure shows", func(r preemptapi.Response) bool { return r.State == preemptapi.IntakeFailed })
	if !containsAll(res.Failure, "no-such-tag", "create it") {
		t.Errorf("the failure does not name the tag and the remedy: %q", res.Failure)
	}
	r := s.round(res.RoundID)
	wantState(t, r, preemptapi.RoundFailed, 0)
	if got := s.status(res.RoundID); got != enums.WORKFLOW_EXECUTION_STATUS_FAILED {
		t.Errorf("the round workflow is %s", got)
	}
	s.agree(r)
}

func TestATagNameInTwoCategoriesIsRefusedNamingBoth(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(s.vc.CreateTag("billing", "preemptible"))
	s.must(s.vc.AttachTag("billing", "preemptible", s.vc.VM("cluster-a-app-01")))
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundFailed, 0)
	if !containsAll(r.Reason, "billing:preemptible", "preemption:preemptible") {
		t.Errorf("the reason does not name both: %q", r.Reason)
	}
	s.agree(r)
}

func TestATagNameInTwoCategoriesIsChosenByItsCategory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(s.vc.CreateTag("billing", "preemptible"))
	other := s.vc.VM("cluster-a-app-01")
	s.must(s.vc.AttachTag("billing", "preemptible", other))
	s.worker()
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Tag = "billing:preemptible"
	s.signal("alarm", req)
	r := s.done("alarm")
	wantState(t, r, preemptapi.RoundCompleted, 1)
	if r.Preempted()[0] != ref(other) {
		t.Errorf("the wrong VM went: %v", r.Preempted())
	}
	s.agree(r)
}

func TestATagOnAHostOrFolderIsReportedAndDoesNoHarm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	host := s.vc.Cluster("cluster-a").Hosts[0].Ref
	folder := types.ManagedObjectReference{Type: "Folder", Value: "group-d1"}
	for _, object := range []types.ManagedObjectReference{host, folder} {
		s.must(s.vc.AttachTag("preemption", "preemptible", object))
	}
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	for _, object := range []types.ManagedObjectReference{host, folder} {
		if got := spared(r, object); got != policy.NotAVM {
			t.Errorf("%s is spared for %q, want %q", object, got, policy.NotAVM)
		}
	}
	s.agree(r)
}

func TestTenCandidatesAlreadyOffDoNotHideTheTwoThatAreOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(12))
	vms := s.vc.TaggedVMs("cluster-a")
	for _, vm := range vms[2:] {
		s.must(s.vc.SetPowerState(vm.Ref, types.VirtualMachinePowerStatePoweredOff))
	}
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range vms[2:] {
		if got := spared(r, vm.Ref); got != policy.NotPoweredOn {
			t.Errorf("%s is spared for %q", vm.Name, got)
		}
	}
	s.agree(r)
}

func TestOfThirtyCandidatesTenGoAndTheOthersAreReportedOverTheLimit(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(30))
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 10)
	if n := r.SparedCount[policy.OverLimit]; n != 20 || len(r.Spared) != 20 {
		t.Errorf("%d spared, %d for the limit, want 20", len(r.Spared), n)
	}
	if n := s.calls("PowerOffVM_Task"); n != 10 {
		t.Errorf("%d power-offs were sent, want 10", n)
	}
	s.agree(r)
}

func TestEachCandidateThatMayNotGoStaysWithItsReason(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vms := s.vc.TaggedVMs("cluster-a")
	want := map[types.ManagedObjectReference]policy.Reason{
		vms[0].Ref: policy.Template, vms[1].Ref: policy.Infrastructure, vms[2].Ref: policy.PendingOperation,
	}
	s.must(s.vc.SetTemplate(vms[0].Ref))
	s.must(s.vc.SetManagedBy(vms[1].Ref, "com.vmware.vim.eam", "cluster-agent"))
	s.must(s.vc.SetDisabledMethods(vms[2].Ref, "PowerOffVM_Task"))
	for _, vm := range s.vc.TaggedVMs("cluster-b") {
		want[vm.Ref] = policy.OutOfScope
	}
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 3)
	for vm, reason := range want {
		if got := spared(r, vm); got != reason {
			t.Errorf("%s is spared for %q, want %q", vm.Value, got, reason)
		}
	}
	s.agree(r)
}

func TestNothingEligibleEndsEmptyAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, withInventory(func(o *simulation.Options) { o.Tagged = -1 }))
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundEmpty, 0)
	s.agree(r)
}

// The calls by which a round reads the inventory, in their order.
const (
	planReads    = 2 // the first is about the alarm
	recheckReads = 3
)

func TestAVMThatDisappearsBetweenPlanAndActionIsSparedAsGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.onCall("RetrievePropertiesEx", recheckReads, func(types.ManagedObjectReference) { s.must(s.vc.RemoveVM(vm.Ref)) })
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.Spared, string(policy.Gone))
	s.agree(r)
}

func TestAVMThatDisappearsAtItsPowerOffIsSparedAsGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.vc.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == vm.Ref {
			s.must(s.vc.RemoveVM(vm.Ref))
		}
	})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.Spared, string(policy.Gone))
	s.agree(r)
}

func TestAVMThatLosesItsTagBetweenPlanAndActionStaysOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.onCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) {
		s.must(s.vc.DetachTag("preemption", "preemptible", vm.Ref)) // the plan has read the tags by now
	})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.Spared, string(policy.NotTagged))
	if s.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Error("it went off all the same")
	}
	s.agree(r)
}

func TestAVMTurnedOffByAnotherBetweenPlanAndActionIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.onCall("RetrievePropertiesEx", recheckReads, func(types.ManagedObjectReference) { s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org")) })
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.AlreadyOff)
	s.wantOursExactly(r, vm.Ref)
}

func TestAVMTurnedOffByAnotherJustBeforeOurPowerOffIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.vc.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == vm.Ref {
			s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org"))
		}
	})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.wantOursExactly(r, vm.Ref)
}

func TestAVMTurnedOffByAnotherWhileOurPowerOffRunsIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.vc.SetTaskDelayFor(vm.Ref, time500)
	s.vc.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == vm.Ref {
			later(time500/3, func() { s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org")) })
		}
	})
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.wantOursExactly(r, vm.Ref)
}
