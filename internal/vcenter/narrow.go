package vcenter

import (
	"context"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// narrow divides VMs into those in a scope and those elsewhere, where Scope.Narrow asks for it. A scope that vCenter does
// not have is found out when it is read.
func (g *Gateway) narrow(ctx context.Context, c call, vms []vsphere.Ref, scope Scope) (in, elsewhere []vsphere.Ref, err error) {
	if scope.Narrow == 0 || len(vms) <= scope.Narrow || scope.Ref.Type != typeCluster && scope.Ref.Type != vsphere.TypeHost {
		return vms, nil, nil
	}
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: vsphere.TypeVM, PathSet: []string{"name"}}},
		ObjectSet: []types.ObjectSpec{{Obj: toMoRef(scope.Ref), SelectSet: vmsBelow()}},
	})
	if KindOf(err) == NotFound {
		return vms, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	there := make(map[vsphere.Ref]bool, len(objects))
	for _, o := range objects {
		there[o.ref] = true
		g.names.learn(o.ref, unescape(o.text("name")))
	}
	for _, ref := range vms {
		if there[ref] {
			in = append(in, ref)
		} else {
			elsewhere = append(elsewhere, ref)
		}
	}
	return in, elsewhere, nil
}

// vmsBelow traverses from a cluster or host to its VMs, also through the resource pools, for hosts may be hidden.
func vmsBelow() []types.BaseSelectionSpec {
	ofHost := &types.TraversalSpec{Type: vsphere.TypeHost, Path: "vm"}
	pools := &types.TraversalSpec{
		SelectionSpec: types.SelectionSpec{Name: "pools"},
		Type:          "ResourcePool", Path: "resourcePool",
		SelectSet: []types.BaseSelectionSpec{
			&types.SelectionSpec{Name: "pools"},
			&types.TraversalSpec{Type: "ResourcePool", Path: "vm"},
		},
	}
	return []types.BaseSelectionSpec{
		ofHost,
		&types.TraversalSpec{Type: vsphere.TypeCompute, Path: "host", SelectSet: []types.BaseSelectionSpec{ofHost}},
		&types.TraversalSpec{
			Type: vsphere.TypeCompute, Path: "resourcePool",
			SelectSet: []types.BaseSelectionSpec{pools, &types.TraversalSpec{Type: "ResourcePool", Path: "vm"}},
		},
	}
}
