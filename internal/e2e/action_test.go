package e2e

import (
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// evicted runs the activity that acts on one VM.
func (s *site) evicted(a action.Action) round.ActResult {
	s.t.Helper()
	vm := s.vc.TaggedVMs("cluster-a")[0]
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	acts := s.preemption(s.c, s.gateway()).Round
	env.RegisterActivity(acts.EvictVMs)
	value, err := env.ExecuteActivity(acts.EvictVMs, round.ActInput{
		RoundID: s.id("round"), Tag: "preemptible", Action: a, Policy: policy.Default(),
		Targets: []round.ActTarget{{Target: policy.Target{Ref: ref(vm.Ref), Name: vm.Name}}},
	})
	s.must(err)
	var r round.ActResult
	s.must(value.Get(&r))
	return r
}

// A newer policy may ask an older worker for an action that it does not know.
func TestAnActionThatTheWorkerDoesNotKnowTouchesNoVMAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[0]
	version := s.vc.ChangeVersion(vm.Ref)
	r := s.evicted("throttle")
	if len(r.Outcomes) != 1 || r.Outcomes[0].Outcome != action.Failed || !containsAll(r.Outcomes[0].Reason, `"throttle"`, "nothing was sent") {
		t.Errorf("%+v", r)
	}
	if !s.on(vm) || s.vc.ChangeVersion(vm.Ref) != version {
		t.Error("the VM was touched")
	}
}

func TestEachActionIsCarriedOut(t *testing.T) {
	t.Parallel()
	for _, a := range action.All() {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			row, err := action.Of(a)
			s.must(err)
			r := s.evicted(a)
			if s.vc.Calls()[row.Call] == 0 {
				t.Errorf("%s was not sent", row.Call)
			}
			switch {
			case len(r.Outcomes) == 1 && r.Outcomes[0].Outcome.Ours() && r.Outcomes[0].Annotated:
			case len(r.Pending) == 1 && !a.AtOnce():
			default:
				t.Errorf("%+v", r)
			}
		})
	}
}
