package round

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func targetsWith(priorities ...int) (list []ActTarget) {
	for i, p := range priorities {
		list = append(list, ActTarget{Target: policy.Target{Ref: vcentertest.Ref(i + 1), Priority: p}})
	}
	return list
}

func TestTargetsAreSharedInPartsOfOnePriority(t *testing.T) {
	for name, tc := range map[string]struct {
		list  []ActTarget
		event int
		want  string
	}{
		"one part is none":      {list: targetsWith(slices.Repeat([]int{1}, 50)...), want: ""},
		"two parts":             {list: targetsWith(slices.Repeat([]int{1}, 51)...), want: "1×50 1×1"},
		"two priorities":        {list: targetsWith(slices.Concat(slices.Repeat([]int{1}, 60), slices.Repeat([]int{2}, 100))...), want: "1×50 1×10 2×50 2×50"},
		"most parts would wait": {list: targetsWith(slices.Concat(slices.Repeat([]int{1}, 40), slices.Repeat([]int{2}, 40), slices.Repeat([]int{3}, 40))...), want: ""},
		"a large event is not carried by each of so many": {list: targetsWith(slices.Repeat([]int{1}, 200)...), event: 512 << 10, want: ""},
	} {
		var got []string
		for _, part := range sharesOf(tc.list, tc.event) {
			got = append(got, fmt.Sprintf("%d×%d", part[0].Priority, len(part)))
		}
		if text := strings.Join(got, " "); text != tc.want {
			t.Errorf("%s: %q, want %q", name, text, tc.want)
		}
	}
	if parts := sharesOf(targetsWith(make([]int, 5000)...), 0); len(parts) != mostShares {
		t.Errorf("5,000 VMs go in %d parts, want %d", len(parts), mostShares)
	}
}

// takes lets an eviction take so long by the workflow's clock if its first target is one of these; without any, each.
func (r *roundRun) takes(d time.Duration, first ...int) {
	r.OnActivity("EvictVMs", mock.Anything, mock.MatchedBy(func(in ActInput) bool {
		return len(first) == 0 || slices.Contains(first, vmNumber(in.Targets[0].Ref))
	})).Return(r.evictVMs).After(d)
}

// vmNumber is which of vcentertest's VMs it is.
func vmNumber(ref vsphere.Ref) (n int) {
	for n = 1; vcentertest.Ref(n) != ref; n++ {
	}
	return n
}

// firsts are the first targets of the first parts.
func firsts(parts int) (list []int) {
	for k := range parts {
		list = append(list, 1+leastShare*k)
	}
	return list
}

// inOneOutcome checks that each of n VMs is in exactly one outcome, in the plan's order.
func inOneOutcome(t *testing.T, res preemptapi.RoundResult, n int) {
	t.Helper()
	if len(res.Targets) != n || len(res.Waiting) != 0 {
		t.Fatalf("%d outcomes and %d without, want %d", len(res.Targets), len(res.Waiting), n)
	}
	for i, o := range res.Targets {
		if o.Ref != vcentertest.Ref(i+1) {
			t.Fatalf("outcome %d is of %s, want the plan's order", i, o.Ref)
		}
	}
}

func TestManyTargetsAreSharedAmongTheWorkers(t *testing.T) {
	r := newRoundRun(t, 600, preemption.CriticalityHigh)
	r.takes(time.Second)
	res := r.run()
	inOneOutcome(t, res, 600)
	if res.State != preemptapi.RoundCompleted || len(res.Preempted()) != 600 || len(r.evictions) != 12 {
		t.Errorf("%s: %d VMs in %d parts", res.State, len(res.Preempted()), len(r.evictions))
	}
	if took := r.Now().Sub(r.began); took > 3*time.Second {
		t.Errorf("12 parts of a second each took %s: they do not go side by side", took)
	}
	if len(r.completed) != 1 || len(r.completed[0].Evicted) != 600 {
		t.Errorf("the ledger was told of %+v", r.completed)
	}
}

func TestGuestsOfManyPartsAreAwaitedTogetherInThePlansOrder(t *testing.T) {
	r := newRoundRun(t, 120, preemption.CriticalityMedium)
	r.takes(3*time.Second, 1)
	r.takes(time.Second)
	r.onAwait = shutDown
	res := r.run()
	inOneOutcome(t, res, 120)
	if len(r.waits) != 1 || len(r.waits[0].Pending) != 120 || r.waits[0].Pending[0].Ref != vcentertest.Ref(1) {
		t.Errorf("%d waits, the first for %d guests", len(r.waits), len(r.waits[0].Pending))
	}
}

func TestBudgetsCountAllThatIsInHandBeforeAPart(t *testing.T) {
	r := newRoundRun(t, 1200, preemption.CriticalityHigh)
	r.in.Demand.Policy.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 2000}}}
	r.takes(2*time.Second, 1) // the first ends last
	r.takes(time.Second)
	res := r.run()
	inOneOutcome(t, res, 1200)
	told := map[string]bool{}
	for _, req := range r.recorded {
		for _, e := range req.Evicted {
			told[e.VM] = true
		}
	}
	if len(told) != 1200 {
		t.Errorf("the ledger was told of %d VMs as they went, want 1200", len(told))
	}
	sizes := map[int]int{} // by the number of the first target: what was in hand before
	for _, in := range r.evictions {
		sizes[vmNumber(in.Targets[0].Ref)] = len(in.UnderWay)
		if !in.Detail || slices.Contains(in.UnderWay, in.Targets[0].Ref.String()) {
			t.Errorf("%+v", in)
		}
	}
	for k := range 20 { // the first twenty begin together
		if got := sizes[1+50*k]; got != 50*k {
			t.Errorf("the part from VM %d counts %d before it, want %d", 1+50*k, got, 50*k)
		}
	}
	for k := 20; k < 24; k++ { // the ledger knows those that have ended
		if got := sizes[1+50*k]; got < 50 || got > 50*19 {
			t.Errorf("the part from VM %d counts %d in hand", 1+50*k, got)
		}
	}
}

func TestWhatTheLedgerWasNotToldOfCountsForTheBudgets(t *testing.T) {
	r := newRoundRun(t, 250, preemption.CriticalityHigh)
	r.in.Demand.Policy.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 1000}}}
	r.takes(time.Second)
	r.onRecord = func() error { return temporal.NewNonRetryableApplicationError("no ledger", "Away", nil) }
	r.run()
	for _, in := range r.evictions {
		if first := vmNumber(in.Targets[0].Ref); len(in.UnderWay) != first-1 {
			t.Errorf("the part from VM %d counts %d VMs before it", first, len(in.UnderWay))
		}
	}
}

func TestAHigherPriorityWaitsForTheLowerOnes(t *testing.T) {
	r := newRoundRun(t, 200, preemption.CriticalityHigh)
	r.onPlan = func(_ PlanInput, p *PlanResult) error {
		for i := range p.Targets {
			p.Targets[i].Priority = 1 + i/100
		}
		return nil
	}
	r.takes(3*time.Second, 1)
	r.takes(time.Second)
	var order []int
	r.onEvict = func(in ActInput, out *ActResult) error {
		order = append(order, vmNumber(in.Targets[0].Ref))
		for _, t := range in.Targets {
			out.Outcomes = append(out.Outcomes, outcome(t, action.PoweredOff))
		}
		return nil
	}
	inOneOutcome(t, r.run(), 200)
	slices.Sort(order[:2])
	if took := r.Now().Sub(r.began); took < 4*time.Second || order[0] != 1 || order[1] != 51 {
		t.Errorf("after %s the order is %v, want the lower priority to end first", took, order)
	}
}

func TestAPartThatTakesLongHoldsUpNoOther(t *testing.T) {
	r := newRoundRun(t, 1500, preemption.CriticalityHigh)
	r.takes(time.Minute, firsts(20)...) // as many as are in hand at once
	r.takes(time.Second)
	last := time.Duration(0)
	r.onEvict = func(in ActInput, out *ActResult) error {
		if vmNumber(in.Targets[0].Ref) > 951 {
			last = r.Now().Sub(r.began)
		}
		for _, t := range in.Targets {
			out.Outcomes = append(out.Outcomes, outcome(t, action.PoweredOff))
		}
		return nil
	}
	inOneOutcome(t, r.run(), 1500)
	if last == 0 || last > 20*time.Second {
		t.Errorf("the last of the others began after %s", last)
	}
}

func TestAWithdrawalInTheMiddleSparesWhatWasNotBegunAndSettlesTheRest(t *testing.T) {
	r := newRoundRun(t, 1400, preemption.CriticalityHigh)
	r.takes(2*time.Second, firsts(20)...)
	r.takes(time.Millisecond)
	r.after(time.Second, r.change(Change{Withdraw: true, Reason: "the alarm fell"}))
	res := r.run()
	inOneOutcome(t, res, 1400)
	if res.State != preemptapi.RoundWithdrawn || r.Now().Sub(r.began) > 5*time.Second {
		t.Errorf("%s after %s", res.State, r.Now().Sub(r.began))
	}
	for _, in := range r.evictions {
		if !in.OnlyLook && vmNumber(in.Targets[0].Ref) > 951 {
			t.Errorf("the part from VM %d began after the withdrawal", vmNumber(in.Targets[0].Ref))
		}
	}
	for _, o := range res.Targets[1000:] {
		if o.Outcome != action.Spared || o.Reason != policy.Because(policy.Withdrawn) {
			t.Fatalf("%+v", o)
		}
	}
}

func TestAPartThatEndsWithoutAnAnswerIsLookedUpBesideTheOthers(t *testing.T) {
	r := newRoundRun(t, 200, preemption.CriticalityHigh)
	r.onEvict = func(in ActInput, out *ActResult) error {
		if first := vmNumber(in.Targets[0].Ref); first == 51 && !in.OnlyLook {
			return temporal.NewNonRetryableApplicationError("the worker died", "Died", nil)
		}
		for i, t := range in.Targets {
			o := outcome(t, action.PoweredOff)
			if in.OnlyLook && i > 0 {
				o.Outcome, o.Reason = action.Spared, in.StillOn
			}
			out.Outcomes = append(out.Outcomes, o)
		}
		return nil
	}
	res := r.run()
	inOneOutcome(t, res, 200)
	if res.Count(action.PoweredOff) != 151 || res.Count(action.Failed) != 49 || res.State != preemptapi.RoundPartial {
		t.Errorf("%s: %d off, %d failed", res.State, res.Count(action.PoweredOff), res.Count(action.Failed))
	}
}

func TestPartsThatWentStaleAreInANewPlanTogether(t *testing.T) {
	r := newRoundRun(t, 200, preemption.CriticalityHigh)
	r.onEvict = func(in ActInput, out *ActResult) error {
		if len(r.plans) == 1 && vmNumber(in.Targets[0].Ref) > 100 {
			out.Replan = in.Targets
			return nil
		}
		for _, t := range in.Targets {
			out.Outcomes = append(out.Outcomes, outcome(t, action.PoweredOff))
		}
		return nil
	}
	r.onPlan = func(in PlanInput, p *PlanResult) error {
		p.Targets = slices.DeleteFunc(p.Targets, func(t policy.Target) bool { return slices.Contains(in.Held, t.Ref) })
		return nil
	}
	res := r.run()
	inOneOutcome(t, res, 200)
	if len(r.plans) != 2 || r.plans[1].Already != 100 || len(res.Preempted()) != 200 {
		t.Errorf("%d plans, the second with %d already", len(r.plans), r.plans[1].Already)
	}
}
