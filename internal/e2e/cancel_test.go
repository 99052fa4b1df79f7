package e2e

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestARequestAfterACancelIsNotLostAndOneBeforeItIsWithdrawn(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	// No worker runs yet, so that all of it arrives together.
	s.Signal("before", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Signal("after", s.AlarmRequest("cluster-b", preemption.CriticalityLow))
	for _, id := range []string{"before", "after"} {
		if err := s.Temporal.CancelWorkflow(t.Context(), s.ID(id), ""); err != nil {
			t.Fatal(err)
		}
	}
	s.Signal("after", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	s.Worker()
	if r := s.Done("after"); r.Criticality != preemption.CriticalityHigh || len(r.Preempted()) != 6 {
		t.Errorf("what was asked after the cancel: %+v", r)
	}
	var res preemptapi.Response
	if err := s.Temporal.GetWorkflow(t.Context(), s.ID("before"), "").Get(t.Context(), &res); err != nil {
		t.Fatal(err)
	}
	if s.OffIn("cluster-a") != 0 {
		t.Error("what was asked before the cancel was done all the same")
	}
}

func TestAllChangesOfASignalAfterACancelAreKeptAndNoneBeforeIt(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	before := []preemption.AlarmChange{s.Changed("cluster-b", 0, "green", "red"), s.Changed("cluster-b", 1, "green", "red")}
	after := []preemption.AlarmChange{s.Changed("cluster-a", 0, "green", "red"), s.Changed("cluster-a", 1, "green", "red")}
	s.Changes("alarm", before) // no worker runs yet, so that all of it arrives together
	if err := s.Temporal.CancelWorkflow(t.Context(), s.ID("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	s.Changes("alarm", after)
	s.Worker()
	s.Until("alarm", "the round of what came after is over", func(r preemptapi.Response) bool { return r.Round != nil && r.State != preemptapi.IntakeRunning })
	if r := s.State("alarm"); len(r.Levels) != 2 || r.Requests != 2 || len(r.Round.Preempted()) != 6 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	if s.OffIn("cluster-b") != 0 {
		t.Error("what was asked before the cancel was done all the same")
	}
}
