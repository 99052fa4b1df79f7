package round

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestEachTargetIsPoweredOffOnceAndCarriesTheRecord(t *testing.T) {
	b := newBench(t, 2)
	res := b.evict(b.order(action.PowerOff))
	b.vc.WantCalls(t, "PowerOff vm-1", "PowerOff vm-2", "Annotate vm-1", "Annotate vm-2")
	for i := 1; i <= 2; i++ {
		if o := of(t, res.Outcomes, i); o.Outcome != action.PoweredOff || !o.Annotated || !o.Forced {
			t.Errorf("VM %d: %+v", i, o)
		}
		if a := b.record(i); !a.Preempted || !a.ForcedShutdown || a.RoundID != "round-1" || a.InstanceUUID == "" || a.PreemptedAt.IsZero() {
			t.Errorf("VM %d carries %+v", i, a)
		}
	}
}

func TestASuspendedVMIsReportedAsSuspended(t *testing.T) {
	b := newBench(t, 1)
	res := b.evict(b.order(action.Suspend))
	b.vc.WantCalls(t, "Suspend vm-1", "Annotate vm-1")
	if o := of(t, res.Outcomes, 1); o.Outcome != action.Suspended || !o.Annotated {
		t.Errorf("%+v", o)
	}
}

func TestAGuestShutdownIsOnlySent(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.Obeys = false })
	res := b.evict(b.order(action.ShutdownGuest))
	b.vc.WantCalls(t, "ShutdownGuest vm-1")
	if len(res.Pending) != 1 || res.Pending[0].SentAt.IsZero() || res.Pending[0].Unasked || len(res.Outcomes) != 0 {
		t.Errorf("%+v", res)
	}
}

func TestAVMWithoutToolsIsSparedAndLosesItsPowerOnlyWhereThePolicyForces(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.ToolsRunning = false })
	in := b.order(action.ShutdownGuest)
	if o := of(t, b.evict(in).Outcomes, 1); o.Outcome != action.Spared || o.Reason != preemptapi.ReasonNoTools {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t)
	in.ForceTools = true
	if o := of(t, b.evict(in).Outcomes, 1); !o.Outcome.Ours() || o.Reason != preemptapi.ReasonForcedNoTools {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t, "PowerOff vm-1", "Annotate vm-1")
}

func TestAGuestWhoseToolsAreStartingIsAskedLater(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.ToolsStarting = true })
	b.vc.Fail = vcentertest.Failing("ShutdownGuest", vcenter.ToolsUnavailable, 1)
	res := b.evict(b.order(action.ShutdownGuest))
	if len(res.Pending) != 1 || !res.Pending[0].Unasked {
		t.Errorf("%+v", res)
	}
}

func TestAVMThatChangedSinceThePlanIsLeftAlone(t *testing.T) {
	for what, c := range map[string]struct {
		change  func(*bench)
		outcome action.Outcome
		reason  string
	}{
		"its tag was taken off":       {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Tagged = false }) }, action.Spared, string(policy.NotTagged)},
		"it was deleted":              {func(b *bench) { b.vc.Remove(1) }, action.Spared, string(policy.Gone)},
		"it became a template":        {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Template = true }) }, action.Spared, string(policy.Template)},
		"it moved to another cluster": {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Cluster.Value = "domain-c9" }) }, action.Spared, string(policy.OutOfScope)},
		"its host is not connected":   {func(b *bench) { b.vc.Set(1, func(vm *vcentertest.VM) { vm.Connected = false }) }, action.Spared, string(policy.NotConnected)},
		"an operation of others runs": {func(b *bench) {
			b.vc.Set(1, func(vm *vcentertest.VM) { vm.DisabledMethods = []string{"PowerOffVM_Task"} })
		}, action.Spared, string(policy.PendingOperation)},
		"its owner powered it off":     {func(b *bench) { b.vc.TurnOff(1, vcentertest.Owner) }, action.AlreadyOff, ""},
		"its guest went off by itself": {func(b *bench) { b.vc.TurnOff(1, "") }, action.AlreadyOff, ""},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 1)
			in := b.order(action.PowerOff)
			c.change(b)
			res := b.evict(in)
			b.vc.WantCalls(t)
			if o := of(t, res.Outcomes, 1); o.Outcome != c.outcome || o.Reason != c.reason {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestAWithdrawnRoundSparesWhatWasNotSent(t *testing.T) {
	b := newBench(t, 3)
	b.withdraw()
	res := b.evict(b.order(action.PowerOff))
	b.vc.WantCalls(t)
	for i := 1; i <= 3; i++ {
		if o := of(t, res.Outcomes, i); o.Outcome != action.Spared || o.Reason != preemptapi.ReasonWithdrawn {
			t.Errorf("VM %d: %+v", i, o)
		}
	}
}

func TestAWithdrawalInTheMiddleSparesTheRestAndRecordsWhatIsOff(t *testing.T) {
	b := newBench(t, 20)
	b.vc.After = func(call string, _ vsphere.Ref) {
		if call == "PowerOff" {
			b.withdraw()
		}
	}
	res := b.evict(b.order(action.PowerOff))
	off, spared := 0, 0
	for _, o := range res.Outcomes {
		switch {
		case o.Outcome == action.PoweredOff && o.Annotated:
			off++
		case o.Outcome == action.Spared && o.Reason == preemptapi.ReasonWithdrawn:
			spared++
		}
	}
	if off == 0 || off > 2*sendAtOnce || off+spared != 20 || b.vc.On() != spared {
		t.Errorf("%d off and %d spared of 20, and %d are on", off, spared, b.vc.On())
	}
}

func TestAnOutageBeforeAnythingWasSentIsLeftToTemporal(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("Recheck", vcenter.Unavailable, 100)
	_, err := do[ActResult](b, b.acts.EvictVMs, b.order(action.PowerOff))
	if vcentertest.TypeOf(err) != string(vcenter.Unavailable) {
		t.Errorf("unexpected %v", err)
	}
	b.vc.WantCalls(t)
}

func TestAStoppingWorkerHandsOverWhatItHasNotBegun(t *testing.T) {
	b := newBench(t, 1)
	b.stopWorker()
	_, err := do[ActResult](b, b.acts.EvictVMs, b.order(action.PowerOff))
	if err == nil || !strings.Contains(err.Error(), "hand over") {
		t.Errorf("unexpected %v", err)
	}
	b.vc.WantCalls(t)
}

func TestAnOutageInTheMiddleIsWaitedOut(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("PowerOff", vcenter.Unavailable, 2)
	res := b.evict(b.order(action.PowerOff))
	if o := of(t, res.Outcomes, 1); o.Outcome != action.PoweredOff || !o.Annotated {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t, "PowerOff vm-1", "Annotate vm-1")
}

func TestAPowerOffWhoseAnswerWasLostIsNotSentTwice(t *testing.T) {
	b := newBench(t, 1)
	var lost atomic.Bool
	b.vc.Fail = func(call string, _ vsphere.Ref) error {
		if call == "PowerOff" && !lost.Swap(true) {
			b.vc.TurnOff(1, vcentertest.User) // it arrived
			return vcentertest.Fault(vcenter.Unavailable)
		}
		return nil
	}
	res := b.evict(b.order(action.PowerOff))
	if o := of(t, res.Outcomes, 1); o.Outcome != action.PoweredOff || !o.Annotated {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t, "Annotate vm-1")
}

func TestAVMThatRefusesThreeTimesHasFailed(t *testing.T) {
	for kind, attempts := range map[vcenter.Kind]int{vcenter.TaskFailed: 3, vcenter.InvalidState: 2, vcenter.NoPermission: 1} {
		b := newBench(t, 1)
		tried := 0
		b.vc.Fail = func(call string, _ vsphere.Ref) error {
			if call != "PowerOff" {
				return nil
			}
			tried++
			return vcentertest.Fault(kind)
		}
		res := b.evict(b.order(action.PowerOff))
		if o := of(t, res.Outcomes, 1); o.Outcome != action.Failed || !strings.Contains(o.Reason, string(kind)) || tried != attempts {
			t.Errorf("%s: tried %d times: %+v", kind, tried, o)
		}
	}
}

func TestAVMThatIsDeletedWhileItIsPoweredOffIsSpared(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("PowerOff", vcenter.NotFound, 1)
	if o := of(t, b.evict(b.order(action.PowerOff)).Outcomes, 1); o.Outcome != action.Spared || o.Reason != string(policy.Gone) {
		t.Errorf("%+v", o)
	}
}

func TestAPowerOffThatTakesTooLongHasFailed(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.Hangs = true })
	if o := of(t, b.evict(b.order(action.PowerOff)).Outcomes, 1); o.Outcome != action.Failed || !strings.Contains(o.Reason, "did not say within") {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t, "PowerOff vm-1")
}

func TestAVMThatSomebodyPowersOnAgainIsNotPoweredOffTwice(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.OnAgain = true })
	if o := of(t, b.evict(b.order(action.PowerOff)).Outcomes, 1); o.Outcome != action.OnAgain || !strings.Contains(o.Reason, vcentertest.Owner) {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t, "PowerOff vm-1")
}

func TestAStalePlanIsNotActedUpon(t *testing.T) {
	b := newBench(t, 2)
	in := b.order(action.PowerOff)
	in.PlannedAt = time.Now().Add(-time.Hour)
	if res := b.evict(in); len(res.Replan) != 2 || len(res.Outcomes) != 0 {
		t.Errorf("%+v", res)
	}
	b.vc.WantCalls(t)
}

func TestALookTellsWhatBecameOfTheTargetsAndSendsNothing(t *testing.T) {
	b := newBench(t, 4)
	in := b.order(action.PowerOff)
	in.OnlyLook, in.StillOn = true, "still on"
	b.vc.TurnOff(1, vcentertest.User)
	b.vc.TurnOff(2, vcentertest.Owner)
	b.vc.TurnOff(3, "")
	res := b.evict(in)
	for i, want := range map[int]action.Outcome{1: action.PoweredOff, 2: action.AlreadyOff, 3: action.AlreadyOff, 4: action.Spared} {
		if o := of(t, res.Outcomes, i); o.Outcome != want {
			t.Errorf("VM %d: %+v, want %s", i, o, want)
		}
	}
	if o := of(t, res.Outcomes, 2); !strings.Contains(o.Reason, vcentertest.Owner) {
		t.Errorf("it does not say who: %+v", o)
	}
	b.vc.WantCalls(t, "Annotate vm-1")
}

func TestALookWaitsForAnOperationThatIsUnderWay(t *testing.T) {
	b := newBench(t, 1)
	in := b.order(action.PowerOff)
	in.OnlyLook, in.StillOn = true, "still on"
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.DisabledMethods = []string{"PowerOffVM_Task"} })
	time.AfterFunc(20*time.Millisecond, func() {
		b.vc.TurnOff(1, vcentertest.User)
		b.vc.Set(1, func(vm *vcentertest.VM) { vm.DisabledMethods = nil })
	})
	if o := of(t, b.evict(in).Outcomes, 1); o.Outcome != action.PoweredOff || !o.Annotated {
		t.Errorf("%+v", o)
	}
}

func TestAnActionThatNobodyHandlesPowersNothingOff(t *testing.T) {
	b := newBench(t, 1)
	if o := of(t, b.evict(b.order("hibernate")).Outcomes, 1); o.Outcome != action.Failed || !strings.Contains(o.Reason, "hibernate") {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t)
}

func TestAVMThatReachedItsDailyLimitMeanwhileIsSpared(t *testing.T) {
	b := newBench(t, 2)
	b.books.facts = func(ledger.FactsRequest) (ledger.Facts, error) {
		return ledger.Facts{Now: time.Now(), Preempted: map[string]int{vcentertest.Ref(1).String(): 1}}, nil
	}
	in := b.order(action.PowerOff)
	in.Detail, in.Policy.Protect.MaxPreemptionsPerDay = true, 1
	res := b.evict(in)
	if o := of(t, res.Outcomes, 1); o.Outcome != action.Spared || !strings.HasPrefix(o.Reason, string(policy.PreemptedOften)) {
		t.Errorf("%+v", o)
	}
	if o := of(t, res.Outcomes, 2); o.Outcome != action.PoweredOff {
		t.Errorf("%+v", o)
	}
}

func TestWithoutTheLedgerABudgetCannotBeCheckedAndNothingIsSent(t *testing.T) {
	b := newBench(t, 1)
	b.books.facts = func(ledger.FactsRequest) (ledger.Facts, error) {
		return ledger.Facts{}, vcentertest.Fault(vcenter.Unavailable)
	}
	in := b.order(action.PowerOff)
	in.Detail, in.Policy.Protect.MaxPreemptionsPerDay = true, 1
	if _, err := do[ActResult](b, b.acts.EvictVMs, in); vcentertest.TypeOf(err) != string(vcenter.Unavailable) {
		t.Errorf("unexpected %v", err)
	}
	b.vc.WantCalls(t)
}

func TestAnAttributeThatCannotBeWrittenIsPartOfTheOutcome(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("Annotate", vcenter.NoPermission, 10)
	if o := of(t, b.evict(b.order(action.PowerOff)).Outcomes, 1); o.Outcome != action.PoweredOff || o.Annotated || o.AnnotationError == "" {
		t.Errorf("%+v", o)
	}
}

func TestTheForceAfterAGuestShutdownIsReportedAsForced(t *testing.T) {
	b := newBench(t, 1)
	in := b.order(action.PowerOff)
	in.Targets[0].SentAt = time.Now().Add(-time.Minute)
	in.Policy.LateWatch = clock.Duration(time.Hour)
	if o := of(t, b.evict(in).Outcomes, 1); !o.Forced || !o.Outcome.Ours() {
		t.Errorf("%+v", o)
	}
}
