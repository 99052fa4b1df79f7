package e2e

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

const machineController = "machine-controller@example.org"

func TestAVMThatAControllerPowersOnAgainBeforeAnybodySawItOffDoesNotHoldTheRound(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(time.Hour) }))
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.vc.KeepOn(vm.Ref, machineController, 0)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	wantOutcome(t, r, vm, action.OnAgain, "powered on again by", "machine-controller")
	if _, annotated := s.attribute(vm.Ref); annotated {
		t.Error("it carries the record of a VM that is off")
	}
	if s.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Error("it was turned off again")
	}
	n := 0
	for _, round := range s.ledger().Evictions {
		for _, e := range round.Evicted {
			if e.VM == ref(vm.Ref).String() {
				n++
			}
		}
	}
	if n != 1 {
		t.Errorf("the ledger counts %d preemptions of it, want 1", n)
	}
	s.agree(r)
}

func TestAVMThatAControllerPowersOnWithinAMomentIsToldAsItStands(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.PowerOffTimeout = clock.Duration(time.Hour) }))
	vm := s.vc.TaggedVMs("cluster-a")[2]
	s.vc.KeepOn(vm.Ref, machineController, 50*time.Millisecond)
	s.worker()
	r := s.preempt(preemption.CriticalityHigh)
	switch o := of(t, r, vm); o.Outcome {
	case action.PoweredOff: // it was seen off in time
		wantState(t, r, preemptapi.RoundCompleted, 6)
	default:
		wantState(t, r, preemptapi.RoundCompleted, 5)
		wantOutcome(t, r, vm, action.OnAgain, "machine-controller")
	}
}

func TestATargetThatCameBackAtOnceIsReplaced(t *testing.T) {
	t.Parallel()
	s := newSite(t, target(88))
	s.must(s.vc.SetClusterUsage("cluster-a", 92, 50))
	s.worker()
	first := s.firstChosen("cluster-a")
	s.vc.KeepOn(first, machineController, 0)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	cpu, _ := s.vc.Usage("cluster-a")
	if r.State != preemptapi.RoundCompleted || r.Count(action.OnAgain) != 1 || len(r.Preempted()) == 0 || cpu >= 88 {
		t.Errorf("%s with %d VMs, the cluster is at %.1f %%: %s", r.State, len(r.Preempted()), cpu, pretty(r))
	}
	s.agree(r)
}
