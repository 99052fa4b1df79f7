package vcenter

import (
	"context"
	"errors"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fieldCache knows the numeric keys of custom attributes by name. A key may be 0.
type fieldCache struct {
	turn chan struct{} // held while a key is looked up or created

	mu   sync.Mutex
	keys map[string]int32
}

func newFieldCache() *fieldCache {
	return &fieldCache{turn: make(chan struct{}, 1), keys: make(map[string]int32)}
}

func (f *fieldCache) get(name string) (int32, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, ok := f.keys[name]
	return key, ok
}

func (f *fieldCache) put(name string, key int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name] = key
}

// forget drops a key that vCenter rejected, unless it was renewed in the meantime.
func (f *fieldCache) forget(name string, key int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys[name] == key {
		delete(f.keys, name)
	}
}

// Annotate sets the VM's custom attribute, creating the attribute for virtual machines if vCenter does
// not have it. One call once the attribute's key is known.
func (g *Gateway) Annotate(ctx context.Context, ref vsphere.Ref, name, value string) error {
	for again := false; ; again = true {
		key, err := g.fieldKey(ctx, name)
		if err != nil {
			return err
		}
		err = g.setField(ctx, ref, key, name, value)
		rejected := holds[*types.InvalidArgument](err) || holds[*types.NotFound](err)
		if !rejected || again {
			return err
		}
		g.fields.forget(name, key) // someone removed or recreated the attribute
	}
}

func (g *Gateway) setField(ctx context.Context, ref vsphere.Ref, key int32, name, value string) error {
	c := call{op: "annotate", object: g.names.describe(ref), alike: true}
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		manager, err := fieldManager(s)
		if err != nil {
			return err
		}
		_, err = methods.SetField(ctx, s.client, &types.SetField{This: manager, Entity: toMoRef(ref), Key: key, Value: value})
		return err
	})
	g.log.Debug("annotate", "moref", ref.Value, "attribute", name, "reason", err)
	return err
}

// fieldKey returns the attribute's key. Simultaneous callers create it only once.
func (g *Gateway) fieldKey(ctx context.Context, name string) (int32, error) {
	if key, ok := g.fields.get(name); ok {
		return key, nil
	}
	if err := enter(ctx, g.fields.turn); err != nil {
		return 0, interrupted(call{op: "look up custom attribute", object: name}, err)
	}
	defer func() { <-g.fields.turn }()
	if key, ok := g.fields.get(name); ok {
		return key, nil
	}
	key, err := g.ensureField(ctx, name)
	if err == nil {
		g.fields.put(name, key)
	}
	return key, err
}

// ensureField reads the attribute's key, creating it if it is missing. When another worker creates it
// at the same moment, vCenter refuses ours as a duplicate, and the key is read again.
func (g *Gateway) ensureField(ctx context.Context, name string) (int32, error) {
	key, ok, err := g.readField(ctx, name)
	if ok || err != nil {
		return key, err
	}
	c := call{op: "create custom attribute", object: name, write: true}
	err = g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		manager, err := fieldManager(s)
		if err != nil {
			return err
		}
		res, err := methods.AddCustomFieldDef(ctx, s.client, &types.AddCustomFieldDef{This: manager, Name: name, MoType: vsphere.TypeVM})
		if err == nil {
			key = res.Returnval.Key
		}
		return err
	})
	if KindOf(err) != Conflict {
		return key, err
	}
	key, ok, readErr := g.readField(ctx, name)
	if ok || readErr != nil {
		return key, readErr
	}
	return 0, err // it exists for another type of object
}

func (g *Gateway) readField(ctx context.Context, name string) (key int32, ok bool, err error) {
	c := call{op: "look up custom attribute", object: name}
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		manager, err := fieldManager(s)
		return []types.PropertyFilterSpec{fieldSpec(manager)}, err
	})
	if err != nil {
		return 0, false, err
	}
	key, ok = findField(objects, name)
	return key, ok, nil
}

// Annotations reads the custom attribute of many VMs with one call. VMs without it, or that no longer
// exist, are absent.
func (g *Gateway) Annotations(ctx context.Context, refs []vsphere.Ref, name string) (map[vsphere.Ref]string, error) {
	values := make(map[vsphere.Ref]string)
	if len(refs) == 0 {
		return values, nil
	}
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: vsphere.TypeVM, PathSet: []string{"customValue"}}}}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref)})
	}
	c := call{op: "read custom attribute of", object: g.describeAll(refs)}
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		manager, err := fieldManager(s)
		return []types.PropertyFilterSpec{fieldSpec(manager), spec}, err
	})
	if err != nil {
		return nil, err
	}
	key, ok := findField(objects, name)
	if !ok {
		return values, nil
	}
	g.fields.put(name, key)
	for _, o := range objects {
		if value, ok := o.field(key); ok {
			values[o.ref] = value
		}
	}
	return values, nil
}

// field is the value of the custom attribute of that key.
func (o object) field(key int32) (value string, ok bool) {
	list, _ := o.props["customValue"].(types.ArrayOfCustomFieldValue)
	for _, v := range list.CustomFieldValue {
		if s, is := v.(*types.CustomFieldStringValue); is && s.Key == key {
			value, ok = s.Value, true
		}
	}
	return value, ok
}

// fieldManager is where vCenter keeps custom attributes; a lone ESX host has none.
func fieldManager(s *soapSession) (types.ManagedObjectReference, error) {
	if m := s.client.ServiceContent.CustomFieldsManager; m != nil {
		return *m, nil
	}
	return types.ManagedObjectReference{}, errors.New("this is an ESX host, not a vCenter: it has no custom attributes")
}

func fieldSpec(manager types.ManagedObjectReference) types.PropertyFilterSpec {
	return types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: manager.Type, PathSet: []string{"field"}}},
		ObjectSet: []types.ObjectSpec{{Obj: manager}},
	}
}

func findField(objects []object, name string) (key int32, ok bool) {
	for _, o := range objects {
		list, _ := o.props["field"].(types.ArrayOfCustomFieldDef)
		for _, f := range list.CustomFieldDef {
			if f.Name == name && (f.ManagedObjectType == vsphere.TypeVM || f.ManagedObjectType == "") {
				return f.Key, true
			}
		}
	}
	return 0, false
}
