package round

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// asked are the VMs of the bench, whose guests were asked to shut down a minute ago, and that are not off by themselves.
func (b *bench) asked() AwaitInput {
	in := AwaitInput{RoundID: "round-1", Pending: b.targets(), Attribute: preempt.Attribute{RoundID: "round-1"}, Asked: time.Now()}
	for i := range in.Pending {
		in.Pending[i].SentAt = time.Now().Add(-time.Minute)
		b.vc.Set(i+1, func(vm *vcentertest.VM) { vm.Obeys = false })
	}
	return in
}

func (b *bench) await(in AwaitInput) AwaitResult {
	b.t.Helper()
	return must[AwaitResult](b, b.acts.AwaitVMs, in)
}

func TestEachGuestThatShutsDownIsRecordedAsOurs(t *testing.T) {
	b := newBench(t, 2)
	in := b.asked()
	b.vc.TurnOff(1, "")
	time.AfterFunc(10*time.Millisecond, func() { b.vc.TurnOff(2, "") })
	res := b.await(in)
	for i := 1; i <= 2; i++ {
		if o := of(t, res.Outcomes, i); o.Outcome != action.ShutDown || !o.Annotated || o.Forced || b.record(i).ForcedShutdown {
			t.Errorf("VM %d: %+v", i, o)
		}
	}
	if len(res.Pending) != 0 {
		t.Errorf("%+v", res)
	}
}

func TestWhenTheGraceIsOverThoseThatAreStillOnAreNamed(t *testing.T) {
	b := newBench(t, 2)
	in := b.asked()
	b.vc.TurnOff(1, "")
	time.AfterFunc(20*time.Millisecond, b.withdraw)
	res := b.await(in)
	if of(t, res.Outcomes, 1).Outcome != action.ShutDown || len(res.Pending) != 1 || res.Pending[0].Ref != vcentertest.Ref(2) || res.Unseen {
		t.Errorf("%+v", res)
	}
	b.vc.WantCalls(t, "Annotate vm-1")
}

func TestWhileVCenterIsAwayNobodyKnowsWhoIsOff(t *testing.T) {
	b := newBench(t, 1)
	in := b.asked()
	b.vc.Fail = vcentertest.Failing("State", vcenter.Unavailable, 100)
	b.withdraw()
	if res := b.await(in); !res.Unseen || len(res.Pending) != 1 {
		t.Errorf("%+v", res)
	}
}

func TestAStoppingWorkerHandsTheWaitOver(t *testing.T) {
	b := newBench(t, 1)
	in := b.asked()
	time.AfterFunc(10*time.Millisecond, b.stopWorker)
	if _, err := do[AwaitResult](b, b.acts.AwaitVMs, in); err == nil || !strings.Contains(err.Error(), "another worker goes on") {
		t.Errorf("unexpected %v", err)
	}
}

func TestAVMWhosePowerItsOwnerCutIsNotOurs(t *testing.T) {
	b := newBench(t, 2)
	in := b.asked()
	b.vc.TurnOff(1, vcentertest.Owner)
	b.vc.Remove(2)
	res := b.await(in)
	if o := of(t, res.Outcomes, 1); o.Outcome != action.AlreadyOff || !strings.Contains(o.Reason.String(), vcentertest.Owner) {
		t.Errorf("%+v", o)
	}
	if o := of(t, res.Outcomes, 2); o.Outcome != action.Spared || o.Reason != policy.Because(policy.Gone) {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t)
}

func TestALateGuestThatAnotherRoundTookIsNotClaimed(t *testing.T) {
	for what, took := range map[string]func(*bench){
		"by its attribute": func(b *bench) {
			text, _ := json.Marshal(preempt.Attribute{Preempted: true, RoundID: "round-2", PreemptedAt: time.Now()})
			b.vc.Set(1, func(vm *vcentertest.VM) { vm.Attributes[preemption.AttributeKey] = string(text) })
		},
		"by the ledger": func(b *bench) {
			held := []string{vcentertest.Ref(1).String()}
			b.books.facts = func(ledger.FactsRequest) (f ledger.Facts, _ error) {
				f.Evictions = []ledger.Eviction{{VM: vcentertest.Ref(1).String(), Time: time.Now()}}
				f.Reserved, held = held, nil // first the other round still holds it
				return f, nil
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 1)
			in := b.asked()
			in.Evidence = true
			took(b)
			b.vc.TurnOff(1, vcentertest.User)
			if o := of(t, b.await(in).Outcomes, 1); o.Outcome != action.AlreadyOff || !strings.Contains(o.Reason.String(), "later round") {
				t.Errorf("%+v", o)
			}
			b.vc.WantCalls(t)
		})
	}
}

func TestAGuestWhoseToolsWereStartingIsAskedAsSoonAsTheyRun(t *testing.T) {
	b := newBench(t, 1)
	in := b.asked()
	in.Ask, in.Pending[0].Unasked = true, true
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.Obeys = true })
	b.vc.Fail = vcentertest.Failing("ShutdownGuest", vcenter.ToolsUnavailable, 2)
	if o := of(t, b.await(in).Outcomes, 1); o.Outcome != action.ShutDown || !o.Annotated {
		t.Errorf("%+v", o)
	}
	b.vc.WantCalls(t, "ShutdownGuest vm-1", "Annotate vm-1")
}

func TestAGuestIsNotAskedWhenTheRoundWasWithdrawn(t *testing.T) {
	b := newBench(t, 1)
	in := b.asked()
	in.Pending[0].Unasked = true
	time.AfterFunc(20*time.Millisecond, b.withdraw)
	if res := b.await(in); len(res.Pending) != 1 || !res.Pending[0].Unasked {
		t.Errorf("%+v", res)
	}
	b.vc.WantCalls(t)
}
