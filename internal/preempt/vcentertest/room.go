package vcentertest

import (
	"context"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Room tells what Asker needs.
func (v *VCenter) Room(_ context.Context, _ *vsphere.Snapshot, asker vsphere.Ref) (vcenter.Asker, error) {
	a := v.Asker
	a.Ref = asker
	return a, v.fails("Room", asker)
}
