package restore

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAVMThatFailsForAReasonThatMayPassIsInLaterWaves(t *testing.T) {
	for name, c := range map[string]struct {
		fails, tried int
		person       bool
		state        preemptapi.RestoreState
	}{
		"twice":              {2, 3, false, preemptapi.RestoreCompleted},
		"always":             {99, 4, false, preemptapi.RestorePartial},
		"and a person waits": {99, 1, true, preemptapi.RestorePartial},
	} {
		back := false
		r := newRestoreRun(t, func(_ int, in PlanInput) (res PlanResult) {
			if !back && len(in.Done) == 0 {
				res.Returns.Returns = []policy.Return{{Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: "a"}, Wave: 1}}
			}
			return res
		})
		tried := 0
		r.power = func(target policy.Return) preemptapi.RestoredVM {
			if tried++; tried <= c.fails {
				return preemptapi.RestoredVM{Return: target, Outcome: preemptapi.OutcomeNotRestored, Reason: policy.InWords("busy"), Again: true}
			}
			back = true
			return preemptapi.RestoredVM{Return: target, Outcome: preemptapi.OutcomeRestored, OnAt: r.Now(), Annotated: true}
		}
		if res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu", Person: c.person}); tried != c.tried || res.State != c.state || len(res.VMs) != 1 {
			t.Errorf("%s: tried %d times, want %d: %+v", name, tried, c.tried, res)
		}
	}
}

func TestOneThatNoHostTakesIsTriedAgainAndOneThatFailedIsNot(t *testing.T) {
	vm := policy.Return{Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: "a"}, Wave: 1}
	for outcome, want := range map[preemptapi.RestoredVM]int{
		{Outcome: preemptapi.OutcomeLeft, Reason: policy.Because(policy.NoHost)}:                3,
		{Outcome: preemptapi.OutcomeNotRestored, Reason: policy.InWords("the host is on fire")}: 1,
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
