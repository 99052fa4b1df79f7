package faults

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestAnUnknownTagFailsTheRoundAndNamesTheTagAndTheRemedy(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Tag = "no-such-tag"
	s.Signal("alarm", req)
	res := s.Until("alarm", "the failure shows", func(r preemptapi.Response) bool { return r.State == preemptapi.IntakeFailed })
	if !sitetest.ContainsAll(res.Failure, "no-such-tag", "create it") {
		t.Errorf("the failure does not name the tag and the remedy: %q", res.Failure)
	}
	r := s.Round(res.RoundID)
	sitetest.WantState(t, r, preemptapi.RoundFailed, 0)
	if got := s.Status(res.RoundID); got != enums.WORKFLOW_EXECUTION_STATUS_FAILED {
		t.Errorf("the round workflow is %s", got)
	}
	s.Agree(r)
}

func TestATagNameInTwoCategoriesIsRefusedNamingBoth(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Must(s.VC.CreateTag("billing", "preemptible"))
	s.Must(s.VC.AttachTag("billing", "preemptible", s.VC.VM("cluster-a-app-01")))
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundFailed, 0)
	if !sitetest.ContainsAll(r.Reason, "billing:preemptible", "preemption:preemptible") {
		t.Errorf("the reason does not name both: %q", r.Reason)
	}
	s.Agree(r)
}

func TestATagNameInTwoCategoriesIsChosenByItsCategory(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Must(s.VC.CreateTag("billing", "preemptible"))
	other := s.VC.VM("cluster-a-app-01")
	s.Must(s.VC.AttachTag("billing", "preemptible", other))
	s.Worker()
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Tag = "billing:preemptible"
	s.Signal("alarm", req)
	r := s.Done("alarm")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 1)
	if r.Preempted()[0] != sitetest.Ref(other) {
		t.Errorf("the wrong VM went: %v", r.Preempted())
	}
	s.Agree(r)
}

func TestATagOnAHostOrFolderIsReportedAndDoesNoHarm(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	host := s.VC.Cluster("cluster-a").Hosts[0].Ref
	folder := types.ManagedObjectReference{Type: "Folder", Value: "group-d1"}
	for _, object := range []types.ManagedObjectReference{host, folder} {
		s.Must(s.VC.AttachTag("preemption", "preemptible", object))
	}
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	for _, object := range []types.ManagedObjectReference{host, folder} {
		if got := sitetest.Spared(r, object); got != policy.NotAVM {
			t.Errorf("%s is spared for %q, want %q", object, got, policy.NotAVM)
		}
	}
	s.Agree(r)
}

func TestTenCandidatesAlreadyOffDoNotHideTheTwoThatAreOn(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(12))
	vms := s.VC.TaggedVMs("cluster-a")
	for _, vm := range vms[2:] {
		s.Must(s.VC.SetPowerState(vm.Ref, types.VirtualMachinePowerStatePoweredOff))
	}
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	for _, vm := range vms[2:] {
		if got := sitetest.Spared(r, vm.Ref); got != policy.NotPoweredOn {
			t.Errorf("%s is spared for %q", vm.Name, got)
		}
	}
	s.Agree(r)
}

func TestOfThirtyCandidatesTenGoAndTheOthersAreReportedOverTheLimit(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(30))
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 10)
	if n := r.SparedCount[policy.OverLimit]; n != 20 || len(r.Spared) != 20 {
		t.Errorf("%d spared, %d for the limit, want 20", len(r.Spared), n)
	}
	if n := s.Calls("PowerOffVM_Task"); n != 10 {
		t.Errorf("%d power-offs were sent, want 10", n)
	}
	s.Agree(r)
}

func TestEachCandidateThatMayNotGoStaysWithItsReason(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vms := s.VC.TaggedVMs("cluster-a")
	want := map[types.ManagedObjectReference]policy.Reason{
		vms[0].Ref: policy.Template, vms[1].Ref: policy.Infrastructure, vms[2].Ref: policy.PendingOperation,
	}
	s.Must(s.VC.SetTemplate(vms[0].Ref))
	s.Must(s.VC.SetManagedBy(vms[1].Ref, "com.vmware.vim.eam", "cluster-agent"))
	s.Must(s.VC.SetDisabledMethods(vms[2].Ref, "PowerOffVM_Task"))
	for _, vm := range s.VC.TaggedVMs("cluster-b") {
		want[vm.Ref] = policy.OutOfScope
	}
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	for vm, reason := range want {
		if got := sitetest.Spared(r, vm); got != reason {
			t.Errorf("%s is spared for %q, want %q", vm.Value, got, reason)
		}
	}
	s.Agree(r)
}

func TestNothingEligibleEndsEmptyAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithInventory(func(o *simulation.Options) { o.Tagged = -1 }))
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundEmpty, 0)
	s.Agree(r)
}

// The calls by which a round reads the inventory, in their order.
const (
	planReads    = 2 // the first is about the alarm
	recheckReads = 3
)

func TestAVMThatDisappearsBetweenPlanAndActionIsSparedAsGone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.OnCall("RetrievePropertiesEx", recheckReads, func(types.ManagedObjectReference) { s.Must(s.VC.RemoveVM(vm.Ref)) })
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.Spared, string(policy.Gone))
	s.Agree(r)
}

func TestAVMThatDisappearsAtItsPowerOffIsSparedAsGone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.VC.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == vm.Ref {
			s.Must(s.VC.RemoveVM(vm.Ref))
		}
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.Spared, string(policy.Gone))
	s.Agree(r)
}

func TestAVMThatLosesItsTagBetweenPlanAndActionStaysOn(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.OnCall("RetrievePropertiesEx", planReads, func(types.ManagedObjectReference) {
		s.Must(s.VC.DetachTag("preemption", "preemptible", vm.Ref)) // the plan has read the tags by now
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.Spared, string(policy.NotTagged))
	if s.VC.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Error("it went off all the same")
	}
	s.Agree(r)
}

func TestAVMTurnedOffByAnotherBetweenPlanAndActionIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.OnCall("RetrievePropertiesEx", recheckReads, func(types.ManagedObjectReference) { s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org")) })
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.AlreadyOff)
	s.WantOursExactly(r, vm.Ref)
}

func TestAVMTurnedOffByAnotherJustBeforeOurPowerOffIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.VC.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == vm.Ref {
			s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org"))
		}
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.WantOursExactly(r, vm.Ref)
}

func TestAVMTurnedOffByAnotherWhileOurPowerOffRunsIsNotClaimed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.VC.SetTaskDelayFor(vm.Ref, sitetest.HalfASecond)
	s.VC.Hook("PowerOffVM_Task", func(ref types.ManagedObjectReference) {
		if ref == vm.Ref {
			sitetest.After(sitetest.HalfASecond/3, func() { s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org")) })
		}
	})
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.AlreadyOff, "bob")
	s.WantOursExactly(r, vm.Ref)
}
