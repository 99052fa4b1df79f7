package e2e

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

func TestARequestAfterACancelIsNotLostAndOneBeforeItIsWithdrawn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// No worker runs yet, so that all of it arrives together.
	s.signal("before", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.signal("after", s.alarmRequest("cluster-b", preemption.CriticalityLow))
	for _, id := range []string{"before", "after"} {
		if err := s.c.CancelWorkflow(t.Context(), s.id(id), ""); err != nil {
			t.Fatal(err)
		}
	}
	s.signal("after", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	s.worker()
	if r := s.done("after"); r.Criticality != preemption.CriticalityHigh || len(r.Preempted()) != 6 {
		t.Errorf("what was asked after the cancel: %+v", r)
	}
	var res preemptapi.Response
	if err := s.c.GetWorkflow(t.Context(), s.id("before"), "").Get(t.Context(), &res); err != nil {
		t.Fatal(err)
	}
	if s.off("cluster-a") != 0 {
		t.Error("what was asked before the cancel was done all the same")
	}
}

func TestAllChangesOfASignalAfterACancelAreKeptAndNoneBeforeIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := []preemption.AlarmChange{s.changed("cluster-b", 0, "green", "red"), s.changed("cluster-b", 1, "green", "red")}
	after := []preemption.AlarmChange{s.changed("cluster-a", 0, "green", "red"), s.changed("cluster-a", 1, "green", "red")}
	s.changes("alarm", before) // no worker runs yet, so that all of it arrives together
	if err := s.c.CancelWorkflow(t.Context(), s.id("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	s.changes("alarm", after)
	s.worker()
	s.until("alarm", "the round of what came after is over", func(r preemptapi.Response) bool { return r.Round != nil && r.State != "running" })
	if r := s.state("alarm"); len(r.Levels) != 2 || r.Requests != 2 || len(r.Round.Preempted()) != 6 {
		t.Errorf("%s", pretty(r))
	}
	if s.off("cluster-b") != 0 {
		t.Error("what was asked before the cancel was done all the same")
	}
}
