package vcenter

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestAnEventOfAFailedPowerOnTellsTheClassOfItsFault(t *testing.T) {
	_, g := warm(t, simulation.Options{Clusters: 1})
	vm := types.VmEvent{Event: types.Event{Key: 7, Vm: &types.VmEventArgument{
		EntityEventArgument: types.EntityEventArgument{Name: "db-1"}, Vm: types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-9"},
	}}}
	fault := types.LocalizedMethodFault{Fault: &types.InsufficientMemoryResourcesFault{Requested: 2}, LocalizedMessage: "not enough memory"}
	for class, event := range map[alarm.Class]types.BaseEvent{
		alarm.ClassPowerOnFailed:  &types.VmFailedToPowerOnEvent{VmEvent: vm, Reason: fault},
		alarm.ClassFailoverFailed: &types.VmFailoverFailed{VmEvent: vm, Reason: &fault},
	} {
		s := g.streamEvent(event)
		e, err := alarm.Decode(alarm.Message{Type: s.Class, Source: "https://vc/sdk", Data: s.JSON})
		if err != nil || e.Class != class || e.Shortage.Fault != "InsufficientMemoryResourcesFault" || e.Shortage.Message != "not enough memory" || e.Shortage.VM.Value != "vm-9" {
			t.Errorf("%s: %+v, %v\n%s", class, e, err, s.JSON)
		}
	}
	without := g.streamEvent(&types.VmFailoverFailed{VmEvent: vm})
	if e, err := alarm.Decode(alarm.Message{Type: without.Class, Source: "https://vc/sdk", Data: without.JSON}); err != nil || e.Shortage.Fault != "" {
		t.Errorf("without a reason: %+v, %v", e, err)
	}
}
