package makeroom

import (
	"context"

	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// WhoRunsInput names VMs.
type WhoRunsInput struct {
	Tag string        `json:"tag"` // any tag that vCenter has
	VMs []vsphere.Ref `json:"vms"`
}

// WhoRuns returns those of the VMs that are on, or that no longer exist: no room is held for them any more.
func (a *Activities) WhoRuns(ctx context.Context, in WhoRunsInput) (list []vsphere.Ref, err error) {
	now, err := a.VCenter.State(ctx, in.Tag, in.VMs)
	if err != nil {
		return nil, preempt.WhenEnded(ctx, step.Typed(err))
	}
	for _, ref := range in.VMs {
		if vm, ok := now[ref]; !ok || vm.PowerState == vsphere.PoweredOn {
			list = append(list, ref)
		}
	}
	return list, nil
}
