package vcenter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// FindVM returns the VM that has this MoRef (VirtualMachine:vm-42 or vm-42), inventory path
// (/dc-1/vm/prod/web-1) or name. Kind NotFound: none; kind Ambiguous: several, which the error lists. One
// call for a path or a whole MoRef, one over all VMs for anything else, one more to list several.
func (g *Gateway) FindVM(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error) {
	what := strings.TrimSpace(nameOrPathOrMoRef)
	c := call{op: "find VM", object: fmt.Sprintf("%q", what)}
	if ref, ok := vsphere.ParseRef(what); ok && ref.Type == vsphere.TypeVM {
		return g.findMoRef(ctx, c, ref)
	}
	if strings.Contains(what, "/") {
		ref, err := g.findPath(ctx, c, what)
		if err != nil || !ref.Zero() {
			return ref, err
		} // a slash may be part of a name
	}
	all, err := g.allVMs(ctx, c, []string{"name"})
	if err != nil {
		return vsphere.Ref{}, err
	}
	var found []vsphere.Ref
	for _, o := range all {
		name := o.text("name")
		if what != "" && (o.ref.Value == what || name == what || unescape(name) == what) {
			found = append(found, o.ref)
		}
	}
	switch len(found) {
	case 0:
		return vsphere.Ref{}, notFound(c).near(what, all)
	case 1:
		return found[0], nil
	}
	return vsphere.Ref{}, g.ambiguousVM(ctx, c, found)
}

func notFound(c call) *Error {
	return &Error{
		Op: c.op, Object: c.object, Kind: NotFound, Err: errNoVM,
		Remedy: "give its name, its inventory path such as /dc-1/vm/prod/web-1, or its MoRef such as vm-42, and check that the user may see it",
	}
}

// near adds to the remedy which of the objects were perhaps meant.
func (e *Error) near(what string, all []object) error {
	if what == "" {
		return e
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = unescape(all[i].text("name"))
	}
	if near := shown.Near(what, names); len(near) > 0 {
		e.Remedy = "did you mean " + strings.Join(near, " or ") + "? Else " + e.Remedy
	}
	return e
}

var errNoVM = errors.New("this vCenter has no such VM")

func (g *Gateway) findMoRef(ctx context.Context, c call, ref vsphere.Ref) (vsphere.Ref, error) {
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: vsphere.TypeVM, PathSet: []string{"name"}}},
		ObjectSet: []types.ObjectSpec{{Obj: toMoRef(ref)}},
	})
	if err != nil {
		return vsphere.Ref{}, err
	}
	if len(objects) == 0 {
		return vsphere.Ref{}, notFound(c)
	}
	return ref, nil
}

// findPath returns the zero reference if there is no VM at the path.
func (g *Gateway) findPath(ctx context.Context, c call, path string) (ref vsphere.Ref, err error) {
	err = g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		res, err := methods.FindByInventoryPath(ctx, s.client, &types.FindByInventoryPath{
			This: *s.client.ServiceContent.SearchIndex, InventoryPath: strings.Trim(path, "/"),
		})
		if err == nil && res.Returnval != nil && res.Returnval.Type == vsphere.TypeVM {
			ref = fromMoRef(*res.Returnval)
		}
		return err
	})
	return ref, err
}

func (g *Gateway) ambiguousVM(ctx context.Context, c call, found []vsphere.Ref) error {
	const most = 10
	slices.SortFunc(found, byText)
	shown := found[:min(len(found), most)]
	inv, err := g.inventory(ctx, c, wanted{vms: shown})
	if err != nil {
		return err
	}
	var list []string
	for _, ref := range shown {
		above, _ := inv.placed(ref)
		folder, _ := inv.path(above)
		list = append(list, fmt.Sprintf("%s:%s (%s/%s)", ref.Type, ref.Value, folder, inv[ref].text("name")))
	}
	if more := len(found) - most; more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return &Error{
		Op: c.op, Object: c.object, Kind: Ambiguous, Err: fmt.Errorf("%d VMs are called so", len(found)),
		Remedy: "say which one, by MoRef or path: " + strings.Join(list, " or "),
	}
}

// allVMs reads properties of every VM that we may see, templates included, with one call.
func (g *Gateway) allVMs(ctx context.Context, c call, properties []string, also ...func(*soapSession) (types.PropertyFilterSpec, error)) ([]object, error) {
	return g.retrieveWith(ctx, c, func(s *soapSession) (specs []types.PropertyFilterSpec, err error) {
		for _, f := range also {
			spec, err := f(s)
			if err != nil {
				return nil, err
			}
			specs = append(specs, spec)
		}
		return append(specs, types.PropertyFilterSpec{
			PropSet:   []types.PropertySpec{{Type: vsphere.TypeVM, PathSet: properties}},
			ObjectSet: []types.ObjectSpec{{Obj: s.client.ServiceContent.RootFolder, SelectSet: downwards()}},
		}), nil
	})
}

// downwards traverses from the root folder to all VMs, those in vApps too.
func downwards() []types.BaseSelectionSpec {
	folder, vapp := &types.SelectionSpec{Name: "folder"}, &types.SelectionSpec{Name: "vapp"}
	return []types.BaseSelectionSpec{&types.TraversalSpec{
		SelectionSpec: types.SelectionSpec{Name: "folder"}, Type: "Folder", Path: "childEntity",
		SelectSet: []types.BaseSelectionSpec{
			folder,
			&types.TraversalSpec{Type: "Datacenter", Path: "vmFolder", SelectSet: []types.BaseSelectionSpec{folder}},
			&types.TraversalSpec{Type: "VirtualApp", Path: "vm"},
			&types.TraversalSpec{
				SelectionSpec: types.SelectionSpec{Name: "vapp"}, Type: "VirtualApp", Path: "resourcePool",
				SelectSet: []types.BaseSelectionSpec{vapp, &types.TraversalSpec{Type: "ResourcePool", Path: "vm"}},
			},
		},
	}}
}

// Owned is a VM that carries a custom attribute.
type Owned struct {
	Ref          vsphere.Ref
	Name         string
	InstanceUUID string
	PowerState   string
	Value        string // of the attribute, never empty
}

// Owned lists all VMs of this vCenter that carry the custom attribute with a value, sorted by reference.
// One call over all VMs.
func (g *Gateway) Owned(ctx context.Context, attribute string) ([]Owned, error) {
	c := call{op: "list the VMs with custom attribute", object: attribute}
	properties := []string{"name", "config.instanceUuid", "runtime.powerState", "customValue"}
	objects, err := g.allVMs(ctx, c, properties, func(s *soapSession) (types.PropertyFilterSpec, error) {
		manager, err := fieldManager(s)
		return fieldSpec(manager), err
	})
	if err != nil {
		return nil, err
	}
	key, ok := findField(objects, attribute)
	if !ok {
		return nil, nil
	}
	g.fields.put(attribute, key)
	var list []Owned
	for _, o := range objects {
		if value, _ := o.field(key); value != "" {
			list = append(list, Owned{
				Ref: o.ref, Name: unescape(o.text("name")), Value: value,
				InstanceUUID: o.text("config.instanceUuid"), PowerState: o.text("runtime.powerState"),
			})
		}
	}
	slices.SortFunc(list, func(a, b Owned) int { return byText(a.Ref, b.Ref) })
	return list, nil
}
