package round

import (
	"slices"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func ladderOf(first time.Duration, then action.Action) policy.Treatment {
	return policy.Treatment{Steps: []policy.Step{
		{Action: action.Throttle, Throttle: *toAQuarter(), For: clock.Duration(first)}, {Action: then},
	}}
}

// newLadderRun climbs from a throttle of two VMs to a suspension of as many of them as still names, by MoRef.
func newLadderRun(t *testing.T, still ...int) *roundRun {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	var treatment policy.Treatment
	r.throttles(&treatment)
	r.in.Demand.Policy.Target = policy.Goal{CPU: 80}
	r.in.Demand.Policy.Criticality.High = ladderOf(2*time.Minute, action.Suspend)
	first := r.onPlan
	r.onPlan = func(in PlanInput, out *PlanResult) error {
		out.Shortfall = policy.Resources{CPUMHz: 1000}
		if in.Climb {
			out.Targets = slices.DeleteFunc(out.Targets, func(t policy.Target) bool {
				return !slices.ContainsFunc(still, func(i int) bool { return t.Ref == vcentertest.Ref(i) })
			})
			if len(still) == 0 {
				out.Shortfall = policy.Resources{}
			}
		}
		return first(in, out)
	}
	return r
}

// acts are the actions of the round, each with how long after its beginning and how many VMs.
func (r *roundRun) acts() (list []action.Action) {
	for _, in := range r.evictions {
		list = append(list, in.Action)
	}
	return list
}

func TestALadderTakesTheNextStepAfterItsTimeForThoseStillNeeded(t *testing.T) {
	r := newLadderRun(t, 2)
	var at []time.Duration
	r.atPlan = func() { at = append(at, r.Now().Sub(r.began)) }
	res := r.run()
	if !slices.Equal(r.acts(), []action.Action{action.Throttle, action.Suspend}) || len(r.evictions[1].Targets) != 1 || !r.evictions[1].Climb {
		t.Fatalf("%v", r.acts())
	}
	if len(at) != 2 || at[1] < 2*time.Minute || at[1] > 3*time.Minute {
		t.Errorf("planned after %v", at)
	}
	both := []vsphere.Ref{vcentertest.Ref(1), vcentertest.Ref(2)}
	if in := r.plans[1]; !in.Climb || !in.Repeat || !slices.Equal(in.Only, both) || len(in.Held) != 0 || in.Already != 0 || in.Throttle != nil || len(in.Going) != 2 {
		t.Errorf("the next step is planned with %+v", in)
	}
	if res.State != preemptapi.RoundCompleted || of(t, res.Targets, 1).Outcome != action.Throttled || of(t, res.Targets, 2).Outcome != action.Suspended || len(res.Targets) != 2 {
		t.Errorf("%+v", res.Targets)
	}
	if len(r.recorded) != 2 || len(r.recorded[1].Evicted) != 1 || r.recorded[1].Evicted[0].StaysOn || len(r.completed[0].Evicted) != 2 {
		t.Errorf("the ledger is told %+v, in the end %+v", r.recorded, r.completed)
	}
}

func TestALadderStopsWhereTheShortfallIsGone(t *testing.T) {
	r := newLadderRun(t)
	res := r.run()
	if !slices.Equal(r.acts(), []action.Action{action.Throttle}) || len(r.plans) != 2 || res.State != preemptapi.RoundCompleted || res.Count(action.Throttled) != 2 {
		t.Errorf("%v, %d plans: %+v", r.acts(), len(r.plans), res)
	}
}

func TestAFallEndsALadder(t *testing.T) {
	r := newLadderRun(t, 1, 2)
	r.after(time.Minute, r.change(Change{Withdraw: true, Reason: "green"}))
	res := r.run()
	if !slices.Equal(r.acts(), []action.Action{action.Throttle}) || res.State != preemptapi.RoundWithdrawn || res.Count(action.Throttled) != 2 || r.Now().Sub(r.began) > 90*time.Second {
		t.Errorf("%v after %s: %+v", r.acts(), r.Now().Sub(r.began), res)
	}
}

func TestARiseShortensALadder(t *testing.T) {
	for what, c := range map[string]struct {
		high policy.Treatment
		want action.Action
		by   time.Duration
	}{
		"to a shorter time":             {ladderOf(2*time.Minute, action.Suspend), action.Suspend, 3 * time.Minute},
		"to a time that is over":        {ladderOf(30*time.Second, action.Suspend), action.Suspend, 90 * time.Second},
		"to an action without a ladder": {policy.Treatment{Action: action.PowerOff}, action.PowerOff, 90 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			r := newLadderRun(t, 1, 2)
			r.in.Demand.Criticality = preemption.CriticalityLow
			r.in.Demand.Policy.Criticality.Low, r.in.Demand.Policy.Criticality.High = ladderOf(10*time.Minute, action.ShutdownGuest), c.high
			r.after(time.Minute, r.change(Change{Criticality: preemption.CriticalityHigh, Reason: "red"}))
			r.run()
			if took := r.Now().Sub(r.began); !slices.Equal(r.acts(), []action.Action{action.Throttle, c.want}) || took > c.by {
				t.Errorf("%v after %s", r.acts(), took)
			}
		})
	}
}

func TestAStepThatPassesAllVMsByCostsNoTime(t *testing.T) {
	r := newLadderRun(t, 1)
	first := r.onPlan
	r.onPlan = func(in PlanInput, out *PlanResult) error {
		err := first(in, out)
		if in.Throttle != nil { // only memory is short
			out.Targets = nil
		}
		return err
	}
	res := r.run()
	if !slices.Equal(r.acts(), []action.Action{action.Suspend}) || len(r.plans[1].Only) != 0 || r.Now().Sub(r.began) > time.Minute || res.Count(action.Suspended) != 1 {
		t.Errorf("%v after %s: %+v", r.acts(), r.Now().Sub(r.began), r.plans)
	}
}

func TestAVMThatTheNextStepCannotTakeStaysReportedAsThrottled(t *testing.T) {
	r := newLadderRun(t, 1, 2)
	act := r.onEvict
	r.onEvict = func(in ActInput, out *ActResult) error {
		if in.Action == action.Throttle {
			return act(in, out)
		}
		one, two := outcome(in.Targets[0], action.Failed), outcome(in.Targets[1], action.Spared)
		one.Reason, two.Reason = policy.InWords("no permission"), policy.Because(policy.PendingOperation)
		out.Outcomes = append(out.Outcomes, one, two)
		return nil
	}
	res := r.run()
	if res.Count(action.Throttled) != 2 || !strings.Contains(of(t, res.Targets, 1).Reason.String(), "no permission") || res.State != preemptapi.RoundCompleted {
		t.Errorf("%+v", res)
	}
}

func TestADryRunOfALadderShowsItsFirstStep(t *testing.T) {
	r := newLadderRun(t, 1, 2)
	r.in.Demand.DryRun = true
	if res := r.run(); len(r.plans) != 1 || res.Count(action.Would(action.Throttle)) != 2 {
		t.Errorf("%+v", res.Targets)
	}
}

func TestAFurtherStepIsPlannedOnlyWhereUsageCanBeMeasured(t *testing.T) {
	b := newBench(t, 3)
	d := demand()
	in := PlanInput{Demand: d, RoundID: "round-1", Climb: true, Repeat: true, Only: []vsphere.Ref{vcentertest.Ref(1), vcentertest.Ref(2)}}
	if plan := b.plan(in); len(plan.Targets) != 0 || !plan.Unmeasured {
		t.Errorf("without a target: %+v", plan)
	}
	in.Demand.Policy.Target = policy.Goal{CPU: 50}
	if plan := b.plan(in); len(plan.Targets) != 2 || plan.Spared[0].Reason != policy.NotOfThisStep {
		t.Errorf("with a target: %+v", plan)
	}
}

func TestBudgetsCountAVMOfALadderOnce(t *testing.T) {
	b := newBench(t, 2)
	d := demand()
	d.Policy.Target = policy.Goal{CPU: 50}
	d.Policy.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 2}}}
	d.Policy.Protect.MaxPreemptionsPerDay = 1
	one, two := vcentertest.Ref(1), vcentertest.Ref(2)
	b.books.facts = func(ledger.FactsRequest) (ledger.Facts, error) {
		return ledger.Facts{
			Now: time.Now(), Version: 1, Preempted: map[string]int{one.String(): 1, two.String(): 1},
			Evictions: []ledger.Eviction{{VM: one.String(), Time: time.Now()}, {VM: two.String(), Time: time.Now()}},
		}, nil
	}
	plan := b.plan(PlanInput{Demand: d, RoundID: "round-1", Climb: true, Only: []vsphere.Ref{one, two}})
	if len(plan.Targets) != 2 {
		t.Errorf("%+v", plan)
	}
	act := b.order(action.PowerOff)
	act.Policy, act.Detail = d.Policy, true
	if res := b.evict(act); of(t, res.Outcomes, 1).Outcome != action.Spared {
		t.Errorf("as an eviction of its own it is beyond the budget: %+v", res)
	}
	act.Climb = true
	if res := b.evict(act); of(t, res.Outcomes, 1).Outcome != action.PoweredOff || of(t, res.Outcomes, 2).Outcome != action.PoweredOff {
		t.Errorf("as a further step: %+v", res)
	}
}
