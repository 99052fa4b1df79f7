package e2e

import (
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// evicted runs the activity that acts on one VM.
func evicted(s *sitetest.Site, a action.Action) round.ActResult {
	s.T.Helper()
	s.Worker() // which has the ledger, that is asked who is spared
	vm := s.VC.TaggedVMs("cluster-a")[0]
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	acts := s.Preemption(s.Temporal, s.Gateway()).Round
	env.RegisterActivity(acts.EvictVMs)
	value, err := env.ExecuteActivity(acts.EvictVMs, round.ActInput{
		RoundID: s.ID("round"), Tag: "preemptible", Action: a, Policy: policy.Default(),
		Targets: []round.ActTarget{{Target: policy.Target{Ref: sitetest.Ref(vm.Ref), Name: vm.Name, LimitMHz: 500}}},
	})
	s.Must(err)
	var r round.ActResult
	s.Must(value.Get(&r))
	return r
}

// A newer policy may ask an older worker for an action that it does not know.
func TestAnActionThatTheWorkerDoesNotKnowTouchesNoVMAndSaysSo(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[0]
	version := s.VC.ChangeVersion(vm.Ref)
	r := evicted(s, "hibernate")
	if len(r.Outcomes) != 1 || r.Outcomes[0].Outcome != action.Failed || !sitetest.ContainsAll(r.Outcomes[0].Reason.String(), `"hibernate"`, "nothing was sent") {
		t.Errorf("%+v", r)
	}
	if !s.On(vm) || s.VC.ChangeVersion(vm.Ref) != version {
		t.Error("the VM was touched")
	}
}

func TestEachActionIsCarriedOut(t *testing.T) {
	t.Parallel()
	for _, a := range action.All() {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t)
			row, err := action.Of(a)
			s.Must(err)
			r := evicted(s, a)
			if s.VC.Calls()[row.Call] == 0 {
				t.Errorf("%s was not sent", row.Call)
			}
			switch {
			case len(r.Outcomes) == 1 && r.Outcomes[0].Outcome.Ours() && r.Outcomes[0].Annotated:
			case len(r.Pending) == 1 && !a.AtOnce() && !a.StaysOn():
			default:
				t.Errorf("%+v", r)
			}
		})
	}
}
