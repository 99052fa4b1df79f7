package round

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

// roundRun is the round's workflow with made-up activities and a clock that leaps.
type roundRun struct {
	*testsuite.TestWorkflowEnvironment
	t     *testing.T
	began time.Time
	in    Input
	mu    sync.Mutex // activities run side by side

	chosen    int // VMs that the next plan chooses
	plans     []PlanInput
	evictions []ActInput
	waits     []AwaitInput
	notices   []NoticeInput
	replies   []preempt.ReplyInput
	told      []preemptapi.RoundResult // to the intake
	completed []ledger.CompleteRequest
	recorded  []ledger.EvictedRequest

	onPlan  func(PlanInput, *PlanResult) error
	onEvict func(ActInput, *ActResult) error
	onAwait func(AwaitInput) AwaitResult
	onReply func(preempt.ReplyInput) error
	answers []GuestReply
	atPlan  func()
}

func newRoundRun(t *testing.T, vms int, c preemption.Criticality) *roundRun {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(vcentertest.Quiet)
	r := &roundRun{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, chosen: vms}
	d := demand()
	d.Criticality, d.ReplyTo, d.EventID = c, "https://reply.example/", "event-1"
	r.in = Input{Demand: d, IntakeID: "intake-1", IntakeRun: time.Now(), Timing: preempt.DefaultTiming(), Attrs: true}
	r.SetTestTimeout(10 * time.Second)
	register := func(name string, f any) { r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name}) }
	register("PlanRound", r.planRound)
	register("EvictVMs", r.evictVMs)
	register("GiveNotice", func(_ context.Context, in NoticeInput) (NoticeResult, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.notices = append(r.notices, in)
		return NoticeResult{}, nil
	})
	register("AwaitReplies", func(context.Context, RepliesInput) ([]GuestReply, error) { return nil, nil })
	register("AwaitVMs", func(context.Context, AwaitInput) (AwaitResult, error) { return AwaitResult{}, nil })
	register("SendPreemptedEvent", func(_ context.Context, in preempt.ReplyInput) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.replies = append(r.replies, in)
		if r.onReply != nil {
			return r.onReply(in)
		}
		return nil
	})
	register("CompleteRound", func(_ context.Context, in ledger.CompleteRequest) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.completed = append(r.completed, in)
		return nil
	})
	register("RecordEvictions", func(_ context.Context, in ledger.EvictedRequest) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recorded = append(r.recorded, in)
		return nil
	})
	// Guests are watched for a minute at a time.
	r.OnActivity("AwaitVMs", mock.Anything, mock.Anything).Return(func(_ context.Context, in AwaitInput) (AwaitResult, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waits = append(r.waits, in)
		if r.onAwait != nil {
			return r.onAwait(in), nil
		}
		return AwaitResult{Pending: in.Pending}, nil
	}).After(time.Minute)
	// Guests answer soon, or not at all.
	r.OnActivity("AwaitReplies", mock.Anything, mock.Anything).Return(func(context.Context, RepliesInput) ([]GuestReply, error) {
		return r.answers, nil
	}).After(10 * time.Second).Once()
	r.OnActivity("AwaitReplies", mock.Anything, mock.Anything).Return([]GuestReply{}, nil).After(time.Hour)
	r.OnSignalExternalWorkflow(mock.Anything, "intake-1", "", DoneSignal, mock.Anything).Return(
		func(_, _, _, _ string, arg any) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, arg.(preemptapi.RoundResult))
			return nil
		})
	return r
}

func (r *roundRun) planRound(_ context.Context, in PlanInput) (out PlanResult, err error) {
	r.plans = append(r.plans, in)
	if r.atPlan != nil {
		r.atPlan()
	}
	for i := 1; i <= r.chosen; i++ {
		out.Targets = append(out.Targets, policy.Target{
			Ref: vcentertest.Ref(i), Name: fmt.Sprintf("batch-%d", i), ToolsRunning: true, CPUMHz: 1000, MemoryMB: 1000, Host: vcentertest.Host,
		})
	}
	out.ScopeName, out.PlannedAt = "cluster-a", r.Now()
	if r.onPlan != nil {
		err = r.onPlan(in, &out)
	}
	return out, err
}

// evictVMs powers off at once, and asks guests to shut down.
func (r *roundRun) evictVMs(_ context.Context, in ActInput) (out ActResult, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evictions = append(r.evictions, in)
	if r.onEvict != nil {
		err = r.onEvict(in, &out)
		return out, err
	}
	for _, t := range in.Targets {
		switch {
		case in.OnlyLook:
			o := outcome(t, action.Spared)
			o.Reason = in.StillOn
			out.Outcomes = append(out.Outcomes, o)
		case in.Action == action.ShutdownGuest:
			t.SentAt = r.Now()
			out.Pending = append(out.Pending, t)
		default:
			o := outcome(t, action.PoweredOff)
			o.Forced, o.Annotated, o.OffAt = !t.SentAt.IsZero(), true, r.Now()
			out.Outcomes = append(out.Outcomes, o)
		}
	}
	return out, nil
}

// run carries the round out, and returns its result, also of one that failed.
func (r *roundRun) run() (res preemptapi.RoundResult) {
	r.t.Helper()
	r.began = r.Now()
	r.ExecuteWorkflow(Round, r.in)
	if err := r.GetWorkflowError(); err != nil {
		res, err = preemptapi.ResultOf(err, res)
		if err != nil {
			r.t.Fatal(err)
		}
		return res
	}
	if err := r.GetWorkflowResult(&res); err != nil {
		r.t.Fatal(err)
	}
	return res
}

// after does something so long after the beginning.
func (r *roundRun) after(d time.Duration, f func()) { r.RegisterDelayedCallback(f, d) }

func (r *roundRun) change(c Change) func() { return func() { r.SignalWorkflow(ChangeSignal, c) } }

// poweredOff counts the VMs that were powered off.
func (r *roundRun) poweredOff() (n int) {
	for _, in := range r.evictions {
		if in.Action == action.PowerOff && !in.OnlyLook {
			n += len(in.Targets)
		}
	}
	return n
}

func shutDown(in AwaitInput) (out AwaitResult) {
	for _, t := range in.Pending {
		o := outcome(t, action.ShutDown)
		o.Annotated = true
		out.Outcomes = append(out.Outcomes, o)
	}
	return out
}

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
	if r.told[0].Targets[0].Reason != preemptapi.ReasonIgnored || len(r.completed) != 1 || r.completed[0].Preempted != 0 {
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
	if res.State != preemptapi.RoundWithdrawn || r.poweredOff() != 0 || res.Targets[0].Reason != preemptapi.ReasonShutWithdrawn {
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
	for state, set := range map[string]func(*roundRun){
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
	for state, set := range map[string]func(*PlanResult){
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
	for failed, state := range map[int]string{1: preemptapi.RoundPartial, 2: preemptapi.RoundFailed} {
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
	if res := r.run(); res.State != preemptapi.RoundFailed || !strings.Contains(res.Targets[0].Reason, "look at the VM") {
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

// notice has every guest told so long before.
func (r *roundRun) notice(d time.Duration) {
	c := &r.in.Demand.Policy.Criticality
	c.High.Notice, c.Medium.Notice, c.Low.Notice = clock.Duration(d), clock.Duration(d), clock.Duration(d)
}

// states are those of the notices that guests were given; "" is a notice that was cleared.
func (r *roundRun) states() (list []string) {
	for _, n := range r.notices {
		state := ""
		if n.Notice != nil {
			state = n.Notice.State
		}
		list = append(list, state)
	}
	return list
}

func TestGuestsAreToldBeforeTheyArePoweredOff(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.notice(2 * time.Minute)
	res := r.run()
	if r.poweredOff() != 2 || r.Now().Sub(r.began) < 2*time.Minute || res.Targets[0].Notice != "given" {
		t.Errorf("%+v", res)
	}
	if got := r.states(); !slices.Equal(got, []string{noticePending, ""}) || r.notices[0].Notice.Action != action.PowerOff {
		t.Errorf("the notices were %q", got)
	}
	if len(r.replies) != 2 || r.replies[0].Type != preemption.NoticeEventType {
		t.Errorf("replies %+v", r.replies)
	}
}

func TestAReadyGuestIsNotWaitedForAndOneExtensionIsGranted(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.notice(2 * time.Minute)
	r.answers = []GuestReply{{Ref: vcentertest.Ref(1), Ready: true}, {Ref: vcentertest.Ref(2), Extend: clock.Duration(time.Hour)}}
	res := r.run()
	if len(r.evictions) != 2 || len(r.evictions[0].Targets) != 1 || r.evictions[0].Targets[0].Ref != vcentertest.Ref(1) {
		t.Fatalf("%+v", r.evictions)
	}
	if took := r.Now().Sub(r.began); took < 4*time.Minute || took > 5*time.Minute {
		t.Errorf("an extension is as long as the notice: it took %s", took)
	}
	if !slices.Contains(r.states(), noticeExtended) || res.Targets[0].Notice != "acknowledged" || !strings.HasPrefix(res.Targets[1].Notice, "extended") {
		t.Errorf("%q: %+v", r.states(), res.Targets)
	}
}

func TestGuestsOfAWithdrawnRoundAreToldThatNothingHappens(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.notice(5 * time.Minute)
	r.after(time.Minute, r.change(Change{Withdraw: true, Reason: "the alarm fell"}))
	res := r.run()
	if len(r.evictions) != 0 || res.State != preemptapi.RoundWithdrawn || !slices.Contains(r.states(), noticeWithdrawn) {
		t.Errorf("%q: %+v", r.states(), res)
	}
}

func TestARaiseShortensTheNotice(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityLow)
	r.notice(10 * time.Minute)
	r.in.Demand.Policy.Criticality.High.Notice = 0
	r.after(time.Minute, r.change(Change{Criticality: preemption.CriticalityHigh, Reason: "red"}))
	if r.run(); r.poweredOff() != 1 || r.Now().Sub(r.began) > 3*time.Minute {
		t.Errorf("%d are off after %s", r.poweredOff(), r.Now().Sub(r.began))
	}
}

func TestARehearsalGivesTheNoticeAndTakesItBack(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.in.Demand.NoticeOnly, r.in.Demand.Notice, r.in.Demand.VM = true, clock.Duration(30*time.Second), "batch-1"
	res := r.run()
	if res.State != preemptapi.RoundRehearsed || len(r.evictions) != 0 || !slices.Equal(r.states(), []string{noticePending, noticeWithdrawn}) {
		t.Errorf("%q: %+v", r.states(), res)
	}
}

func TestASuspendedGuestKeepsNoNotice(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.notice(time.Minute)
	r.in.Demand.Policy.Criticality.High.Action = action.Suspend
	if r.run(); !slices.Equal(r.states(), []string{noticePending, ""}) || len(r.evictions) != 1 {
		t.Errorf("%q", r.states())
	}
}

func TestAGuestThatCannotBeToldIsActedUponAtOnce(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.notice(time.Hour)
	r.OnActivity("GiveNotice", mock.Anything, mock.Anything).Return(NoticeResult{}, temporal.NewNonRetryableApplicationError("no permission", "NoPermission", nil))
	res := r.run()
	if r.poweredOff() != 1 || r.Now().Sub(r.began) > time.Minute || !strings.Contains(res.Targets[0].Notice, "no permission") {
		t.Errorf("%+v", res)
	}
}

func TestGuestsThatShutDownAreWatchedWhileOthersStillHaveTheirNotice(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityMedium)
	r.notice(5 * time.Minute)
	r.answers = []GuestReply{{Ref: vcentertest.Ref(1), Ready: true}}
	r.onAwait = shutDown
	res := r.run()
	if res.Count(action.ShutDown) != 2 || len(r.waits) < 2 || len(r.waits[0].Pending) != 1 {
		t.Errorf("%d waits: %+v", len(r.waits), res)
	}
}

func TestManyGuestsThatAskForMoreTimeAreToldTogether(t *testing.T) {
	r := newRoundRun(t, 60, preemption.CriticalityHigh)
	r.notice(2 * time.Minute)
	for i := 1; i <= 60; i++ {
		r.answers = append(r.answers, GuestReply{Ref: vcentertest.Ref(i), Extend: clock.Duration(time.Minute)})
	}
	r.run()
	extended := 0
	for _, n := range r.notices {
		if n.Notice != nil && n.Notice.State == noticeExtended {
			extended++
		}
	}
	if extended != 1 || r.poweredOff() != 60 {
		t.Errorf("they were told in %d parts, and %d are off", extended, r.poweredOff())
	}
}
