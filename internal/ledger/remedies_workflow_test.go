package ledger

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// collected keeps what the updates of the test environment answer.
type collected struct {
	answers
	all *[]any
}

func (c collected) Complete(got any, err error) {
	c.answers.Complete(got, err)
	*c.all = append(*c.all, got)
}

func TestTheLedgerAnswersRemediationAndSweepsWhatItLeft(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(t0)
	var looked [][]string
	var a *Activities
	env.OnActivity(a.ClosedOwners, "mock.Anything", []string{"move@datastore-1"}).Return(
		func(_ context.Context, owners []string) ([]string, error) {
			looked = append(looked, slices.Clone(owners))
			return owners, nil
		})
	var all []any
	told := collected{answers{t: t}, &all}
	move := moving("vm-2", "datastore-1", "host-1")
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(UpdateRemedy, "1", told, resizing("vm-1"))
		env.UpdateWorkflow(UpdateRemedied, "2", told, acted(resizing("vm-1")))
		env.UpdateWorkflow(UpdateRemedy, "3", told, move)
		env.UpdateWorkflow(UpdateRemedyFacts, "4", told, RemedyFactsRequest{})
	}, time.Second)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(UpdateRemedyFacts, "5", told, RemedyFactsRequest{})
		env.CancelWorkflow()
	}, 3*time.Minute)
	env.ExecuteWorkflow(Ledger, Input{Sweep: time.Minute})
	if len(all) != 5 || len(looked) == 0 {
		t.Fatalf("%d answers, %d looks for owners", len(all), len(looked))
	}
	before, after := all[3].(RemedyFacts), all[4].(RemedyFacts)
	if !all[0].(RemedyGrant).Granted || len(before.Flights) != 1 || before.Reserved["vm-2"] != "move@datastore-1" || before.Actions != 2 {
		t.Errorf("%+v", before)
	}
	if len(after.Flights)+len(after.Reserved) != 0 || after.Actions != 1 {
		t.Errorf("what an ended move held is still held: %+v", after)
	}
}

func TestWhoWaitsForAMoveKeepsItsPlaceInLine(t *testing.T) {
	var s State
	asks := func(second int, owner string) RemedyGrant {
		r := moving("vm-"+owner, "datastore-1", "host-1")
		r.Owner = owner
		return s.Remedy(at(second), r)
	}
	done := func(second int, owner string) {
		s.Remedied(at(second), RemediedRequest{Owner: owner, VM: "vm-" + owner, What: placement.KindMove, Acted: true})
	}
	if !asks(0, "one").Granted {
		t.Fatal("the first is not granted")
	}
	for i, owner := range []string{"two", "three", "four"} {
		if g := asks(1, owner); g.Granted || g.Ahead != i || g.Full == "" {
			t.Errorf("%s: %+v", owner, g)
		}
	}
	done(2, "one")
	if g := asks(3, "four"); g.Granted || g.Ahead != 2 || g.Full != "2 moves wait before it" {
		t.Errorf("the last in line: %+v", g)
	}
	if g := asks(3, "two"); !g.Granted {
		t.Errorf("the first in line: %+v", g)
	}
	done(4, "two")
	s.Remedied(at(4), RemediedRequest{Owner: "three", VM: "vm-three", What: placement.KindMove}) // gives up
	if g := asks(5, "four"); !g.Granted {
		t.Errorf("after one has given up: %+v", g)
	}
	done(6, "four")
	asks(7, "five")
	done(8, "five")
	asks(9, "six")
	asks(9, "seven")
	done(10, "six")
	if g := asks(11, "eight"); g.Granted || g.Ahead != 1 {
		t.Errorf("behind one that asked a moment ago: %+v", g)
	}
	if g := asks(9+int(unheardFor/time.Second)+1, "eight"); !g.Granted {
		t.Errorf("behind one that asks no more: %+v", g)
	}
	if len(s.Waiting) != 0 {
		t.Errorf("still in line: %v", s.Waiting)
	}
}
