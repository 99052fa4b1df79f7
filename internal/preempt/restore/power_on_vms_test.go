package restore

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// order asks for all VMs of the bench.
func (b *bench) order() PowerOnInput {
	in := PowerOnInput{RestoreID: "restore-1", By: "cpu", Tag: "spot", Timeout: clock.Duration(50 * time.Millisecond), PlannedAt: time.Now()}
	owned, err := b.vc.Owned(b.t.Context(), "com.vmware.workflows.vsphere.preemption")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, o := range owned {
		in.Targets = append(in.Targets, policy.Return{Ref: o.Ref, Name: o.Name, InstanceUUID: o.InstanceUUID, Wave: 1, OffSince: time.Now().Add(-time.Hour)})
	}
	return in
}

func (b *bench) powerOn(in PowerOnInput) PowerOnResult {
	b.t.Helper()
	return must[PowerOnResult](b, b.acts.PowerOnVMs, in)
}

func of(t *testing.T, res PowerOnResult, i int) preemptapi.RestoredVM {
	t.Helper()
	k := slices.IndexFunc(res.VMs, func(vm preemptapi.RestoredVM) bool { return vm.Ref == vcentertest.Ref(i) })
	if k < 0 {
		t.Fatalf("nothing became of VM %d: %+v", i, res)
	}
	return res.VMs[k]
}

func TestEachVMIsPoweredOnOnceAndItsRecordSaysSo(t *testing.T) {
	b := newBench(t, 2)
	res := b.powerOn(b.order())
	b.vc.WantCalls(t, "PowerOn vm-1", "PowerOn vm-2", "Annotate vm-1", "Annotate vm-2")
	for i := 1; i <= 2; i++ {
		if vm := of(t, res, i); vm.Outcome != preemptapi.OutcomeRestored || !vm.Annotated {
			t.Errorf("VM %d: %+v", i, vm)
		}
		if a := b.record(i); a.Preempted || !a.Restored || a.RestoredBy != "cpu" || a.RestoreID != "restore-1" || a.RoundID != "round-1" {
			t.Errorf("VM %d carries %+v", i, a)
		}
	}
}

func TestAVMThatChangedSinceThePlanStaysOff(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*bench)
		reason policy.Reason
	}{
		"it was deleted":             {func(b *bench) { b.vc.Remove(1) }, policy.Gone},
		"its tag was taken off":      {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Tagged = false }) }, policy.Untagged},
		"its MoRef is of another VM": {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.InstanceUUID = "other" }) }, policy.OtherInstance},
		"its record says that it came back": {func(b *bench) {
			b.write(1, preempt.Attribute{RoundID: "round-1", Restored: true, RestoreID: "restore-0"})
		}, policy.AttributeChanged},
		"somebody has powered it on": {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.PowerState = vsphere.PoweredOn }) }, policy.AlreadyOn},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 1)
			in := b.order()
			c.change(b)
			if vm := of(t, b.powerOn(in), 1); vm.Outcome != preemptapi.OutcomeLeft || vm.Reason != policy.Because(c.reason) {
				t.Errorf("%+v", vm)
			}
			b.vc.WantCalls(t)
		})
	}
}

func TestNothingIsSentAfterAStopOrForAStalePlan(t *testing.T) {
	for what, set := range map[string]func(*bench, *PowerOnInput){
		"stopped": func(b *bench, _ *PowerOnInput) { b.stop() },
		"stale":   func(_ *bench, in *PowerOnInput) { in.PlannedAt = time.Now().Add(-time.Hour) },
	} {
		b := newBench(t, 2)
		in := b.order()
		set(b, &in)
		if res := b.powerOn(in); len(res.VMs) != 0 {
			t.Errorf("%s: %+v", what, res)
		}
		b.vc.WantCalls(t)
	}
}

func TestANoticeIsClearedBeforeItsGuestStarts(t *testing.T) {
	b := newBench(t, 2)
	for i := 1; i <= 2; i++ {
		b.vc.Set(i, func(vm *vcentertest.VM) { vm.GuestInfo[preempt.NoticeKey] = `{"state":"pending"}` })
	}
	b.vc.Fail = func(call string, vm vsphere.Ref) error {
		if call == "SetGuestInfo" && vm == vcentertest.Ref(2) {
			return vcentertest.Fault(vcenter.NoPermission)
		}
		return nil
	}
	res := b.powerOn(b.order())
	b.vc.WantCalls(t, "SetGuestInfo vm-1", "PowerOn vm-1", "Annotate vm-1")
	if vm := of(t, res, 2); vm.Outcome != preemptapi.OutcomeNotRestored || !strings.Contains(vm.Reason.String(), "notice") {
		t.Errorf("%+v", vm)
	}
	if calls := b.vc.Calls(); calls[0] != "SetGuestInfo vm-1" {
		t.Errorf("%q", calls)
	}
}

func TestANoticeThatCannotBeClearedAtOnceIsTriedAgain(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.GuestInfo[preempt.NoticeKey] = `{"state":"pending"}` })
	b.vc.Fail = vcentertest.Failing("SetGuestInfo", vcenter.Busy, 2)
	if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != preemptapi.OutcomeRestored {
		t.Errorf("%+v", vm)
	}
}

func TestAVMThatNoHostCanTakeIsLeftAndOneThatRefusesThreeTimesHasFailed(t *testing.T) {
	for kind, c := range map[vcenter.Kind]struct {
		outcome preemptapi.RestoreOutcome
		reason  string
		tries   int
	}{
		vcenter.NoRoom:       {preemptapi.OutcomeLeft, string(policy.NoHost), 1},
		vcenter.TaskFailed:   {preemptapi.OutcomeNotRestored, "call: TaskFailed", 3},
		vcenter.NoPermission: {preemptapi.OutcomeNotRestored, "call: NoPermission", 1},
	} {
		b := newBench(t, 1)
		tried := 0
		b.vc.Fail = func(call string, _ vsphere.Ref) error {
			if call != "PowerOn" {
				return nil
			}
			tried++
			return vcentertest.Fault(kind)
		}
		again := kind == vcenter.TaskFailed
		if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != c.outcome || vm.Reason.String() != c.reason || tried != c.tries || vm.Again != again {
			t.Errorf("%s: tried %d times: %+v", kind, tried, vm)
		}
	}
}

func TestAPowerOnWhoseTaskFailsIsTriedAgain(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("AwaitOn", vcenter.TaskFailed, 1)
	b.vc.After = func(call string, _ vsphere.Ref) {
		if len(b.vc.Calls()) == 1 && call == "PowerOn" {
			b.vc.Set(1, func(vm *vcentertest.VM) { vm.PowerState = vsphere.PoweredOff })
		}
	}
	if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != preemptapi.OutcomeRestored {
		t.Errorf("%+v", vm)
	}
	b.vc.WantCalls(t, "PowerOn vm-1", "PowerOn vm-1", "Annotate vm-1")
}

func TestAPowerOnThatTakesTooLongHasFailed(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.Hangs = true })
	if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != preemptapi.OutcomeNotRestored || !strings.Contains(vm.Reason.String(), "did not say within") {
		t.Errorf("%+v", vm)
	}
}

func TestAnOutageIsLeftToTemporalUnlessSomethingWasSent(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("State", vcenter.Unavailable, 100)
	if _, err := vcentertest.Run[PowerOnResult](b.ctx, b.acts.PowerOnVMs, b.order()); vcentertest.TypeOf(err) != string(vcenter.Unavailable) {
		t.Errorf("unexpected %v", err)
	}
	b.vc.WantCalls(t)
	b = newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("PowerOn", vcenter.Unavailable, 2)
	if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != preemptapi.OutcomeRestored {
		t.Errorf("%+v", vm)
	}
}

func TestAStoppingWorkerHandsTheWaveOver(t *testing.T) {
	b := newBench(t, 1)
	b.end(errors.New("the worker is shutting down"))
	if _, err := vcentertest.Run[PowerOnResult](b.ctx, b.acts.PowerOnVMs, b.order()); err == nil || !strings.Contains(err.Error(), "hand over") {
		t.Errorf("unexpected %v", err)
	}
	b.vc.WantCalls(t)
}

func TestAPowerOnWhoseAnswerWasLostIsClaimedAndNotSentTwice(t *testing.T) {
	b := newBench(t, 1)
	var lost atomic.Bool
	b.vc.Fail = func(call string, _ vsphere.Ref) error {
		if call == "PowerOn" && !lost.Swap(true) {
			b.vc.Set(1, func(vm *vcentertest.VM) { // it arrived
				vm.PowerState = vsphere.PoweredOn
				vm.Touched = &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: vcentertest.User, Ours: true}
			})
			return vcentertest.Fault(vcenter.Unavailable)
		}
		return nil
	}
	if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != preemptapi.OutcomeRestored || !vm.Annotated {
		t.Errorf("%+v", vm)
	}
	b.vc.WantCalls(t, "Annotate vm-1")
}

func TestALookSaysWhoPoweredTheVMsOnAndSendsNothing(t *testing.T) {
	on := func(b *bench, i int, touch *vcenter.Touch) {
		b.vc.Set(i, func(vm *vcentertest.VM) { vm.PowerState, vm.Touched = vsphere.PoweredOn, touch })
	}
	b := newBench(t, 6)
	in := b.order()
	in.OnlyLook = true
	on(b, 1, &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: vcentertest.User, Ours: true})
	on(b, 2, &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: vcentertest.Owner})
	on(b, 3, nil)
	on(b, 4, &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: vcentertest.User, Ours: true})
	b.write(4, preempt.Attribute{RoundID: "round-1", Restored: true, RestoreID: "restore-9", RestoredAt: time.Now()})
	on(b, 5, nil)
	b.write(5, preempt.Attribute{RoundID: "round-1", Restored: true, RestoreID: "restore-1", RestoredAt: time.Now()})
	time.AfterFunc(2*time.Millisecond, func() { // the sixth is coming on
		on(b, 6, &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: vcentertest.User, Ours: true})
	})
	res := b.powerOn(in)
	for i, want := range map[int]struct {
		outcome preemptapi.RestoreOutcome
		reason  string
	}{
		1: {preemptapi.OutcomeRestored, ""},
		2: {preemptapi.OutcomeLeft, string(policy.TouchedByOwner)},
		3: {preemptapi.OutcomeLeft, string(policy.NoEvidence)},
		4: {preemptapi.OutcomeLeft, string(policy.AlreadyOn)},
		5: {preemptapi.OutcomeRestored, ""},
	} {
		if vm := of(t, res, i); vm.Outcome != want.outcome || vm.Reason.String() != want.reason {
			t.Errorf("VM %d: %+v, want %+v", i, vm, want)
		}
	}
	if slices.ContainsFunc(b.vc.Calls(), func(c string) bool { return strings.HasPrefix(c, "PowerOn") }) {
		t.Errorf("%q", b.vc.Calls())
	}
}

func TestARecordThatCannotBeWrittenIsPartOfTheResult(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("Annotate", vcenter.NoPermission, 10)
	if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != preemptapi.OutcomeRestored || vm.Annotated || vm.AnnotationError == "" {
		t.Errorf("%+v", vm)
	}
}

func TestARecordThatVCenterRefusesForAWhileIsWrittenAllTheSame(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("Annotate", vcenter.Busy, 3*step.Tries)
	if vm := of(t, b.powerOn(b.order()), 1); vm.Outcome != preemptapi.OutcomeRestored || !vm.Annotated || vm.AnnotationError != "" {
		t.Errorf("%+v", vm)
	}
}

func TestAVMThatDRSDoesNotPowerOnNamesDRS(t *testing.T) {
	p := &powering{in: PowerOnInput{Timeout: clock.Duration(time.Minute)}, byDRS: map[vsphere.Ref]bool{}}
	p.noteDRS(vcentertest.Ref(1), vcenter.Started{})
	p.noteDRS(vcentertest.Ref(2), vcenter.Started{Task: vsphere.Ref{Type: "Task", Value: "task-1"}})
	if got := p.timeoutReason(vcentertest.Ref(1)); !strings.Contains(got, "DRS") {
		t.Error(got)
	}
	if got := p.timeoutReason(vcentertest.Ref(2)); strings.Contains(got, "DRS") {
		t.Error(got)
	}
}
