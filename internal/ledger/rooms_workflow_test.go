package ledger

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"
)

func TestRoomIsHeldNoLongerThanTheWorkflowThatHoldsItRuns(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(t0)
	const scope = "ClusterComputeResource:domain-c7"
	var looked []string
	var a *Activities
	env.OnActivity(a.ClosedOwners, "mock.Anything", []string{"make-room@runs", "make-room@terminated"}).Return(
		func(_ context.Context, owners []string) ([]string, error) {
			looked = append(looked, owners...)
			return []string{"make-room@terminated"}, nil
		})
	env.OnActivity(a.ClosedOwners, "mock.Anything", []string{"make-room@runs"}).Return([]string(nil), nil)
	var before, after Facts
	env.RegisterDelayedCallback(func() {
		for _, owner := range []string{"runs", "terminated"} {
			room := HeldRoom{RequestID: owner, Load: Load{Host: "HostSystem:host-1", MemoryMB: 1024}}
			env.UpdateWorkflow(UpdateActive, owner, answers{t: t}, ActiveRequest{Owner: "make-room@" + owner, For: "db-1", Scopes: []string{scope}, Rooms: []HeldRoom{room}})
		}
		env.UpdateWorkflow(UpdateActive, "alarm", answers{t: t}, ActiveRequest{Owner: "intake@ended", Alarm: "alarm-1", Scopes: []string{scope}})
		env.UpdateWorkflow(UpdateFacts, "before", answers{t: t, got: &before}, FactsRequest{Owner: "b", Scope: scope})
	}, time.Second)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(UpdateFacts, "after", answers{t: t, got: &after}, FactsRequest{Owner: "b", Scope: scope})
		env.CancelWorkflow()
	}, 3*time.Minute)
	env.ExecuteWorkflow(Ledger, Input{Sweep: time.Minute})
	if len(before.HeldRooms) != 2 || len(after.HeldRooms) != 1 || after.HeldRooms[0].RequestID != "runs" {
		t.Errorf("held before %+v, after %+v", before.HeldRooms, after.HeldRooms)
	}
	if slices.Contains(looked, "intake@ended") {
		t.Errorf("the sweep looked at an alarm's intake: %v", looked)
	}
}
