package faults

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

const machineController = "machine-controller@example.org"

func TestAVMThatAControllerPowersOnAgainBeforeAnybodySawItOffDoesNotHoldTheRound(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(time.Hour) }))
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.VC.KeepOn(vm.Ref, machineController, 0)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	sitetest.WantOutcome(t, r, vm, action.OnAgain, "powered on again by", "machine-controller")
	if _, annotated := s.Attribute(vm.Ref); annotated {
		t.Error("it carries the record of a VM that is off")
	}
	if s.VC.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Error("it was turned off again")
	}
	n := 0
	for _, round := range s.Ledger().Evictions {
		for _, e := range round.Evicted {
			if e.VM == sitetest.Ref(vm.Ref).String() {
				n++
			}
		}
	}
	if n != 1 {
		t.Errorf("the ledger counts %d preemptions of it, want 1", n)
	}
	s.Agree(r)
}

func TestAVMThatAControllerPowersOnWithinAMomentIsToldAsItStands(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(time.Hour) }))
	vm := s.VC.TaggedVMs("cluster-a")[2]
	s.VC.KeepOn(vm.Ref, machineController, 50*time.Millisecond)
	s.Worker()
	r := s.Preempt(preemption.CriticalityHigh)
	switch o := sitetest.OutcomeOf(t, r, vm); o.Outcome {
	case action.PoweredOff: // it was seen off in time
		sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	default:
		sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
		sitetest.WantOutcome(t, r, vm, action.OnAgain, "machine-controller")
	}
}

func TestATargetThatCameBackAtOnceIsReplaced(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithTarget(88))
	s.Must(s.VC.SetClusterUsage("cluster-a", 92, 50))
	s.Worker()
	first := s.FirstChosen("cluster-a")
	s.VC.KeepOn(first, machineController, 0)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	cpu, _ := s.VC.Usage("cluster-a")
	if r.State != preemptapi.RoundCompleted || r.Count(action.OnAgain) != 1 || len(r.Preempted()) == 0 || cpu >= 88 {
		t.Errorf("%s with %d VMs, the cluster is at %.1f %%: %s", r.State, len(r.Preempted()), cpu, sitetest.Pretty(r))
	}
	s.Agree(r)
}
