package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// elsewhere lets an alarm turn red on an object of another vCenter, whose event comes to this site's receiver.
func (s *site) elsewhere(other *site, alarm string, entity types.ManagedObjectReference) {
	s.t.Helper()
	ev, err := other.vc.PostAlarm(s.t.Context(), simulation.AlarmChange{Name: alarm, Entity: entity, From: "yellow", To: "red"})
	s.must(err)
	if a := s.bring(s.receiver(), sourced(s.t, other.vc.URL(), ev)); a.code != http.StatusAccepted {
		s.t.Fatalf("the receiver answers %+v", a)
	}
}

// wantForeign checks that a remediation was left alone because its event is another vCenter's.
func (s *site) wantForeign(kind string, object types.ManagedObjectReference) {
	s.t.Helper()
	if d := s.decided(kind, object, remediateapi.Skipped); !strings.Contains(d.Reason, "is not of this vCenter") {
		s.t.Errorf("the reason is not its origin: %s", pretty(d))
	}
}

func TestAnAlarmOfAVMOfAnotherVCenterResizesNoVMHere(t *testing.T) {
	t.Parallel()
	s, other := remedied(t, resizes(remedy.AlarmCPU, remedy.Resize{Mode: remedy.ModeHotAdd})), remedied(t)
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.worker()
	s.elsewhere(other, remedy.AlarmCPU, vm)
	s.wantForeign(remedy.KindResize, vm)
	s.wantHardware(vm, 2, 16<<10)
	s.wantWish(vm, remedy.CategoryCPUs, "")
}

func TestAFullDatastoreOfAnotherVCenterMovesNoVMHere(t *testing.T) {
	t.Parallel()
	s, other := remedied(t, moves(remedy.AlarmDatastore, remedy.Move{})), remedied(t)
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 300, 220)
	if twin := other.full(other.vc.TaggedVMs(""), 300, 220); twin != ds {
		t.Fatalf("the datastores are not alike: %s and %s", ds, twin)
	}
	s.worker()
	s.elsewhere(other, remedy.AlarmDatastore, ds)
	s.wantForeign(remedy.KindMove, ds)
	for _, vm := range vms[:2] {
		if !s.disksOn(vm.Ref, ds) {
			t.Errorf("%s was moved", vm.Name)
		}
	}
}
