package vcenter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var errNoCluster = errors.New("this vCenter has no such cluster")

// FindCluster returns the cluster that has this MoRef (ClusterComputeResource:domain-c7 or domain-c7), inventory path
// (/dc-1/host/cluster-a) or name, and its name. Kind ScopeNotFound: none, with those that were perhaps meant; kind Ambiguous:
// several, which the error lists. One call.
func (g *Gateway) FindCluster(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, string, error) {
	what := strings.TrimSpace(nameOrPathOrMoRef)
	c := call{op: "find cluster", object: fmt.Sprintf("%q", what)}
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		return []types.PropertyFilterSpec{clusterSpec(s.client.ServiceContent.RootFolder)}, nil
	})
	if err != nil {
		return vsphere.Ref{}, "", err
	}
	inv := g.inventoryOf(objects)
	var all, found []object
	for _, o := range objects {
		if o.ref.Type != vsphere.TypeCluster {
			continue
		}
		all = append(all, o)
		path, _ := inv.path(o.ref)
		name := o.text("name")
		if what != "" && (o.ref.Value == what || o.ref.String() == what || name == what || unescape(name) == what ||
			strings.Trim(path, "/") == strings.Trim(what, "/")) {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		e := &Error{
			Op: c.op, Object: c.object, Kind: ScopeNotFound, Err: errNoCluster,
			Remedy: "give its name, its inventory path such as /dc-1/host/cluster-a, or its MoRef such as domain-c7, and check that the user may see it",
		}
		return vsphere.Ref{}, "", e.near(what, all)
	case 1:
		return found[0].ref, unescape(found[0].text("name")), nil
	}
	var list []string
	for _, o := range found {
		path, _ := inv.path(o.ref)
		list = append(list, fmt.Sprintf("%s (%s)", o.ref.Value, path))
	}
	slices.Sort(list)
	return vsphere.Ref{}, "", &Error{
		Op: c.op, Object: c.object, Kind: Ambiguous, Err: fmt.Errorf("%d clusters are called so", len(found)),
		Remedy: "say which one, by MoRef or path: " + strings.Join(list, " or "),
	}
}

// clusterSpec asks for all clusters, and for what is above them.
func clusterSpec(root types.ManagedObjectReference) types.PropertyFilterSpec {
	folder := &types.SelectionSpec{Name: "folder"}
	named := []string{"name", "parent"}
	return types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{
			{Type: vsphere.TypeCluster, PathSet: named}, {Type: typeFolder, PathSet: named}, {Type: "Datacenter", PathSet: named},
		},
		ObjectSet: []types.ObjectSpec{{Obj: root, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{
			SelectionSpec: types.SelectionSpec{Name: "folder"}, Type: typeFolder, Path: "childEntity",
			SelectSet: []types.BaseSelectionSpec{
				folder, &types.TraversalSpec{Type: "Datacenter", Path: "hostFolder", SelectSet: []types.BaseSelectionSpec{folder}},
			},
		}}}},
	}
}
