package restore

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

// lifting adds a made-up LiftLimits, which asks what becomes of each VM.
func (r *restoreRun) lifting(became func(policy.Return) preemptapi.RestoredVM) (lifted *[]PowerOnInput) {
	lifted = &[]PowerOnInput{}
	r.RegisterActivityWithOptions(func(_ context.Context, in PowerOnInput) (res PowerOnResult, err error) {
		*lifted = append(*lifted, in)
		for _, t := range in.Targets {
			res.VMs = append(res.VMs, became(t))
		}
		return res, nil
	}, activity.RegisterOptions{Name: "LiftLimits"})
	return lifted
}

func back(t policy.Return) preemptapi.RestoredVM {
	return preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, Annotated: true}
}

// limitsOnce plans to take back the limits of so many VMs, of which off are off, until that was planned.
func limitsOnce(n, off int) func(int, PlanInput) PlanResult {
	return func(look int, in PlanInput) (res PlanResult) {
		for i := 1; i <= n && !in.Reserve || i <= n && look <= 2; i++ {
			t := policy.Return{Ref: vcentertest.Ref(i), Unthrottle: true, StaysOff: i <= off}
			res.Limits = append(res.Limits, t)
			if t.StaysOff {
				res.Returns.Returns = append(res.Returns.Returns, policy.Return{Ref: t.Ref, Wave: 1})
			}
		}
		return res
	}
}

func TestThrottledVMsComeBackTogetherWhenTheSettleTimeIsOver(t *testing.T) {
	r := newRestoreRun(t, limitsOnce(3, 0))
	lifted := r.lifting(back)
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if len(*lifted) != 1 || len((*lifted)[0].Targets) != 3 || len(r.powered) != 0 {
		t.Errorf("lifted %+v, powered on %+v", *lifted, r.powered)
	}
	if res.State != preemptapi.RestoreCompleted || len(res.Restored()) != 3 {
		t.Errorf("%+v", res)
	}
	if waited := r.Now().Sub(r.began); waited < 10*time.Minute {
		t.Errorf("it took %s, and the settle time is 10m", waited)
	}
}

func TestAVMThatIsOffIsPoweredOnWhenItsLimitIsBack(t *testing.T) {
	r := newRestoreRun(t, limitsOnce(2, 1))
	r.lifting(back)
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if len(r.powered) != 1 || len(r.powered[0].Targets) != 1 || len(res.Restored()) != 2 {
		t.Errorf("powered on %+v: %+v", r.powered, res.VMs)
	}
}

func TestAVMWhoseLimitCannotBeTakenBackStaysOff(t *testing.T) {
	r := newRestoreRun(t, limitsOnce(1, 1))
	r.lifting(func(t policy.Return) preemptapi.RestoredVM {
		return preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeNotRestored, Reason: policy.InWords(errors.New("no permission").Error())}
	})
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if len(r.powered) != 0 || res.State != preemptapi.RestorePartial || res.Count(preemptapi.OutcomeNotRestored) != 1 {
		t.Errorf("powered on %+v: %+v", r.powered, res)
	}
}

func TestALimitThatIsBusyIsTriedAgain(t *testing.T) {
	r := newRestoreRun(t, func(look int, _ PlanInput) PlanResult {
		if look > 3 {
			return PlanResult{}
		}
		return PlanResult{Returns: policy.Returns{Limits: []policy.Return{{Ref: vcentertest.Ref(1), Unthrottle: true}}}}
	})
	n := 0
	lifted := r.lifting(func(t policy.Return) preemptapi.RestoredVM {
		if n++; n == 1 {
			return preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeNotRestored, Again: true}
		}
		return back(t)
	})
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu"})
	if len(*lifted) != 2 || res.State != preemptapi.RestoreCompleted || len(res.Restored()) != 1 {
		t.Errorf("lifted %d times: %+v", len(*lifted), res)
	}
}

func TestADryRunSaysWhoseLimitWouldBeTakenBack(t *testing.T) {
	r := newRestoreRun(t, limitsOnce(2, 1))
	lifted := r.lifting(back)
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu", DryRun: true, Person: true})
	if len(*lifted) != 0 || res.Count(preemptapi.OutcomeWouldLift) != 1 || res.Count(preemptapi.OutcomeWouldPowerOn) != 1 {
		t.Errorf("%+v", res.VMs)
	}
}
