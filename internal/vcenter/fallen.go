package vcenter

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// manyCarry is the number of VMs with a tag above which only those in the cluster are read.
const manyCarry = 500

// Fallen returns the VMs of a cluster that carry the tag, are off, and were not powered off in order: as those are that ran on a
// host which died. The calls of Candidates, and one more if VMs are off.
func (g *Gateway) Fallen(ctx context.Context, tag string, cluster vsphere.Ref) ([]vsphere.Ref, error) {
	s, err := g.Candidates(ctx, tag, Scope{Ref: cluster, Narrow: manyCarry})
	if err != nil {
		return nil, err
	}
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: vsphere.TypeVM, PathSet: []string{"runtime.powerState", "runtime.cleanPowerOff"}}}}
	for i := range s.VMs {
		if vm := &s.VMs[i]; vm.Cluster == cluster && vm.PowerState == vsphere.PoweredOff && !vm.Template {
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(vm.Ref)})
		}
	}
	if len(spec.ObjectSet) == 0 {
		return nil, nil
	}
	objects, err := g.retrieve(ctx, call{op: "look how VMs went off that carry", object: fmt.Sprintf("tag %q", tag)}, spec)
	if err != nil {
		return nil, err
	}
	var fallen []vsphere.Ref
	for _, o := range objects {
		clean, known := o.props["runtime.cleanPowerOff"].(bool)
		if known && !clean && o.text("runtime.powerState") == vsphere.PoweredOff {
			fallen = append(fallen, o.ref)
		}
	}
	return fallen, nil
}
