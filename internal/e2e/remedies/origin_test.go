package remedies

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// elsewhere lets an alarm turn red on an object of another vCenter, whose event comes to this site's receiver.
func elsewhere(s *sitetest.Site, other *sitetest.Site, alarm string, entity types.ManagedObjectReference) {
	s.T.Helper()
	ev, err := other.VC.PostAlarm(s.T.Context(), simulation.AlarmChange{Name: alarm, Entity: entity, From: "yellow", To: "red"})
	s.Must(err)
	if a := s.Bring(s.Receiver(), sitetest.Sourced(s.T, other.VC.URL(), ev)); a.Code != http.StatusAccepted {
		s.T.Fatalf("the receiver answers %+v", a)
	}
}

// alike returns a VM whose reference a VM of the other vCenter has too.
func alike(s, other *sitetest.Site) types.ManagedObjectReference {
	s.T.Helper()
	for _, vm := range s.VC.TaggedVMs("") {
		for _, its := range other.VC.TaggedVMs("") {
			if vm.Ref == its.Ref {
				return vm.Ref
			}
		}
	}
	s.T.Fatal("no VMs of the two vCenters have the same reference")
	return types.ManagedObjectReference{}
}

// wantForeign checks that a remediation was left alone because its event is another vCenter's.
func wantForeign(s *sitetest.Site, kind string, object types.ManagedObjectReference) {
	s.T.Helper()
	if d := s.Decided(kind, object, remediateapi.Skipped); !strings.Contains(d.Reason, "is not of this vCenter") {
		s.T.Errorf("the reason is not its origin: %s", sitetest.Pretty(d))
	}
}

func TestAnAlarmOfAVMOfAnotherVCenterResizesNoVMHere(t *testing.T) {
	t.Parallel()
	s, other := sitetest.Remedied(t, resizes(placement.AlarmCPU, placement.Resize{Mode: placement.ModeHotAdd})), sitetest.Remedied(t)
	vm := alike(s, other)
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.Worker()
	elsewhere(s, other, placement.AlarmCPU, vm)
	wantForeign(s, placement.KindResize, vm)
	s.WantHardware(vm, 2, 16<<10)
	wantWish(s, vm, placement.CategoryCPUs, "")
}

func TestAFullDatastoreOfAnotherVCenterMovesNoVMHere(t *testing.T) {
	t.Parallel()
	s, other := sitetest.Remedied(t, moves(placement.AlarmDatastore, placement.Move{})), sitetest.Remedied(t)
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 300, 220)
	if twin := other.Full(other.VC.TaggedVMs(""), 300, 220); twin != ds {
		t.Fatalf("the datastores are not alike: %s and %s", ds, twin)
	}
	s.Worker()
	elsewhere(s, other, placement.AlarmDatastore, ds)
	wantForeign(s, placement.KindMove, ds)
	for _, vm := range vms[:2] {
		if !s.DisksOn(vm.Ref, ds) {
			t.Errorf("%s was moved", vm.Name)
		}
	}
}
