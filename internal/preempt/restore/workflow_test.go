package restore

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
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
}

// newRestoreRun has a plan of the next VM for each name, and powers every VM on.
func newRestoreRun(t *testing.T, plan func(n int, in PlanInput) PlanResult) *restoreRun {
	var suite testsuite.WorkflowTestSuite
	r := &restoreRun{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	p := policy.Default()
	p.Restore = policy.Restore{Enabled: true, Settle: clock.Duration(10 * time.Minute), Wave: 1, GiveUp: clock.Duration(24 * time.Hour)}
	r.power = func(target policy.Return) preemptapi.RestoredVM {
		return preemptapi.RestoredVM{Return: target, Outcome: preemptapi.OutcomeRestored, OnAt: r.Now(), Annotated: true}
	}
	register := func(name string, f any) { r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name}) }
	register("PrepareRestore", func(context.Context, preemptapi.RestoreInput) (Setup, error) {
		return Setup{Policy: p, PolicyName: "default", Timing: preempt.DefaultTiming()}, nil
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
		for _, target := range in.Targets {
			res.VMs = append(res.VMs, r.power(target))
		}
		return res, nil
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

func TestOneThatNoHostTakesIsTriedAgainAndOneThatFailedIsNot(t *testing.T) {
	vm := policy.Return{Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: "a"}, Wave: 1}
	for outcome, want := range map[preemptapi.RestoredVM]int{
		{Outcome: preemptapi.OutcomeLeft, Reason: string(policy.NoHost)}:        3,
		{Outcome: preemptapi.OutcomeNotRestored, Reason: "the host is on fire"}: 1,
	} {
		r := newRestoreRun(t, func(look int, in PlanInput) (res PlanResult) {
			if look <= 3 && len(in.Done) == 0 {
				res.Returns.Returns, res.Later = []policy.Return{vm}, true
			}
			return res
		})
		tried := 0
		r.power = func(target policy.Return) preemptapi.RestoredVM {
			tried++
			o := outcome
			o.Return = target
			return o
		}
		if res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"}); tried != want {
			t.Errorf("%s was tried %d times, want %d: %+v", outcome.Reason, tried, want, res)
		}
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
