package restore

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func ask() PlanInput {
	return PlanInput{RestoreID: "restore-1", Scope: vcentertest.Cluster, Tag: "spot", Policy: restorePolicy(), Reserve: true}
}

func (b *bench) plan(in PlanInput) PlanResult {
	b.t.Helper()
	return must[PlanResult](b, b.acts.PlanRestore, in)
}

func TestThePlanOfARestoreNamesItsWavesAndReservesTheFirst(t *testing.T) {
	b := newBench(t, 3)
	plan := b.plan(ask())
	if got := plan.Returns.Returns; len(got) != 3 || got[1].Wave != 1 || got[2].Wave != 2 || plan.ScopeName != "cluster-a" {
		t.Errorf("%+v", plan)
	}
	if len(b.books.reserved) != 1 || len(b.books.reserved[0].VMs) != 2 {
		t.Errorf("reserved %+v", b.books.reserved)
	}
	b.vc.WantCalls(t)
}

func TestWhoDoesNotComeBackAndWhy(t *testing.T) {
	for reason, change := range map[policy.Reason]func(*bench){
		policy.NoEvidence:    func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Off = vcenter.Evidence{} }) },
		policy.OtherInstance: func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.InstanceUUID = "a copy" }) },
		policy.TouchedByOwner: func(b *bench) {
			b.vc.Set(1, func(vm *vcentertest.VM) {
				vm.Touched = &vcenter.Touch{Time: time.Now(), Event: "VmReconfiguredEvent", User: vcentertest.Owner}
			})
		},
		policy.AlreadyOn: func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.PowerState = vsphere.PoweredOn }) },
		policy.AttributeChanged: func(b *bench) {
			b.vc.Set(1, func(vm *vcentertest.VM) { vm.Attributes[preemption.AttributeKey] = "do not touch" })
		},
		policy.BeingEvicted: func(b *bench) { b.books.facts.Reserved = []string{vcentertest.Ref(1).String()} },
	} {
		b := newBench(t, 1)
		change(b)
		if plan := b.plan(ask()); len(plan.Returns.Returns) != 0 || len(plan.Left) != 1 || plan.Left[0].Reason != reason {
			t.Errorf("%s: %+v", reason, plan)
		}
	}
}

func TestAVMThatWePoweredOnBeforeACrashIsAdopted(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) {
		vm.PowerState, vm.Touched = vsphere.PoweredOn, &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: vcentertest.User, Ours: true}
	})
	if plan := b.plan(ask()); len(plan.Adopt) != 1 || len(plan.Returns.Returns) != 0 {
		t.Errorf("%+v", plan)
	}
}

func TestBesideARoundOrAnActiveAlarmNothingIsReserved(t *testing.T) {
	for what, c := range map[string]struct {
		facts func(*ledger.Facts)
		want  func(PlanResult) bool
	}{
		"a round is under way": {
			func(f *ledger.Facts) { f.Active = []string{"round-2"} },
			func(p PlanResult) bool { return slices.Equal(p.ActiveRounds, []string{"round-2"}) },
		},
		"an alarm is active": {
			func(f *ledger.Facts) {
				f.ActiveAlarms = []ledger.ActiveAlarm{{Owner: "intake-running", Alarm: "memory"}}
			},
			func(p PlanResult) bool {
				return len(p.ActiveAlarms) == 1 && strings.Contains(p.ActiveAlarms[0], "memory")
			},
		},
	} {
		b := newBench(t, 1)
		b.acts.Temporal = temporalServer{running: "intake-running"}
		c.facts(&b.books.facts)
		if plan := b.plan(ask()); !c.want(plan) || len(b.books.reserved) != 0 {
			t.Errorf("%s: %+v, reserved %+v", what, plan, b.books.reserved)
		}
	}
}

func TestAnAlarmWhoseIntakeHasEndedHoldsNothingBack(t *testing.T) {
	b := newBench(t, 1)
	b.acts.Temporal = temporalServer{ended: "intake-ended"}
	b.books.facts.ActiveAlarms = []ledger.ActiveAlarm{{Owner: "intake-ended", Alarm: "memory"}, {Owner: "intake-unknown", Alarm: "cpu"}}
	if plan := b.plan(ask()); len(plan.ActiveAlarms) != 0 || len(plan.Returns.Returns) != 1 || len(b.books.stood) != 2 {
		t.Errorf("%+v, told %+v", plan, b.books.stood)
	}
}

func TestAPersonNamesVMsByNameOrMoRef(t *testing.T) {
	b := newBench(t, 3)
	b.vc.Lag = true // it waits for the events of those that went off a moment ago
	in := ask()
	in.Person, in.VMs = true, []string{"batch-2", "vm-3"}
	plan := b.plan(in)
	if len(plan.Returns.Returns) != 2 || len(plan.Named) != 2 || plan.Named[0] != vcentertest.Ref(2) {
		t.Errorf("%+v", plan)
	}
	in.VMs = []string{"payroll"}
	if _, err := vcentertest.Run[PlanResult](b.ctx, b.acts.PlanRestore, in); vcentertest.TypeOf(err) != string(vcenter.NotFound) {
		t.Errorf("unexpected %v", err)
	}
}

func TestWhatOthersReserveMeanwhileIsLeft(t *testing.T) {
	b := newBench(t, 2)
	b.books.grant = func(r ledger.ReserveRequest) ledger.Reservation {
		if slices.Contains(r.VMs, vcentertest.Ref(1).String()) {
			return ledger.Reservation{Conflicts: []string{vcentertest.Ref(1).String()}}
		}
		return ledger.Reservation{Granted: true}
	}
	if plan := b.plan(ask()); len(plan.Returns.Returns) != 1 || plan.Returns.Returns[0].Ref != vcentertest.Ref(2) {
		t.Errorf("%+v", plan)
	}
	b.books.grant = func(ledger.ReserveRequest) ledger.Reservation { return ledger.Reservation{} }
	if _, err := vcentertest.Run[PlanResult](b.ctx, b.acts.PlanRestore, ask()); vcentertest.TypeOf(err) != "ReservationFailed" {
		t.Errorf("unexpected %v", err)
	}
}

func TestAPlanWithoutTheLedgerOrVCenterFails(t *testing.T) {
	b := newBench(t, 1)
	b.books.err = errors.New("no ledger")
	if _, err := vcentertest.Run[PlanResult](b.ctx, b.acts.PlanRestore, ask()); err == nil || !strings.Contains(err.Error(), "no ledger") {
		t.Errorf("unexpected %v", err)
	}
	for _, call := range []string{"Owned", "Candidates", "PowerOffEvidence", "TouchedSince"} {
		b := newBench(t, 1)
		b.vc.Fail = vcentertest.Failing(call, vcenter.Unavailable, 100)
		if _, err := vcentertest.Run[PlanResult](b.ctx, b.acts.PlanRestore, ask()); vcentertest.TypeOf(err) != string(vcenter.Unavailable) {
			t.Errorf("%s: unexpected %v", call, err)
		}
	}
}

func TestARestoreGivesBackWhatItReserved(t *testing.T) {
	b := newBench(t, 0)
	if err := b.acts.ReleaseRestore(t.Context(), "restore-1"); err != nil || len(b.books.reserved) != 1 || len(b.books.reserved[0].VMs) != 0 {
		t.Errorf("%v, %+v", err, b.books.reserved)
	}
}

func TestWhatIsAskedOfARestoreIsCheckedAndItsPolicyPinned(t *testing.T) {
	b := newBench(t, 0)
	b.acts.Settings.AllowedTags = []string{"spot"}
	many := make([]string, preempt.MaxNamed+1)
	for want, in := range map[string]preemptapi.RestoreInput{
		"tag is empty":         {},
		"is not among":         {Tag: "other"},
		"VMs are named":        {Tag: "spot", VMs: many},
		"no http or https URL": {Tag: "spot", ReplyTo: "ftp://x"},
		"unknown policy":       {Tag: "spot", PolicyName: "none"},
	} {
		if _, err := b.acts.PrepareRestore(t.Context(), in); vcentertest.TypeOf(err) != preempt.RequestRejected || !strings.Contains(err.Error(), want) {
			t.Errorf("unexpected %v, want %q", err, want)
		}
	}
	got, err := b.acts.PrepareRestore(t.Context(), preemptapi.RestoreInput{Tag: "spot"})
	if err != nil || got.PolicyName != "default" || got.PolicyHash == "" || got.Policy.Restore != policy.DefaultRestore() {
		t.Errorf("%+v, %v", got, err)
	}
	b.acts.Settings.Observe = true
	pinned := policy.Default()
	if got, err = b.acts.PrepareRestore(t.Context(), preemptapi.RestoreInput{Tag: "spot", Policy: &pinned}); err != nil || got.Policy.Mode != policy.ModeObserve {
		t.Errorf("%+v, %v", got, err)
	}
}
