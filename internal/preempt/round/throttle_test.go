package round

import (
	"encoding/json"
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// throttle is an order to throttle all VMs of the bench to 250 MHz.
func (b *bench) throttle() ActInput {
	in := b.order(action.Throttle)
	for i := range in.Targets {
		in.Targets[i].LimitMHz, in.Targets[i].CPUMHz, in.Targets[i].MemoryMB = 250, 750, 0
	}
	return in
}

// write writes a record on the VM, as a round would.
func (b *bench) write(i int, round string, was, limit int64) {
	b.t.Helper()
	attr := b.order(action.Throttle).Attribute
	attr.Preempted, attr.RoundID, attr.Outcome, attr.InstanceUUID = true, round, action.Throttled, b.vc.Get(i).InstanceUUID
	attr.Throttle = &policy.Throttled{WasMHz: was, LimitMHz: limit}
	value, err := json.Marshal(attr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.vc.Set(i, func(vm *vcentertest.VM) { vm.Attributes[preemption.AttributeKey] = string(value) })
}

func limited(b *bench, i int, mhz int64) {
	b.vc.Set(i, func(vm *vcentertest.VM) { vm.LimitMHz, vm.CPULimitMHz = mhz, mhz })
}

func TestEachTargetIsThrottledOnceAndCarriesTheLimitThatItHad(t *testing.T) {
	b := newBench(t, 2)
	limited(b, 2, 600)
	res := b.evict(b.throttle())
	b.vc.WantCalls(t, "Annotate vm-1", "Limit 250 vm-1", "Annotate vm-2", "Limit 250 vm-2")
	for i, was := range map[int]int64{1: policy.Unlimited, 2: 600} {
		o, a := of(t, res.Outcomes, i), b.record(i)
		if o.Outcome != action.Throttled || !o.Annotated || o.Forced || o.CPUMHz != 750 || o.MemoryMB != 0 {
			t.Errorf("VM %d: %+v", i, o)
		}
		if a.Throttle == nil || *a.Throttle != (policy.Throttled{WasMHz: was, LimitMHz: 250, FreedMHz: 750}) || !a.Preempted || a.Outcome != action.Throttled || a.RoundID != "round-1" || a.InstanceUUID == "" {
			t.Errorf("VM %d carries %+v with %+v", i, a, a.Throttle)
		}
		if vm := b.vc.Get(i); vm.LimitMHz != 250 || vm.PowerState != vsphere.PoweredOn {
			t.Errorf("VM %d is %s with a limit of %d", i, vm.PowerState, vm.LimitMHz)
		}
	}
}

func TestTheRecordIsOnTheVMBeforeItsLimitIsSet(t *testing.T) {
	b := newBench(t, 1)
	limited(b, 1, 600)
	b.vc.Fail = func(call string, _ vsphere.Ref) error {
		if a := b.record(1); call == "Limit" && (a.Throttle == nil || a.Throttle.WasMHz != 600 || a.Throttle.LimitMHz != 250) {
			t.Errorf("the limit is set while the VM carries %+v", a.Throttle)
		}
		return nil
	}
	b.evict(b.throttle())
	if b.vc.Get(1).LimitMHz != 250 {
		t.Error("it was not throttled")
	}
}

func TestAVMWhoseRecordCannotBeWrittenIsNotThrottled(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("Annotate", vcenter.NoPermission, 100)
	if o := of(t, b.evict(b.throttle()).Outcomes, 1); o.Outcome != action.Failed {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t)
}

func TestAWorkerThatDiesWhileItThrottles(t *testing.T) {
	for what, c := range map[string]struct {
		limit int64 // that the VM has when the next worker looks; the record is written
		calls []string
	}{
		"before the limit was set": {600, []string{"Annotate vm-1", "Limit 250 vm-1"}},
		"after it was set":         {250, nil},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 1)
			in := b.throttle()
			b.write(1, "round-1", 600, 250)
			limited(b, 1, c.limit)
			res := b.evict(in)
			b.vc.WantCalls(t, c.calls...)
			if o := of(t, res.Outcomes, 1); o.Outcome != action.Throttled || !o.Annotated {
				t.Errorf("%+v", o)
			}
			if a := b.record(1).Throttle; a.WasMHz != 600 || a.LimitMHz != 250 || b.vc.Get(1).LimitMHz != 250 {
				t.Errorf("its record is %+v, its limit %d", a, b.vc.Get(1).LimitMHz)
			}
		})
	}
}

func TestALimitWhoseAnswerWasLostIsNotTakenForTheOwners(t *testing.T) {
	b := newBench(t, 1)
	limited(b, 1, 600)
	lost := false
	b.vc.Fail = func(call string, _ vsphere.Ref) error {
		if call == "Limit" && !lost {
			lost = true
			limited(b, 1, 250) // it arrived
			return vcentertest.Fault(vcenter.Unavailable)
		}
		return nil
	}
	res := b.evict(b.throttle())
	if o := of(t, res.Outcomes, 1); o.Outcome != action.Throttled {
		t.Errorf("%+v", o)
	}
	if a := b.record(1).Throttle; a.WasMHz != 600 {
		t.Errorf("the owner's limit is lost: %+v", a)
	}
	b.vc.WantCalls(t, "Annotate vm-1")
}

func TestALimitThatItsOwnerChangesInThatMomentIsRecordedAsHis(t *testing.T) {
	b := newBench(t, 1)
	limited(b, 1, 600)
	once := false
	b.vc.After = func(call string, _ vsphere.Ref) {
		if call == "Annotate" && !once {
			once = true
			limited(b, 1, 900)
		}
	}
	if o := of(t, b.evict(b.throttle()).Outcomes, 1); o.Outcome != action.Throttled {
		t.Errorf("%+v", o)
	}
	if a := b.record(1).Throttle; a.WasMHz != 900 || a.LimitMHz != 250 {
		t.Errorf("its record is %+v", a)
	}
}

func TestWhoIsNotThrottledAtTheMomentOfActing(t *testing.T) {
	for what, c := range map[string]struct {
		change  func(*bench)
		outcome action.Outcome
		reason  policy.Reason
	}{
		"its tag was taken off":          {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Tagged = false }) }, action.Spared, policy.NotTagged},
		"it was deleted":                 {func(b *bench) { b.vc.Remove(1) }, action.Spared, policy.Gone},
		"it moved to another cluster":    {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Cluster.Value = "domain-c9" }) }, action.Spared, policy.OutOfScope},
		"it was powered off":             {func(b *bench) { b.vc.TurnOff(1, vcentertest.User) }, action.AlreadyOff, ""},
		"its limit cannot be seen":       {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.NoLimit = true }) }, action.Spared, policy.LimitUnseen},
		"its owner's limit is as low":    {func(b *bench) { limited(b, 1, 250) }, action.Spared, policy.OwnLimit},
		"another round has throttled it": {func(b *bench) { b.write(1, "round-0", 600, 300); limited(b, 1, 300) }, action.Spared, policy.AlreadyThrottled},
		"it is being reconfigured": {func(b *bench) {
			b.vc.Set(1, func(vm *vcentertest.VM) { vm.DisabledMethods = []string{"ReconfigVM_Task"} })
		}, action.Spared, policy.PendingOperation},
		"the round is withdrawn": {(*bench).withdraw, action.Spared, policy.Withdrawn},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 1)
			in := b.throttle()
			c.change(b)
			res := b.evict(in)
			b.vc.WantCalls(t)
			if o := of(t, res.Outcomes, 1); o.Outcome != c.outcome || o.Reason != policy.Because(c.reason) {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestATargetOfAnotherPlanIsNotThrottledToNothing(t *testing.T) {
	b := newBench(t, 1)
	if o := of(t, b.evict(b.order(action.Throttle)).Outcomes, 1); o.Outcome != action.Failed {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t)
}

func TestALimitThatAnEarlierRoundMayStillSetIsOursToo(t *testing.T) {
	b := newBench(t, 1)
	b.write(1, "round-0", 600, 300)
	limited(b, 1, 600) // that change is held up
	b.evict(b.throttle())
	if a := b.record(1).Throttle; a.WasMHz != 600 || !a.Active(250) || !a.Active(300) || a.Active(600) {
		t.Errorf("its record is %+v", a)
	}
}

func TestALimitThatItsOwnerHasSetSinceIsThrottledAnew(t *testing.T) {
	b := newBench(t, 1)
	b.write(1, "round-0", 600, 300)
	limited(b, 1, 800)
	if o := of(t, b.evict(b.throttle()).Outcomes, 1); o.Outcome != action.Throttled || b.record(1).Throttle.WasMHz != 800 {
		t.Errorf("%+v, %+v", o, b.record(1).Throttle)
	}
}

func TestALookFindsWhoIsThrottledAndSetsNothing(t *testing.T) {
	b := newBench(t, 2)
	in := b.throttle()
	in.OnlyLook, in.StillOn = true, policy.Because(policy.Withdrawn)
	b.write(1, "round-1", 600, 250)
	limited(b, 1, 250)
	b.write(2, "round-1", 600, 250)
	limited(b, 2, 600)
	res := b.evict(in)
	b.vc.WantCalls(t)
	if one, two := of(t, res.Outcomes, 1), of(t, res.Outcomes, 2); one.Outcome != action.Throttled || two.Outcome != action.Spared || two.Reason != in.StillOn {
		t.Errorf("%+v, %+v", one, two)
	}
}

func TestAThrottledVMThatGoesOffKeepsWhatItsOwnersLimitWas(t *testing.T) {
	for _, what := range []action.Action{action.PowerOff, action.Suspend, action.ShutdownGuest} {
		b := newBench(t, 1)
		b.write(1, "round-0", 600, 250)
		limited(b, 1, 250)
		in := b.order(what)
		res := b.evict(in)
		if what == action.ShutdownGuest {
			b.awaitOff(res.Pending)
		}
		a := b.record(1)
		if a.RoundID != "round-1" || a.Outcome == action.Throttled || a.Throttle == nil || *a.Throttle != (policy.Throttled{WasMHz: 600, LimitMHz: 250}) {
			t.Errorf("%s: it carries %+v with %+v", what, a, a.Throttle)
		}
		for _, call := range b.vc.Calls() {
			if strings.HasPrefix(call, "Limit") {
				t.Errorf("%s: %s", what, call)
			}
		}
	}
}

func (b *bench) awaitOff(pending []ActTarget) {
	b.t.Helper()
	must[AwaitResult](b, b.acts.AwaitVMs, AwaitInput{RoundID: "round-1", Pending: pending, Attribute: b.order(action.ShutdownGuest).Attribute})
}
