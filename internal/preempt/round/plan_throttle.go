package round

import (
	"context"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// readLimits reads the CPU limits of the candidates of a throttle, and which of them are ours: one call, and one more where a VM
// has a limit.
func (p *planning) readLimits(ctx context.Context) error {
	if p.in.Throttle == nil {
		return nil
	}
	all := make([]vsphere.Ref, 0, len(p.snap.VMs))
	for _, vm := range p.snap.VMs {
		all = append(all, vm.Ref)
	}
	var limits map[vsphere.Ref]vcenter.CPULimit
	err := p.Attempt(ctx, func() (err error) {
		limits, err = p.VCenter.CPULimits(ctx, all)
		return err
	})
	if err != nil {
		return step.Typed(err)
	}
	var limited []vsphere.Ref
	for i := range p.snap.VMs {
		vm := &p.snap.VMs[i]
		limit := limits[vm.Ref]
		vm.CPULimitMHz, vm.CPUReservedMHz, vm.LimitUnseen = max(0, limit.MHz), limit.ReservedMHz, !limit.Known
		if vm.CPULimitMHz > 0 {
			limited = append(limited, vm.Ref)
		}
	}
	if len(limited) == 0 {
		return nil
	}
	records, err := p.records(ctx, limited)
	if err != nil {
		return step.Typed(err)
	}
	for i := range p.snap.VMs {
		vm := &p.snap.VMs[i]
		vm.Throttled = vm.CPULimitMHz > 0 && records[vm.Ref].Throttle.Active(vm.CPULimitMHz)
	}
	return nil
}

// throttled is what the plan is asked where the VMs are to be throttled.
func (p *planning) throttled(d policy.Demand) policy.Demand {
	d.Throttle, d.Only = p.in.Throttle, p.in.Only
	d.MemoryOnly = p.alarm.threshold.Memory > 0 && p.alarm.threshold.CPU == 0
	return d
}
