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

// nouns is what people name that is no VM: of which types, where it is found, and what is said where it is not.
type nouns struct {
	plural  string
	types   []string
	missing error
	kind    Kind // of the error that there is none
	example string
	below   func() []types.BaseSelectionSpec // from a folder to such objects
}

var (
	namedClusters = nouns{
		plural: "clusters", types: []string{vsphere.TypeCluster}, kind: ScopeNotFound, missing: errors.New("this vCenter has no such cluster"),
		example: "its inventory path such as /dc-1/host/cluster-a, or its MoRef such as domain-c7", below: toClusters,
	}
	namedPlaces = nouns{
		plural: "clusters and hosts", types: []string{vsphere.TypeCluster, vsphere.TypeHost}, kind: ScopeNotFound,
		missing: errors.New("this vCenter has no such cluster or host"),
		example: "its inventory path such as /dc-1/host/cluster-a/esx-1, or its MoRef such as domain-c7 or host-9", below: toHosts,
	}
	namedDatastores = nouns{
		plural: "datastores", types: []string{vsphere.TypeDatastore}, kind: NotFound, missing: errors.New("this vCenter has no such datastore"),
		example: "its inventory path such as /dc-1/datastore/vmfs-1, or its MoRef such as datastore-42", below: toDatastores,
	}
)

// FindCluster returns the cluster that has this MoRef (ClusterComputeResource:domain-c7 or domain-c7), inventory path
// (/dc-1/host/cluster-a) or name, and its name. Kind ScopeNotFound: none, with those that were perhaps meant; kind Ambiguous:
// several, which the error lists. One call.
func (g *Gateway) FindCluster(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, string, error) {
	return g.findNamed(ctx, "find cluster", namedClusters, nameOrPathOrMoRef)
}

// FindPlace is FindCluster for a cluster or a host.
func (g *Gateway) FindPlace(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error) {
	ref, _, err := g.findNamed(ctx, "find cluster or host", namedPlaces, nameOrPathOrMoRef)
	return ref, err
}

// Datastore returns the datastore that has this MoRef (Datastore:datastore-42 or datastore-42), inventory path
// (/dc-1/datastore/vmfs-1) or name. Kind NotFound: none, with those that were perhaps meant; kind Ambiguous: several, in different
// data centres, which the error lists. One call.
func (g *Gateway) Datastore(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error) {
	ref, _, err := g.findNamed(ctx, "find datastore", namedDatastores, nameOrPathOrMoRef)
	return ref, err
}

// ClusterNames lists the names of the clusters that this user may see. One call.
func (g *Gateway) ClusterNames(ctx context.Context) ([]string, error) {
	return g.namesOf(ctx, "list clusters", namedClusters)
}

// DatastoreNames is ClusterNames for datastores.
func (g *Gateway) DatastoreNames(ctx context.Context) ([]string, error) {
	return g.namesOf(ctx, "list datastores", namedDatastores)
}

// VMNames lists the names of all VMs that this user may see. One call over all VMs.
func (g *Gateway) VMNames(ctx context.Context) ([]string, error) {
	objects, err := g.allVMs(ctx, call{op: "list VMs", object: "names"}, []string{"name"})
	return unescaped(objects), err
}

func (g *Gateway) namesOf(ctx context.Context, op string, of nouns) ([]string, error) {
	objects, err := g.retrieveWith(ctx, call{op: op, object: "names"}, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		return []types.PropertyFilterSpec{of.spec(s.client.ServiceContent.RootFolder)}, nil
	})
	return unescaped(slices.DeleteFunc(objects, func(o object) bool { return !slices.Contains(of.types, o.ref.Type) })), err
}

// unescaped returns the names of objects, sorted, each once.
func unescaped(objects []object) []string {
	names := make([]string, 0, len(objects))
	for _, o := range objects {
		names = append(names, unescape(o.text("name")))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (g *Gateway) findNamed(ctx context.Context, op string, of nouns, nameOrPathOrMoRef string) (vsphere.Ref, string, error) {
	what := strings.TrimSpace(nameOrPathOrMoRef)
	c := call{op: op, object: fmt.Sprintf("%q", what)}
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		return []types.PropertyFilterSpec{of.spec(s.client.ServiceContent.RootFolder)}, nil
	})
	if err != nil {
		return vsphere.Ref{}, "", err
	}
	return g.theOne(c, of, what, objects)
}

// theOne is the object of these nouns that is called so. objects are they, and what is above them.
func (g *Gateway) theOne(c call, of nouns, what string, objects []object) (vsphere.Ref, string, error) {
	inv := g.inventoryOf(objects)
	var all, found []object
	for ref, o := range inv {
		if !slices.Contains(of.types, ref.Type) {
			continue
		}
		all = append(all, o)
		path, _ := inv.path(ref)
		name := o.text("name")
		if what != "" && (ref.Value == what || ref.String() == what || name == what || unescape(name) == what ||
			strings.Trim(path, "/") == strings.Trim(what, "/")) {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		e := &Error{
			Op: c.op, Object: c.object, Kind: of.kind, Err: of.missing,
			Remedy: "give its name, " + of.example + ", and check that the user may see it",
		}
		return vsphere.Ref{}, "", e.near(what, all)
	case 1:
		name := unescape(found[0].text("name"))
		g.names.learn(found[0].ref, name)
		return found[0].ref, name, nil
	}
	var list []string
	for _, o := range found {
		text := o.ref.String()
		if path, _ := inv.path(o.ref); path != "" {
			text += " (" + path + ")"
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return vsphere.Ref{}, "", &Error{
		Op: c.op, Object: c.object, Kind: Ambiguous, Err: fmt.Errorf("%d %s are called so", len(found), of.plural),
		Remedy: "say which one, by MoRef or path: " + strings.Join(list, " or "),
	}
}

// spec asks for all such objects, and for what is above them.
func (of nouns) spec(root types.ManagedObjectReference) types.PropertyFilterSpec {
	var set []types.PropertySpec
	kinds := append([]string{typeFolder, "Datacenter"}, of.types...)
	if slices.Contains(of.types, vsphere.TypeHost) {
		kinds = append(kinds, vsphere.TypeCompute) // above a host that is in no cluster
	}
	for _, kind := range kinds {
		set = append(set, types.PropertySpec{Type: kind, PathSet: []string{"name", "parent"}})
	}
	return types.PropertyFilterSpec{
		PropSet: set,
		ObjectSet: []types.ObjectSpec{{Obj: root, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{
			SelectionSpec: types.SelectionSpec{Name: "folder"}, Type: typeFolder, Path: "childEntity",
			SelectSet: append([]types.BaseSelectionSpec{&types.SelectionSpec{Name: "folder"}}, of.below()...),
		}}}},
	}
}

func toClusters() []types.BaseSelectionSpec { return inDatacenters("hostFolder") }

func toHosts() []types.BaseSelectionSpec {
	return append(toClusters(), &types.TraversalSpec{Type: vsphere.TypeCompute, Path: "host"})
}

func toDatastores() []types.BaseSelectionSpec { return inDatacenters("datastoreFolder") }

// inDatacenters goes from data centres into one of their folders.
func inDatacenters(folder string) []types.BaseSelectionSpec {
	return []types.BaseSelectionSpec{&types.TraversalSpec{
		Type: "Datacenter", Path: folder, SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "folder"}},
	}}
}
