package restore

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/stretchr/testify/mock"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// restoreRun is the restore workflow with made-up activities and a clock that leaps.
type restoreRun struct {
	*testsuite.TestWorkflowEnvironment
	t        *testing.T
	began    time.Time
	plans    []PlanInput
	planned  []time.Time
	powered  []PowerOnInput
	power    func(policy.Return) preemptapi.RestoredVM
	released int

	onRelease func()
	onPower   func(PowerOnInput) error // an error is the activity's
	replies   []preempt.ReplyInput
	replyErr  error
	setup     Setup
}

// newRestoreRun has a plan of the next VM for each name, and powers every VM on.
func newRestoreRun(t *testing.T, plan func(n int, in PlanInput) PlanResult) *restoreRun {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(vcentertest.Quiet)
	r := &restoreRun{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	p := policy.Default()
	p.Restore = policy.Restore{Enabled: true, Settle: clock.Duration(10 * time.Minute), Wave: 1, GiveUp: clock.Duration(24 * time.Hour)}
	r.power = func(target policy.Return) preemptapi.RestoredVM {
		return preemptapi.RestoredVM{Return: target, Outcome: preemptapi.OutcomeRestored, OnAt: r.Now(), Annotated: true}
	}
	r.setup = Setup{Policy: p, PolicyName: "default", Timing: preempt.DefaultTiming(), Attrs: true}
	register := func(name string, f any) { r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name}) }
	register("PrepareRestore", func(context.Context, preemptapi.RestoreInput) (Setup, error) {
		return r.setup, nil
	})
	register("ReleaseRestore", func(context.Context, string) error {
		if r.released++; r.onRelease != nil {
			r.onRelease()
		}
		return nil
	})
	register("PlanRestore", func(_ context.Context, in PlanInput) (PlanResult, error) {
		r.plans, r.planned = append(r.plans, in), append(r.planned, r.Now())
		return plan(len(r.plans), in), nil
	})
	register("PowerOnVMs", func(_ context.Context, in PowerOnInput) (res PowerOnResult, err error) {
		r.powered = append(r.powered, in)
		if r.onPower != nil {
			if err := r.onPower(in); err != nil {
				return res, err
			}
		}
		for _, target := range in.Targets {
			res.VMs = append(res.VMs, r.power(target))
		}
		return res, nil
	})
	register("SendPreemptedEvent", func(_ context.Context, in preempt.ReplyInput) error {
		r.replies = append(r.replies, in)
		return r.replyErr
	})
	return r
}

func (r *restoreRun) run(in preemptapi.RestoreInput) (res preemptapi.RestoreResult) {
	r.t.Helper()
	r.began = r.Now()
	r.ExecuteWorkflow(Restore, in)
	res, err := preemptapi.RestoreResultOf(r.GetWorkflowError(), res)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.RestoreID == "" {
		if err := r.GetWorkflowResult(&res); err != nil {
			r.t.Fatal(err)
		}
	}
	return res
}

// signal sends a change so long after the beginning.
func (r *restoreRun) signal(after time.Duration, c preemptapi.RestoreChange) {
	r.RegisterDelayedCallback(func() { r.SignalWorkflow(preemptapi.RestoreSignal, c) }, after)
}

// waves plans one VM at each look, n in all.
func waves(n int) func(int, PlanInput) PlanResult {
	return func(look int, _ PlanInput) (res PlanResult) {
		for i := look; i <= n; i++ {
			res.Returns.Returns = append(res.Returns.Returns, policy.Return{
				Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: string(rune('a' + i))}, Wave: i - look + 1,
			})
		}
		return res
	}
}

func TestNobodyComesBackBeforeTheSettleTimeIsOver(t *testing.T) {
	r := newRestoreRun(t, waves(3))
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if res.State != preemptapi.RestoreCompleted || len(res.Restored()) != 3 || res.Waves != 3 {
		t.Fatalf("unexpected %+v", res)
	}
	if first := r.planned[0].Sub(r.began); first < 10*time.Minute {
		t.Errorf("the first plan was made after %s", first)
	}
	if between := r.planned[1].Sub(r.planned[0]); between < 30*time.Second {
		t.Errorf("it measured again after %s", between)
	}
	if len(r.plans[1].Warming) != 1 || r.released < 3 {
		t.Errorf("warming %v, released %d times", r.plans[1].Warming, r.released)
	}
}

func TestAPersonWaitsForNothing(t *testing.T) {
	r := newRestoreRun(t, func(int, PlanInput) PlanResult {
		return PlanResult{Returns: policy.Returns{Later: true, Left: []policy.Spared{{Reason: policy.NoRoom}}}}
	})
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: preemptapi.ByHand, Person: true})
	if res.State != preemptapi.RestoreCompleted || len(r.plans) != 1 || len(res.Left) != 1 || r.Now().Sub(r.began) > time.Minute {
		t.Errorf("unexpected %+v after %d looks", res, len(r.plans))
	}
}

func TestAStopInTheSettleTimeEndsItUnplanned(t *testing.T) {
	r := newRestoreRun(t, waves(3))
	r.signal(time.Minute, preemptapi.RestoreChange{Stop: true, Reason: "alarm cpu rose to red"})
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if res.State != preemptapi.RestoreStopped || res.Reason != "alarm cpu rose to red" || len(r.plans) != 0 {
		t.Errorf("unexpected %+v", res)
	}
}

func TestAFallAfterAStopSettlesAnew(t *testing.T) {
	r := newRestoreRun(t, waves(1))
	r.RegisterDelayedCallback(func() {
		r.SignalWorkflow(preemptapi.RestoreSignal, preemptapi.RestoreChange{Stop: true, Reason: "rose"})
		r.SignalWorkflow(preemptapi.RestoreSignal, preemptapi.RestoreChange{Reason: "fell"})
	}, 9*time.Minute)
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if res.State != preemptapi.RestoreCompleted || len(res.Restored()) != 1 || len(res.Changes) != 2 {
		t.Fatalf("unexpected %+v", res)
	}
	if first := r.planned[0].Sub(r.began); first < 19*time.Minute {
		t.Errorf("the first plan was made after %s", first)
	}
}

func TestAStopAfterAFallAfterAStopHolds(t *testing.T) {
	r := newRestoreRun(t, waves(1))
	r.RegisterDelayedCallback(func() {
		r.SignalWorkflow(preemptapi.RestoreSignal, preemptapi.RestoreChange{Stop: true, Reason: "rose"})
		r.SignalWorkflow(preemptapi.RestoreSignal, preemptapi.RestoreChange{Reason: "fell"})
		r.SignalWorkflow(preemptapi.RestoreSignal, preemptapi.RestoreChange{Stop: true, Reason: "rose again"})
	}, time.Minute)
	if res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"}); res.State != preemptapi.RestoreStopped || len(r.plans) != 0 {
		t.Errorf("unexpected %+v", res)
	}
}

func TestACancellationStopsIt(t *testing.T) {
	r := newRestoreRun(t, waves(3))
	r.RegisterDelayedCallback(r.CancelWorkflow, 10*time.Minute+10*time.Second)
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if res.State != preemptapi.RestoreStopped || len(res.Restored()) != 1 {
		t.Errorf("unexpected %+v", res)
	}
}

func TestBesideARoundItWaitsAndAPersonIsRefused(t *testing.T) {
	busy := func(look int, in PlanInput) PlanResult {
		if look < 4 {
			return PlanResult{ActiveRounds: []string{"round-1"}}
		}
		return PlanResult{Returns: policy.Returns{Returns: []policy.Return{{Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: "a"}, Wave: 1}}}}
	}
	r := newRestoreRun(t, busy)
	if res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"}); res.State != preemptapi.RestoreCompleted || len(res.Restored()) != 1 || res.Reason != "" {
		t.Errorf("unexpected %+v", res)
	}
	if r.planned[3].Sub(r.planned[2]) <= r.planned[1].Sub(r.planned[0]) {
		t.Errorf("the waits do not grow: %v", r.planned)
	}
	r = newRestoreRun(t, busy)
	if res := r.run(preemptapi.RestoreInput{Tag: "spot", Person: true}); res.State != preemptapi.RestoreRefused || len(r.powered) != 0 {
		t.Errorf("unexpected %+v", res)
	}
}

func TestAStopThatArrivesWhileItContinuesAsNewHolds(t *testing.T) {
	for name, tell := range map[string]func(*restoreRun){
		"a rise": func(r *restoreRun) {
			r.SignalWorkflow(preemptapi.RestoreSignal, preemptapi.RestoreChange{Stop: true, Reason: "alarm cpu rose to red"})
		},
		"a cancellation": func(r *restoreRun) { r.CancelWorkflow() },
	} {
		r := newRestoreRun(t, waves(3))
		r.SetContinueAsNewSuggested(true)
		r.onRelease = func() { tell(r) }
		r.ExecuteWorkflow(Restore, preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
		var next *workflow.ContinueAsNewError
		if !errors.As(r.GetWorkflowError(), &next) {
			t.Fatalf("%s: it did not continue as new: %v", name, r.GetWorkflowError())
		}
		var in preemptapi.RestoreInput
		if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &in); err != nil {
			t.Fatal(err)
		}
		r = newRestoreRun(t, waves(3))
		if res := r.run(in); res.State != preemptapi.RestoreStopped || len(r.powered) != 0 {
			t.Errorf("%s: the next run powered on %d waves: %+v", name, len(r.powered), res)
		}
	}
}

func TestAHoldSettlesAnewWhenTheOtherAlarmIsOver(t *testing.T) {
	r := newRestoreRun(t, func(look int, _ PlanInput) (res PlanResult) {
		if look < 3 {
			return PlanResult{ActiveAlarms: []string{"alarm memory has been active since noon"}}
		}
		return waves(1)(1, PlanInput{})
	})
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if res.State != preemptapi.RestoreCompleted || len(res.Restored()) != 1 || len(r.powered) != 1 {
		t.Fatalf("unexpected %+v", res)
	}
	if last := r.planned[3].Sub(r.planned[2]); last < 10*time.Minute {
		t.Errorf("it went on %s after the other alarm was over", last)
	}
}

func TestADryRunAndAnObservingPolicyPowerNothingOn(t *testing.T) {
	for state, set := range map[preemptapi.RestoreState]func(*restoreRun, *preemptapi.RestoreInput){
		preemptapi.RestorePlanned:  func(_ *restoreRun, in *preemptapi.RestoreInput) { in.DryRun = true },
		preemptapi.RestoreObserved: func(r *restoreRun, _ *preemptapi.RestoreInput) { r.setup.Policy.Mode = policy.ModeObserve },
	} {
		r := newRestoreRun(t, func(_ int, in PlanInput) (res PlanResult) {
			res = waves(2)(1, in)
			res.ActiveAlarms = []string{"alarm memory has been active since noon"}
			return res
		})
		in := preemptapi.RestoreInput{Tag: "spot", By: "cpu"}
		set(r, &in)
		res := r.run(in)
		if res.State != state || len(r.powered) != 0 || r.plans[0].Reserve || len(res.VMs) != 2 || !strings.Contains(res.Reason, "memory") {
			t.Errorf("%s: %+v", state, res)
		}
	}
}

func TestWhatAPowerOnWithoutAnAnswerHasDoneIsLookedUp(t *testing.T) {
	r := newRestoreRun(t, waves(1))
	r.onPower = func(in PowerOnInput) error {
		if !in.OnlyLook {
			return temporal.NewNonRetryableApplicationError("the worker died", "Died", nil)
		}
		return nil
	}
	if res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"}); len(r.powered) != 2 || !r.powered[1].OnlyLook || len(res.Restored()) != 1 {
		t.Errorf("%+v", res)
	}
	r = newRestoreRun(t, waves(1))
	r.onPower = func(PowerOnInput) error { return temporal.NewNonRetryableApplicationError("no vCenter", "Gone", nil) }
	if res := r.run(preemptapi.RestoreInput{Tag: "spot", Person: true}); res.State != preemptapi.RestorePartial || !strings.Contains(res.VMs[0].Reason.String(), "look at the VM") {
		t.Errorf("%+v", res)
	}
}

func TestARestoreThatCannotBePlannedFailsWithItsResult(t *testing.T) {
	r := newRestoreRun(t, waves(1))
	r.OnActivity("PlanRestore", mock.Anything, mock.Anything).Return(PlanResult{}, temporal.NewNonRetryableApplicationError("there is no such tag", preemptapi.TagNotFound, nil))
	if res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"}); res.State != preemptapi.RestoreFailed || res.Reason != "there is no such tag" || r.released == 0 {
		t.Errorf("%+v", res)
	}
}

func TestWhoAskedToBeToldIsToldWhoCameBack(t *testing.T) {
	for want, err := range map[string]error{"": nil, "404": temporal.NewNonRetryableApplicationError("404", "ReplyRefused", nil)} {
		r := newRestoreRun(t, waves(2))
		r.replyErr = err
		res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu", ReplyTo: "https://reply.example/"})
		if len(r.replies) != 1 || len(r.replies[0].VMs) != 2 || res.ReplySent != (err == nil) || res.ReplyError != want {
			t.Errorf("%+v, sent %+v", res, r.replies)
		}
	}
}

func TestAHoldInTheMiddleOfAWaveLetsTheNextWait(t *testing.T) {
	var r *restoreRun
	r = newRestoreRun(t, func(_ int, in PlanInput) PlanResult {
		sent := 0
		for _, p := range r.powered {
			if !p.OnlyLook {
				sent++
			}
		}
		return waves(2)(sent+1, in)
	})
	r.onPower = func(PowerOnInput) error {
		if len(r.powered) == 1 {
			r.SignalWorkflow(preemptapi.RestoreHoldSignal, preemptapi.RestoreChange{Reason: "alarm memory rose"})
		}
		return nil
	}
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if res.State != preemptapi.RestoreCompleted || len(res.Restored()) != 2 {
		t.Fatalf("%+v", res)
	}
	if again := r.planned[len(r.planned)-1].Sub(r.planned[0]); again < 10*time.Minute {
		t.Errorf("the next wave came %s after the first", again)
	}
}

func TestVMsThatMayComeBackLaterAreWaitedFor(t *testing.T) {
	r := newRestoreRun(t, func(look int, in PlanInput) (res PlanResult) {
		if look < 3 {
			res.Later, res.Left = true, []policy.Spared{{Ref: vcentertest.Ref(1), Reason: policy.NoRoom}}
			return res
		}
		if look == 3 {
			res.Adopt = []policy.Return{{Ref: vcentertest.Ref(1)}}
		}
		res.Left = []policy.Spared{{Ref: vcentertest.Ref(2), Reason: policy.NoEvidence}}
		return res
	})
	if res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"}); len(r.plans) < 3 || len(res.Restored()) != 1 || !strings.Contains(res.Reason, "power them on by hand") {
		t.Errorf("after %d plans: %+v", len(r.plans), res)
	}
}

func TestAVeryLargeRestoreFitsIntoOnePayloadAndNamesEveryVM(t *testing.T) {
	var res preemptapi.RestoreResult
	plan := PlanResult{}
	for i := range 5000 {
		ref := vcentertest.Ref(i)
		res.VMs = append(res.VMs, preemptapi.RestoredVM{Return: policy.Return{Ref: ref, Name: strings.Repeat("n", 80)}, Reason: policy.InWords(strings.Repeat("why", 200))})
		plan.Returns.Returns = append(plan.Returns.Returns, policy.Return{Ref: ref, Wave: 1 + i/2})
	}
	b, err := json.Marshal(fittedRestore(res))
	if err != nil || len(b) > 2<<20*95/100 || len(fittedRestore(res).VMs) != 5000 || res.VMs[0].Reason.String()[:3] != "why" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if first := firstWaves(plan); len(first.Returns.Returns) != 2 || first.Beyond != 4998 {
		t.Errorf("%d, and %d beyond", len(first.Returns.Returns), first.Beyond)
	}
}
