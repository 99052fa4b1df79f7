package e2e

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestAnAlarmRequestPowersOffTheTaggedVMsOfItsCluster(t *testing.T) {
	s := sitetest.New(t)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	if r.State != preemptapi.RoundCompleted || len(r.Preempted()) != 6 {
		t.Fatalf("want 6 VMs preempted, got %s: %+v", r.State, r)
	}
	s.Agree(r)
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		a, ok := s.Attribute(vm.Ref)
		if !ok || !a.Preempted || !a.ForcedShutdown || a.Criticality != "HIGH" || a.WorkflowID != s.ID("alarm") || a.Tag != "preemptible" {
			t.Errorf("attribute of %s: %+v (present %v)", vm.Name, a, ok)
		}
	}
	for _, vm := range s.VC.TaggedVMs("cluster-b") {
		if s.VC.PowerState(vm.Ref) != "poweredOn" {
			t.Errorf("%s of the other cluster went", vm.Name)
		}
	}
}
