package vcenter

import (
	"context"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// CPULimit is the CPU limit of a VM.
type CPULimit struct {
	MHz           int64 // -1: unlimited
	Known         bool  // vCenter shows it
	ReservedMHz   int64 // no limit may be lower
	ChangeVersion string
}

// The properties of a CPULimit.
const (
	limitProperty    = "config.cpuAllocation.limit"
	reservedProperty = "config.cpuAllocation.reservation"
	versionProperty  = "config.changeVersion"
)

// CPULimits reads the CPU limits of VMs. A VM absent from the result does not exist. One call.
func (g *Gateway) CPULimits(ctx context.Context, refs []vsphere.Ref) (map[vsphere.Ref]CPULimit, error) {
	limits := make(map[vsphere.Ref]CPULimit, len(refs))
	if len(refs) == 0 {
		return limits, nil
	}
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{
		{Type: vsphere.TypeVM, PathSet: []string{"name", limitProperty, reservedProperty, versionProperty}},
	}}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref)})
	}
	objects, err := g.retrieve(ctx, call{op: "read the CPU limits of", object: g.describeAll(refs)}, spec)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		g.names.learn(o.ref, o.text("name"))
		_, known := o.props[limitProperty].(int64)
		limits[o.ref] = CPULimit{
			MHz: o.number(limitProperty), Known: known, ReservedMHz: o.number(reservedProperty), ChangeVersion: o.text(versionProperty),
		}
	}
	return limits, nil
}

// SetCPULimit sets the CPU limit of a VM, and nothing else, and waits until that is done; -1 is unlimited. With a changeVersion
// it fails with kind Conflict if the VM was changed since that was read. If the error is an outage, or the wait was cut off,
// only the VM shows whether the limit was set. One call, and those of AwaitTask.
func (g *Gateway) SetCPULimit(ctx context.Context, ref vsphere.Ref, mhz int64, changeVersion string) error {
	spec := types.VirtualMachineConfigSpec{
		ChangeVersion: changeVersion, CpuAllocation: &types.ResourceAllocationInfo{Limit: types.NewInt64(mhz)},
	}
	var task vsphere.Ref
	err := g.onVM(ctx, "set the CPU limit of", ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.ReconfigVM_Task(ctx, s.client, &types.ReconfigVM_Task{This: toMoRef(ref), Spec: spec})
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	})
	if err != nil {
		return err
	}
	return g.AwaitTask(ctx, task, nil)
}
