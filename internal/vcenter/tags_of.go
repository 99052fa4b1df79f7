package vcenter

import (
	"context"
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// TagsOf reads which tags of these categories, or of all where none is given, each VM carries: their names by category, sorted. A VM that is gone is left out.
// One call per 1000 VMs, and one for each tag and category on them that was not seen before; if a VM is gone, one for each VM.
func (g *Gateway) TagsOf(ctx context.Context, vms []vsphere.Ref, categories ...string) (map[vsphere.Ref]map[string][]string, error) {
	const op = "read whom the tags of VMs name:"
	vms = unique(slices.Clone(vms))
	all, err := g.tagsOn(ctx, op, vms, categories)
	if KindOf(err) != NotFound {
		return all, err
	}
	all = make(map[vsphere.Ref]map[string][]string, len(vms))
	for _, vm := range vms {
		one, err := g.tagsOn(ctx, op, []vsphere.Ref{vm}, categories)
		if err != nil && KindOf(err) != NotFound {
			return nil, err
		}
		all[vm] = one[vm]
	}
	return all, nil
}
