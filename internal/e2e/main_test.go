package e2e

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

func TestAnAlarmRequestPowersOffTheTaggedVMsOfItsCluster(t *testing.T) {
	s := newSite(t)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	if r.State != preemptapi.RoundCompleted || len(r.Preempted()) != 6 {
		t.Fatalf("want 6 VMs preempted, got %s: %+v", r.State, r)
	}
	s.agree(r)
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		a, ok := s.attribute(vm.Ref)
		if !ok || !a.Preempted || !a.ForcedShutdown || a.Criticality != "HIGH" || a.WorkflowID != s.id("alarm") || a.Tag != "preemptible" {
			t.Errorf("attribute of %s: %+v (present %v)", vm.Name, a, ok)
		}
	}
	for _, vm := range s.vc.TaggedVMs("cluster-b") {
		if s.vc.PowerState(vm.Ref) != "poweredOn" {
			t.Errorf("%s of the other cluster went", vm.Name)
		}
	}
}
