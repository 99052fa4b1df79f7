package restore

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// newThrottledBench has VMs that a round has throttled to 250 MHz an hour ago; their owners had them at 600 MHz.
func newThrottledBench(t *testing.T, vms int) *bench {
	b := newBench(t, vms)
	for i := 1; i <= vms; i++ {
		b.vc.Set(i, func(vm *vcentertest.VM) {
			vm.PowerState, vm.Off = vsphere.PoweredOn, vcenter.Evidence{}
			vm.LimitMHz, vm.CPULimitMHz = 250, 250
		})
		b.throttledRecord(i, func(*preempt.Attribute) {})
	}
	return b
}

// throttledRecord gives the VM the record of a throttle.
func (b *bench) throttledRecord(i int, change func(*preempt.Attribute)) {
	b.t.Helper()
	a := preempt.Attribute{
		Preempted: true, Tag: "spot", RoundID: "round-1", PreemptedAt: time.Now().Add(-time.Hour).UTC(), Scope: vcentertest.Cluster.String(),
		InstanceUUID: b.vc.Get(i).InstanceUUID, Outcome: action.Throttled, CPUMHz: 750, Throttle: &policy.Throttled{WasMHz: 600, LimitMHz: 250},
	}
	change(&a)
	b.write(i, a)
}

func (b *bench) limit(i int, mhz int64) {
	b.vc.Set(i, func(vm *vcentertest.VM) { vm.LimitMHz, vm.CPULimitMHz = mhz, mhz })
}

func (b *bench) lift(in PowerOnInput) PowerOnResult {
	b.t.Helper()
	return must[PowerOnResult](b, b.acts.LiftLimits, in)
}

// limits asks for what a plan names.
func (b *bench) limits() PowerOnInput {
	in := b.order()
	in.Targets = b.planned(PlanInput{}).Limits
	return in
}

func (b *bench) planned(in PlanInput) PlanResult {
	b.t.Helper()
	in.RestoreID, in.Tag, in.Scope, in.Policy = "restore-1", "spot", vcentertest.Cluster, policy.Default()
	in.Policy.Restore = policy.DefaultRestore()
	in.Policy.Restore.Enabled = true
	return must[PlanResult](b, b.acts.PlanRestore, in)
}

func TestEachThrottledVMGetsTheLimitThatItHad(t *testing.T) {
	b := newThrottledBench(t, 2)
	b.throttledRecord(2, func(a *preempt.Attribute) { a.Throttle.WasMHz = policy.Unlimited })
	plan := b.planned(PlanInput{Reserve: true})
	if len(plan.Limits) != 2 || len(plan.Returns.Returns) != 0 || len(plan.Left) != 0 || len(b.books.reserved[0].VMs) != 2 {
		t.Fatalf("planned %+v, reserved %+v", plan, b.books.reserved)
	}
	res := b.lift(b.limits())
	b.vc.WantCalls(t, "Limit 600 vm-1", "Annotate vm-1", "Limit -1 vm-2", "Annotate vm-2")
	for i := 1; i <= 2; i++ {
		if vm := of(t, res, i); vm.Outcome != preemptapi.OutcomeRestored || !vm.Annotated {
			t.Errorf("VM %d: %+v", i, vm)
		}
		if a := b.record(i); a.Preempted || !a.Restored || a.RestoredBy != "cpu" || a.RestoreID != "restore-1" || a.RoundID != "round-1" || !a.Throttle.EndedAs(policy.ThrottleLifted) {
			t.Errorf("VM %d carries %+v with %+v", i, a, a.Throttle)
		}
	}
	if again := b.planned(PlanInput{}); len(again.Limits) != 0 {
		t.Errorf("planned again: %+v", again.Limits)
	}
}

func TestTheRecordOfALimitThatVCenterRefusesForAWhileIsWrittenAllTheSame(t *testing.T) {
	b := newThrottledBench(t, 1)
	b.vc.Fail = vcentertest.Failing("Annotate", vcenter.Busy, 3*step.Tries)
	if vm := of(t, b.lift(b.limits()), 1); vm.Outcome != preemptapi.OutcomeRestored || !vm.Annotated {
		t.Errorf("%+v", vm)
	}
	if a := b.record(1); a.Preempted || !a.Throttle.EndedAs(policy.ThrottleLifted) {
		t.Errorf("it carries %+v with %+v", a, a.Throttle)
	}
}

func TestALimitThatItsOwnerHasChangedStays(t *testing.T) {
	for what, limit := range map[string]int64{"another limit": 900, "no limit": 0} {
		b := newThrottledBench(t, 1)
		b.limit(1, limit)
		if vm := of(t, b.lift(b.limits()), 1); vm.Outcome != preemptapi.OutcomeLeft || vm.Reason != policy.Because(policy.LimitChanged) {
			t.Errorf("%s: %+v", what, vm)
		}
		b.vc.WantCalls(t, "Annotate vm-1")
		if a := b.record(1); a.Preempted || a.Restored || !a.Throttle.EndedAs(policy.ThrottleChanged) || b.vc.Get(1).LimitMHz != limit {
			t.Errorf("%s: it carries %+v with %+v", what, a, a.Throttle)
		}
	}
}

func TestALimitIsTakenBackWhateverBecameOfTheVM(t *testing.T) {
	for what, change := range map[string]func(*bench){
		"its owner turned it off": func(b *bench) { b.vc.TurnOff(1, vcentertest.Owner) },
		"its tag was taken off":   func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Tagged = false }) },
		"its owner reconfigured it": func(b *bench) {
			b.vc.Set(1, func(vm *vcentertest.VM) {
				vm.Touched = &vcenter.Touch{Time: time.Now(), Event: "VmReconfiguredEvent", User: vcentertest.Owner}
			})
		},
		"it moved to another cluster": func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Cluster.Value = "domain-c9" }) },
		"it was throttled two days ago": func(b *bench) {
			b.throttledRecord(1, func(a *preempt.Attribute) { a.PreemptedAt = time.Now().Add(-48 * time.Hour) })
		},
		"it was preempted very often":            func(b *bench) { b.books.facts.Preempted = map[string]int{vcentertest.Ref(1).String(): 9} },
		"the round died before it set the limit": func(b *bench) { b.limit(1, 600) },
		"an earlier throttle came late": func(b *bench) {
			b.throttledRecord(1, func(a *preempt.Attribute) { a.Throttle.MaybeMHz = 300 })
			b.limit(1, 300)
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newThrottledBench(t, 1)
			change(b)
			state := b.vc.Get(1).PowerState
			res := b.lift(b.limits())
			if vm := of(t, res, 1); vm.Outcome != preemptapi.OutcomeRestored || b.vc.Get(1).LimitMHz != 600 || b.vc.Get(1).PowerState != state || b.record(1).Preempted {
				t.Errorf("%+v; limit %d, %s", vm, b.vc.Get(1).LimitMHz, b.vc.Get(1).PowerState)
			}
		})
	}
}

func TestWhoseLimitThisRestoreLeaves(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*bench)
		reason policy.Reason
	}{
		"it is a copy":            {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.InstanceUUID = "copy" }) }, policy.OtherInstance},
		"it went for another tag": {func(b *bench) { b.throttledRecord(1, func(a *preempt.Attribute) { a.Tag = "other" }) }, policy.OtherTag},
		"it was throttled elsewhere": {func(b *bench) {
			b.throttledRecord(1, func(a *preempt.Attribute) { a.Scope = "ClusterComputeResource:domain-c9" })
			b.vc.Set(1, func(vm *vcentertest.VM) { vm.Cluster.Value = "domain-c9" })
		}, policy.OutOfScope},
		"its host is away":     {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Connected = false }) }, policy.NotConnected},
		"another round has it": {func(b *bench) { b.books.facts.Reserved = []string{vcentertest.Ref(1).String()} }, policy.BeingEvicted},
	} {
		b := newThrottledBench(t, 1)
		c.change(b)
		plan := b.planned(PlanInput{})
		if len(plan.Limits) != 0 || len(plan.Left) != 1 || plan.Left[0].Reason != c.reason {
			t.Errorf("%s: %+v", what, plan.Returns)
		}
	}
}

func TestALimitIsNotTakenBackWhileARoundOrAnAlarmIsActive(t *testing.T) {
	b := newThrottledBench(t, 1)
	b.books.facts = ledger.Facts{Active: []string{"round-2"}}
	if plan := b.planned(PlanInput{Reserve: true}); len(plan.ActiveRounds) != 1 || len(b.books.reserved) != 0 {
		t.Errorf("%+v, reserved %+v", plan, b.books.reserved)
	}
}

func TestAVMThatWasTurnedOffWithOurLimitLosesItBeforeItComesBack(t *testing.T) {
	b := newBench(t, 1)
	b.throttledRecord(1, func(a *preempt.Attribute) { a.Outcome = action.PoweredOff })
	b.limit(1, 250)
	plan := b.planned(PlanInput{Reserve: true})
	if len(plan.Limits) != 1 || !plan.Limits[0].StaysOff || len(plan.Returns.Returns) != 1 || len(b.books.reserved[0].VMs) != 1 {
		t.Fatalf("%+v, reserved %+v", plan.Returns, b.books.reserved)
	}
	b.lift(b.limits())
	if a := b.record(1); !a.Preempted || a.Restored || !a.Throttle.EndedAs(policy.ThrottleLifted) || b.vc.Get(1).LimitMHz != 600 {
		t.Errorf("it carries %+v with %+v, limit %d", a, a.Throttle, b.vc.Get(1).LimitMHz)
	}
	in := b.order()
	if vm := of(t, b.powerOn(in), 1); vm.Outcome != preemptapi.OutcomeRestored {
		t.Errorf("%+v", vm)
	}
	if a := b.record(1); a.Preempted || !a.Restored || !a.Throttle.EndedAs(policy.ThrottleLifted) {
		t.Errorf("in the end it carries %+v", a)
	}
}

func TestAWorkerThatDiesWhileItTakesALimitBack(t *testing.T) {
	b := newThrottledBench(t, 1)
	in := b.limits()
	b.limit(1, 600) // it is back, and the record does not say so
	if vm := of(t, b.lift(in), 1); vm.Outcome != preemptapi.OutcomeRestored || b.vc.Get(1).LimitMHz != 600 || b.record(1).Preempted {
		t.Errorf("%+v", vm)
	}
	if vm := of(t, b.lift(in), 1); vm.Outcome != preemptapi.OutcomeRestored { // the record says so, and the answer was lost
		t.Errorf("%+v", vm)
	}
}

func TestAnOwnerWhoChangesTheLimitInThatMomentKeepsHis(t *testing.T) {
	b := newThrottledBench(t, 1)
	in := b.limits()
	once := false
	b.vc.Fail = func(call string, _ vsphere.Ref) error {
		if call == "Limit" && !once {
			once = true
			b.limit(1, 900)
		}
		return nil
	}
	if vm := of(t, b.lift(in), 1); vm.Reason != policy.Because(policy.LimitChanged) || b.vc.Get(1).LimitMHz != 900 {
		t.Errorf("%+v, limit %d", vm, b.vc.Get(1).LimitMHz)
	}
}

func TestAStopLeavesLimitsAndOpenRecords(t *testing.T) {
	b := newThrottledBench(t, 1)
	in := b.limits()
	b.end(vcentertest.Cancelled())
	if res := b.lift(in); len(res.VMs) != 0 || b.vc.Get(1).LimitMHz != 250 || !b.record(1).Throttle.Open() {
		t.Errorf("%+v", res)
	}
}

func TestALimitThatVCenterDoesNotTakeIsTriedAgainLater(t *testing.T) {
	for kind, again := range map[vcenter.Kind]bool{vcenter.Busy: true, vcenter.NoPermission: false} {
		b := newThrottledBench(t, 1)
		in := b.limits()
		b.vc.Fail = vcentertest.Failing("Limit", kind, 100)
		if vm := of(t, b.lift(in), 1); vm.Outcome != preemptapi.OutcomeNotRestored || vm.Again != again || !b.record(1).Throttle.Open() {
			t.Errorf("%s: %+v", kind, vm)
		}
	}
}
