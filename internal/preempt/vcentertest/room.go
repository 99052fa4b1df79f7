package vcentertest

import (
	"context"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Room tells what Asker needs, for each who asks.
func (v *VCenter) Room(_ context.Context, _ *vsphere.Snapshot, askers []vsphere.Ref) ([]vcenter.Asker, error) {
	var list []vcenter.Asker
	for _, ref := range askers {
		a := v.Asker
		a.Ref = ref
		if err := v.fails("Room", ref); err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}
