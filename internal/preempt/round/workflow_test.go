package round

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

func TestAHighAlarmPowersItsTargetsOffAtOnceAndTellsEverybody(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	res := r.run()
	if res.State != preemptapi.RoundCompleted || len(res.Preempted()) != 2 || r.poweredOff() != 2 || res.FreedCPUMHz != 2000 || !res.ReplySent {
		t.Errorf("%+v", res)
	}
	if len(r.replies) != 1 || r.replies[0].ID != "intake-1-event-1" || len(r.replies[0].VMs) != 2 {
		t.Errorf("replies %+v", r.replies)
	}
	if len(r.completed) != 1 || r.completed[0].Preempted != 2 || len(r.completed[0].Evicted) != 2 || r.completed[0].Rank != preemption.CriticalityHigh.Rank() {
		t.Errorf("the ledger was told %+v", r.completed)
	}
	if len(r.told) == 0 || r.told[0].State != preemptapi.RoundCompleted {
		t.Errorf("the intake was told %+v", r.told)
	}
}

func TestAMediumAlarmPowersOffWhatIgnoresItsShutdownWhenTheGraceIsOver(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityMedium)
	res := r.run()
	if res.State != preemptapi.RoundCompleted || r.poweredOff() != 2 || !res.Targets[0].Forced {
		t.Errorf("%+v", res)
	}
	if waited := r.Now().Sub(r.began); waited < 5*time.Minute || waited > 10*time.Minute {
		t.Errorf("it took %s, and the grace period is 5 minutes", waited)
	}
}

func TestAGuestThatShutsDownInTimeIsNotPoweredOff(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityMedium)
	r.onAwait = shutDown
	res := r.run()
	if res.State != preemptapi.RoundCompleted || r.poweredOff() != 0 || res.Count(action.ShutDown) != 2 {
		t.Errorf("%+v", res)
	}
}

func TestALowAlarmSparesWhatIgnoresItsShutdownAndClaimsItIfItGoesLate(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityLow)
	r.onAwait = func(in AwaitInput) AwaitResult {
		if in.Evidence {
			return shutDown(in)
		}
		return AwaitResult{Pending: in.Pending}
	}
	res := r.run()
	if res.State != preemptapi.RoundCompleted || r.poweredOff() != 0 || res.Count(action.ShutDown) != 1 {
		t.Errorf("%+v", res)
	}
	if r.told[0].Targets[0].Reason != policy.Because(policy.GuestIgnored) || len(r.completed) != 1 || r.completed[0].Preempted != 0 {
		t.Errorf("first the intake was told %+v and the ledger %+v", r.told[0], r.completed)
	}
	if len(r.replies) != 1 || !strings.HasSuffix(r.replies[0].ID, "-late") {
		t.Errorf("replies %+v", r.replies)
	}
}

func TestARaiseWhileGuestsShutDownPowersThemOffAtOnce(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityLow)
	r.after(90*time.Second, r.change(Change{Criticality: preemption.CriticalityHigh, Reason: "the alarm is red"}))
	res := r.run()
	if r.poweredOff() != 1 || res.Criticality != preemption.CriticalityHigh || r.Now().Sub(r.began) > 4*time.Minute {
		t.Errorf("after %s: %+v", r.Now().Sub(r.began), res)
	}
}

func TestAWithdrawalWhileGuestsShutDownPowersNothingOff(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityMedium)
	r.after(90*time.Second, r.change(Change{Withdraw: true, Reason: "the alarm fell"}))
	res := r.run()
	if res.State != preemptapi.RoundWithdrawn || r.poweredOff() != 0 || res.Targets[0].Reason != policy.Because(policy.OnAtWithdraw) {
		t.Errorf("%+v", res)
	}
}

func TestACancelledRoundIsAWithdrawnOne(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityMedium)
	r.after(90*time.Second, r.CancelWorkflow)
	if res := r.run(); res.State != preemptapi.RoundWithdrawn || r.poweredOff() != 0 {
		t.Errorf("%+v", res)
	}
}

func TestAWithdrawalBeforeTheFirstCallSparesAll(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.atPlan = r.change(Change{Withdraw: true, Reason: "the alarm fell"})
	res := r.run()
	if res.State != preemptapi.RoundWithdrawn || len(r.evictions) != 0 || len(res.Preempted()) != 0 {
		t.Errorf("%+v", res)
	}
}

func TestASofterAlarmSparesWhatWouldHaveBeenForced(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityMedium)
	r.after(90*time.Second, r.change(Change{Soften: true, Criticality: preemption.CriticalityLow, Reason: "yellow"}))
	r.after(100*time.Second, r.change(Change{Soften: true, Criticality: preemption.CriticalityHigh, Reason: "no softer"}))
	if res := r.run(); r.poweredOff() != 0 || res.Count(action.Spared) != 1 || len(res.Changes) != 1 {
		t.Errorf("%+v", res)
	}
}

func TestADryRunAndAnObservingPolicyTouchNothing(t *testing.T) {
	for state, set := range map[preemptapi.RoundState]func(*roundRun){
		preemptapi.RoundPlanned:  func(r *roundRun) { r.in.Demand.DryRun = true },
		preemptapi.RoundObserved: func(r *roundRun) { r.in.Demand.Policy.Mode = policy.ModeObserve },
	} {
		r := newRoundRun(t, 2, preemption.CriticalityHigh)
		set(r)
		res := r.run()
		if what, would := res.Targets[0].Outcome.Would(); res.State != state || len(r.evictions) != 0 || r.plans[0].Reserve || !would || what == "" {
			t.Errorf("%s: %+v", state, res)
		}
	}
}

func TestThePlanWorkflowPlansWithoutAnIntake(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.in.IntakeID = ""
	r.RegisterWorkflow(dryRun)
	r.ExecuteWorkflow(dryRun, r.in)
	var res preemptapi.RoundResult
	if err := r.GetWorkflowResult(&res); err != nil || res.State != preemptapi.RoundPlanned || len(r.evictions) != 0 || len(r.told) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func dryRun(ctx workflow.Context, in Input) (preemptapi.RoundResult, error) { return DryRun(ctx, in) }

func TestARoundThatCannotPlanFailsWithItsResult(t *testing.T) {
	for kind, person := range map[string]bool{preemptapi.TagNotFound: true, string("Unknown"): false} {
		r := newRoundRun(t, 0, preemption.CriticalityHigh)
		r.in.Demand.Person = person
		r.onPlan = func(PlanInput, *PlanResult) error {
			return temporal.NewNonRetryableApplicationError("there is no such tag", kind, nil)
		}
		res := r.run()
		if res.State != preemptapi.RoundFailed || res.Reason != "there is no such tag" || len(r.completed) != 1 || len(r.told) != 1 {
			t.Errorf("%s: %+v", kind, res)
		}
	}
}

func TestARoundWithoutTargetsSaysWhy(t *testing.T) {
	for state, set := range map[preemptapi.RoundState]func(*PlanResult){
		preemptapi.RoundEmpty:     func(*PlanResult) {},
		preemptapi.RoundHeld:      func(p *PlanResult) { p.Silenced = "acknowledged" },
		preemptapi.RoundWithdrawn: func(p *PlanResult) { p.Over = "green since" },
	} {
		r := newRoundRun(t, 0, preemption.CriticalityHigh)
		r.onPlan = func(_ PlanInput, p *PlanResult) error { set(p); return nil }
		if res := r.run(); res.State != state || res.Reason == "" || len(r.evictions) != 0 {
			t.Errorf("%s: %+v", state, res)
		}
	}
}

func TestFailedVMsMakeTheRoundPartialOrFailed(t *testing.T) {
	for failed, state := range map[int]preemptapi.RoundState{1: preemptapi.RoundPartial, 2: preemptapi.RoundFailed} {
		r := newRoundRun(t, 2, preemption.CriticalityHigh)
		r.onEvict = func(in ActInput, out *ActResult) error {
			for i, t := range in.Targets {
				what := action.PoweredOff
				if i < failed {
					what = action.Failed
				}
				out.Outcomes = append(out.Outcomes, outcome(t, what))
			}
			return nil
		}
		if res := r.run(); res.State != state || !strings.Contains(res.Reason, "failed") {
			t.Errorf("%d failed: %+v", failed, res)
		}
	}
}

func TestAnEvictionThatEndsWithoutAnAnswerIsLookedUp(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.onEvict = func(in ActInput, out *ActResult) error {
		if !in.OnlyLook {
			return temporal.NewNonRetryableApplicationError("the worker died", "Died", nil)
		}
		o := outcome(in.Targets[0], action.Spared)
		o.Reason = in.StillOn
		out.Outcomes = []preemptapi.VMOutcome{o, outcome(in.Targets[1], action.PoweredOff)}
		return nil
	}
	res := r.run()
	if res.Count(action.Failed) != 1 || res.Count(action.PoweredOff) != 1 || len(r.evictions) != 2 || !r.evictions[1].OnlyLook {
		t.Errorf("%+v", res)
	}
	r = newRoundRun(t, 1, preemption.CriticalityHigh)
	r.onEvict = func(ActInput, *ActResult) error {
		return temporal.NewNonRetryableApplicationError("no vCenter", "Gone", nil)
	}
	if res := r.run(); res.State != preemptapi.RoundFailed || !strings.Contains(res.Targets[0].Reason.String(), "look at the VM") {
		t.Errorf("%+v", res)
	}
}

func TestAPlanThatWentStaleIsMadeAnew(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.onEvict = func(in ActInput, out *ActResult) error {
		if len(r.evictions) == 1 {
			out.Outcomes, out.Replan = []preemptapi.VMOutcome{outcome(in.Targets[0], action.PoweredOff)}, in.Targets[1:]
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
	if res.State != preemptapi.RoundCompleted || len(res.Preempted()) != 2 || len(r.plans) != 2 || r.plans[1].Already != 1 || len(r.plans[1].Going) != 1 {
		t.Errorf("%+v after the plans %+v", res, r.plans)
	}
}

func TestANewPlanThatFailsLeavesWhatWasDone(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.onEvict = func(in ActInput, out *ActResult) error {
		out.Outcomes, out.Replan = []preemptapi.VMOutcome{outcome(in.Targets[0], action.PoweredOff)}, in.Targets[1:]
		return nil
	}
	r.onPlan = func(PlanInput, *PlanResult) error {
		if len(r.plans) > 1 {
			return temporal.NewNonRetryableApplicationError("the tag is gone", preemptapi.TagNotFound, nil)
		}
		return nil
	}
	if res := r.run(); res.State != preemptapi.RoundPartial || len(res.Preempted()) != 1 || !strings.Contains(res.Reason, "the tag is gone") {
		t.Errorf("%+v", res)
	}
}

func TestOthersGoForTargetsThatCouldNotWhereAShortfallIsToBeCovered(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.in.Demand.Policy.Target = policy.Goal{CPU: 80}
	r.onEvict = func(in ActInput, out *ActResult) error {
		out.Outcomes = []preemptapi.VMOutcome{outcome(in.Targets[0], action.Failed)}
		if in.Targets[0].Ref == vcentertest.Ref(9) {
			out.Outcomes[0].Outcome = action.PoweredOff
		}
		return nil
	}
	r.onPlan = func(_ PlanInput, p *PlanResult) error {
		if len(r.plans) > 1 {
			p.Targets[0].Ref = vcentertest.Ref(9)
		}
		return nil
	}
	res := r.run()
	if res.State != preemptapi.RoundPartial || len(r.plans) != 2 || len(res.Preempted()) != 1 || len(r.recorded) != 1 {
		t.Errorf("%+v, recorded %+v", res, r.recorded)
	}
}

func TestManyTargetsAreEvictedInParts(t *testing.T) {
	r := newRoundRun(t, 1200, preemption.CriticalityMedium)
	r.in.Demand.Event = []byte(`{"pad":"` + strings.Repeat("x", 600<<10) + `"}`)
	r.onAwait = shutDown
	res := r.run()
	if len(r.evictions) != 3 || len(r.waits) != 3 || len(r.evictions[1].UnderWay) != 500 || len(res.Preempted()) != 1200 {
		t.Errorf("%d evictions, %d waits, %d VMs", len(r.evictions), len(r.waits), len(res.Preempted()))
	}
	if last := r.told[len(r.told)-1]; !last.Brief || len(last.VMs) != 1200 {
		t.Errorf("the intake was told of %d VMs, in brief: %v", len(last.VMs), last.Brief)
	}
}

func TestAReplyThatCannotBeDeliveredIsPartOfTheResult(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.onReply = func(preempt.ReplyInput) error {
		return temporal.NewNonRetryableApplicationError("404", "ReplyRefused", nil)
	}
	if res := r.run(); res.State != preemptapi.RoundCompleted || res.ReplySent || res.ReplyError != "404" {
		t.Errorf("%+v", res)
	}
}

func TestAQueryShowsWhatTheRoundDoes(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityMedium)
	var seen preemptapi.RoundResult
	r.after(90*time.Second, func() {
		v, err := r.QueryWorkflow(preemptapi.RoundStateQuery)
		if err == nil {
			err = v.Get(&seen)
		}
		if err != nil {
			t.Error(err)
		}
	})
	r.run()
	if seen.State != preemptapi.RoundWaiting || len(seen.Waiting) != 1 || seen.Alarm != "cpu" {
		t.Errorf("%+v", seen)
	}
}

func TestAnUnansweredWaitIsLookedUpBeforeAVMIsReportedAsSpared(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityLow)
	r.onAwait = func(in AwaitInput) AwaitResult { return AwaitResult{Pending: in.Pending, Unseen: true} }
	res := r.run()
	if res.Count(action.Spared) != 1 || !slices.ContainsFunc(r.evictions, func(in ActInput) bool { return in.OnlyLook }) {
		t.Errorf("%+v", res)
	}
}

func TestARoundBelowTheTargetSaysHowHighTheUsageIs(t *testing.T) {
	r := newRoundRun(t, 0, preemption.CriticalityHigh)
	r.onPlan = func(_ PlanInput, p *PlanResult) error {
		p.Usage = []policy.Usage{{Name: "cluster-a", CPU: policy.Load{Capacity: 1000, Used: 540, After: 540, Target: 80}}}
		return nil
	}
	if res := r.run(); res.State != preemptapi.RoundEmpty || res.Reason != "CPU usage is 54 %, below the target of 80 %: nobody must go" {
		t.Errorf("%+v", res)
	}
}
