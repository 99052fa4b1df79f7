package ledger

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// answers collects what an update of the test environment answers.
type answers struct {
	t   *testing.T
	got any
}

func (answers) Accept() {}

func (a answers) Reject(err error) { a.t.Error(err) }

func (a answers) Complete(got any, err error) {
	if err != nil {
		a.t.Error(err)
	}
	if out, ok := a.got.(*Facts); ok {
		*out = got.(Facts)
	}
}

func TestFactsAreCarriedOverContinueAsNew(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	run := func(in Input, during func(env *testsuite.TestWorkflowEnvironment)) (next Input) {
		env := suite.NewTestWorkflowEnvironment()
		env.SetStartTime(t0)
		env.RegisterDelayedCallback(func() { during(env) }, time.Second)
		env.RegisterDelayedCallback(func() {
			env.SetContinueAsNewSuggested(true)
			env.UpdateWorkflow(UpdateRaise, "roll", answers{t: t}, RaiseRequest{})
		}, 2*time.Second)
		env.ExecuteWorkflow(Ledger, in)
		var again *workflow.ContinueAsNewError
		if err := env.GetWorkflowError(); !errors.As(err, &again) {
			t.Fatalf("the ledger ended: %v", err)
		}
		if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &next); err != nil {
			t.Fatal(err)
		}
		return next
	}
	var before, after Facts
	next := run(Input{Sweep: time.Hour}, func(env *testsuite.TestWorkflowEnvironment) {
		env.UpdateWorkflow(UpdateAdmit, "1", answers{t: t}, AdmitRequest{RequestID: "1", Scope: "c1", Owner: "a"})
		env.UpdateWorkflow(UpdateReserve, "2", answers{t: t}, reserving("a", "vm-1", "vm-2"))
		env.UpdateWorkflow(UpdateEvicted, "3", answers{t: t}, evicted("a", "c1", Evicted{VM: "vm-1"}))
		env.UpdateWorkflow(UpdateFacts, "4", answers{t: t, got: &before}, FactsRequest{Owner: "b", Scope: "c1"})
	})
	run(next, func(env *testsuite.TestWorkflowEnvironment) {
		env.UpdateWorkflow(UpdateFacts, "5", answers{t: t, got: &after}, FactsRequest{Owner: "b", Scope: "c1"})
	})
	if want := []string{"vm-1", "vm-2"}; !reflect.DeepEqual(vms(before), want) || !reflect.DeepEqual(loads(before), []Load{load(1), load(2)}) {
		t.Errorf("before: %+v", before)
	}
	if !reflect.DeepEqual(vms(after), vms(before)) || !reflect.DeepEqual(after.Credits, before.Credits) || after.Version != before.Version {
		t.Errorf("after: %+v, before: %+v", after, before)
	}
}
