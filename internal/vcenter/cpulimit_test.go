package vcenter

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func limitOf(t *testing.T, g *Gateway, ref vsphere.Ref) CPULimit {
	t.Helper()
	limits, err := g.CPULimits(t.Context(), []vsphere.Ref{ref, gone})
	check(t, err)
	limit, there := limits[ref]
	if _, other := limits[gone]; !there || other || !limit.Known {
		t.Fatalf("%+v", limits)
	}
	return limit
}

func TestACPULimitIsSetAndNothingElse(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	reshape(t, g, ref, types.VirtualMachineConfigSpec{CpuAllocation: &types.ResourceAllocationInfo{
		Reservation: types.NewInt64(300), Shares: &types.SharesInfo{Level: types.SharesLevelCustom, Shares: 777},
	}})
	before := limitOf(t, g, ref)
	if before.MHz != -1 || before.ReservedMHz != 300 || before.ChangeVersion == "" {
		t.Fatalf("at the start: %+v", before)
	}
	check(t, g.SetCPULimit(t.Context(), ref, 500, before.ChangeVersion))
	vms, err := g.State(t.Context(), "", []vsphere.Ref{ref})
	check(t, err)
	if after := limitOf(t, g, ref); after.MHz != 500 || after.ReservedMHz != 300 || vms[ref].CPULimitMHz != 500 {
		t.Errorf("afterwards: %+v, and the VM says %d", after, vms[ref].CPULimitMHz)
	}
	if err := g.SetCPULimit(t.Context(), ref, 600, before.ChangeVersion); KindOf(err) != Conflict {
		t.Errorf("the VM was changed since: %v", err)
	}
	if err := g.SetCPULimit(t.Context(), ref, 200, ""); err == nil || KindOf(err).Outage() {
		t.Errorf("a limit below the reservation: %v", err)
	}
	check(t, g.SetCPULimit(t.Context(), ref, -1, ""))
	vms, err = g.State(t.Context(), "", []vsphere.Ref{ref})
	check(t, err)
	if after := limitOf(t, g, ref); after.MHz != -1 || vms[ref].CPULimitMHz != 0 {
		t.Errorf("in the end: %+v, and the VM says %d", after, vms[ref].CPULimitMHz)
	}
	if err := g.SetCPULimit(t.Context(), gone, 500, ""); KindOf(err) != NotFound {
		t.Errorf("a VM that is gone: %v", err)
	}
}
