package simulation_test

import (
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// TestAWaitIsToldOfEachChangeAndOfObjectsOfALaterFilter shows that what a wait need not read anew it still reports.
func TestAWaitIsToldOfEachChangeAndOfObjectsOfALaterFilter(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	ctx, vms := t.Context(), v.VMs()
	made, err := methods.CreatePropertyCollector(ctx, c, &types.CreatePropertyCollector{This: c.ServiceContent.PropertyCollector})
	if err != nil {
		t.Fatal(err)
	}
	filter := func(vm simulation.VM) {
		t.Helper()
		_, err := methods.CreateFilter(ctx, c, &types.CreateFilter{This: made.Returnval, Spec: types.PropertyFilterSpec{
			ObjectSet: []types.ObjectSpec{{Obj: vm.Ref}},
			PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"runtime.powerState"}}},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	version := ""
	wait := func(what string, vm simulation.VM, kind types.ObjectUpdateKind, state types.VirtualMachinePowerState) {
		t.Helper()
		res, err := methods.WaitForUpdatesEx(ctx, c, &types.WaitForUpdatesEx{
			This: made.Returnval, Version: version, Options: &types.WaitOptions{MaxWaitSeconds: types.NewInt32(20)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if res.Returnval == nil {
			t.Fatalf("%s: nothing came", what)
		}
		version = res.Returnval.Version
		for _, f := range res.Returnval.FilterSet {
			for _, o := range f.ObjectSet {
				if o.Obj == vm.Ref && o.Kind == kind && len(o.ChangeSet) == 1 && o.ChangeSet[0].Val == state {
					return
				}
			}
		}
		t.Errorf("%s: %+v", what, res.Returnval.FilterSet)
	}
	turn := func(vm simulation.VM, state types.VirtualMachinePowerState) {
		t.Helper()
		if err := v.SetPowerState(vm.Ref, state); err != nil {
			t.Fatal(err)
		}
	}
	filter(vms[0])
	wait("the first state", vms[0], types.ObjectUpdateKindEnter, types.VirtualMachinePowerStatePoweredOn)
	turn(vms[0], types.VirtualMachinePowerStatePoweredOff)
	wait("a change", vms[0], types.ObjectUpdateKindModify, types.VirtualMachinePowerStatePoweredOff)
	turn(vms[0], types.VirtualMachinePowerStatePoweredOn)
	wait("another change", vms[0], types.ObjectUpdateKindModify, types.VirtualMachinePowerStatePoweredOn)
	filter(vms[1])
	turn(vms[1], types.VirtualMachinePowerStatePoweredOff)
	wait("the first state in a later filter", vms[1], types.ObjectUpdateKindEnter, types.VirtualMachinePowerStatePoweredOff)
}
