package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vapi/rest"
	vapi "github.com/vmware/govmomi/vapi/simulator"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"
)

// tagStore is the part of the tag simulator that can be used without HTTP; its lock is the caller's business.
type tagStore interface {
	sync.Locker
	AttachedObjects(string) ([]types.ManagedObjectReference, types.BaseMethodFault)
	AttachedTags(types.ManagedObjectReference) ([]string, types.BaseMethodFault)
	AttachTag(types.ManagedObjectReference, string) types.BaseMethodFault
	DetachTag(types.ManagedObjectReference, string) types.BaseMethodFault
	GetTagByCategoryAndName(string, string) (string, types.BaseMethodFault)
}

// startREST adds the tag simulator to the service.
func (v *VCenter) startREST() {
	patterns, h := vapi.New(v.service.Listen, v.service.Context.Map)
	for _, p := range patterns {
		v.service.Handle(p, h)
	}
	v.vapi = h
}

// CreateCategory makes a category of which an object carries one tag only (single) or many, and whose tags go on
// objects of these types (VirtualMachine, HostSystem, ...), or of any if none is given.
func (v *VCenter) CreateCategory(name string, single bool, kinds ...string) error {
	category := tags.Category{Name: name, Cardinality: multipleTags, AssociableTypes: kinds}
	if single {
		category.Cardinality = singleTag
	}
	if _, err := v.create("/rest/com/vmware/cis/tagging/category", map[string]any{"create_spec": category}); err != nil {
		return fmt.Errorf("create tag category %q: %w", name, err)
	}
	return nil
}

// CreateTag makes a tag, and its category if there is none of that name: one for any object and many tags. Making a
// tag that exists does nothing.
func (v *VCenter) CreateTag(category, name string) error {
	if _, err := v.tagID(category, name); err == nil {
		return nil
	}
	id, err := v.categoryID(category)
	if err != nil {
		return err
	}
	_, err = v.create("/rest/com/vmware/cis/tagging/tag", map[string]any{"create_spec": tags.Tag{Name: name, CategoryID: id}})
	if err != nil {
		return fmt.Errorf("create tag %q in category %q: %w", name, category, err)
	}
	return nil
}

// AttachTag puts the tag, which must exist, on objects.
func (v *VCenter) AttachTag(category, tag string, refs ...types.ManagedObjectReference) error {
	id, err := v.tagID(category, tag)
	if err != nil {
		return err
	}
	return v.withTags(func(s tagStore) error {
		for _, ref := range refs {
			if why := refuseAttach(s, ref, id); why != "" {
				return fmt.Errorf("attach tag %s to %s: %s", tag, ref.Value, why)
			}
			if err := faultError("attach tag "+tag+" to "+ref.Value, s.AttachTag(ref, id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// DetachTag takes the tag, which must exist, off an object.
func (v *VCenter) DetachTag(category, tag string, ref types.ManagedObjectReference) error {
	id, err := v.tagID(category, tag)
	if err != nil {
		return err
	}
	return v.withTags(func(s tagStore) error { return faultError("detach tag "+tag+" from "+ref.Value, s.DetachTag(ref, id)) })
}

// SetTags lets the VM carry these tags of the category and no others of it; what is missing is made.
func (v *VCenter) SetTags(ref types.ManagedObjectReference, category string, names ...string) error {
	for _, name := range names {
		if err := v.CreateTag(category, name); err != nil {
			return err
		}
	}
	for _, name := range v.tagNames(category) {
		if slices.Contains(names, name) {
			continue
		}
		if err := v.DetachTag(category, name, ref); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := v.AttachTag(category, name, ref); err != nil {
			return err
		}
	}
	return nil
}

// TagsOf are the tags that the object carries, by category and sorted.
func (v *VCenter) TagsOf(ref types.ManagedObjectReference) map[string][]string {
	out := map[string][]string{}
	_ = v.withTags(func(s tagStore) error {
		ids, _ := s.AttachedTags(ref)
		for _, id := range ids {
			if tag, category := tagIn(s, id); category != nil {
				out[category.Name] = append(out[category.Name], tag.Name)
			}
		}
		return nil
	})
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// tagNames are the tags of a category; none if there is no such category.
func (v *VCenter) tagNames(category string) (names []string) {
	var id string
	_ = v.withField("Category", func(field any) {
		for _, c := range field.(map[string]*tags.Category) {
			if c.Name == category {
				id = c.ID
			}
		}
	})
	_ = v.withField("Tag", func(field any) {
		for _, t := range field.(map[string]*tags.Tag) {
			if t.CategoryID == id {
				names = append(names, t.Name)
			}
		}
	})
	return names
}

// tagged are the objects that carry the tag.
func (v *VCenter) tagged(category, tag string) (refs []types.ManagedObjectReference, err error) {
	id, err := v.tagID(category, tag)
	if err != nil {
		return nil, err
	}
	err = v.withTags(func(s tagStore) error {
		var fault types.BaseMethodFault
		refs, fault = s.AttachedObjects(id)
		return faultError("list the objects with tag "+tag, fault)
	})
	return refs, err
}

func (v *VCenter) tagID(category, tag string) (id string, err error) {
	err = v.withTags(func(s tagStore) error {
		var fault types.BaseMethodFault
		if id, fault = s.GetTagByCategoryAndName(category, tag); fault != nil {
			return fmt.Errorf("the simulated vCenter has no tag %q in a category %q; CreateTag makes it", tag, category)
		}
		return nil
	})
	return id, err
}

func (v *VCenter) withTags(fn func(tagStore) error) error {
	store, ok := v.vapi.(tagStore)
	if !ok {
		return fmt.Errorf("the tag simulator is a %T, which cannot be used directly; this govmomi is not the one simulation was written for", v.vapi)
	}
	store.Lock()
	defer store.Unlock()
	return fn(store)
}

func (v *VCenter) categoryID(name string) (id string, err error) {
	err = v.withField("Category", func(field any) {
		for _, c := range field.(map[string]*tags.Category) {
			if c.Name == name {
				id = c.ID
			}
		}
	})
	if err != nil || id != "" {
		return id, err
	}
	if err := v.CreateCategory(name, false); err != nil {
		return "", err
	}
	return v.categoryID(name)
}

// endRESTSessions ends every REST session.
func (v *VCenter) endRESTSessions() error {
	return v.withField("Session", func(field any) { clear(field.(map[string]*rest.Session)) })
}

// withField runs fn under the tag simulator's lock on one of the maps that it exports, on a type that it does not.
func (v *VCenter) withField(name string, fn func(any)) error {
	return v.withTags(func(s tagStore) error {
		field := fieldOf(s, name)
		if field == nil {
			return fmt.Errorf("the tag simulator has no field %s; this govmomi is not the one simulation was written for", name)
		}
		fn(field)
		return nil
	})
}

// fieldOf is one of those maps; nil if there is none. The caller holds the lock.
func fieldOf(s tagStore, name string) any {
	field := reflect.Indirect(reflect.ValueOf(s)).FieldByName(name)
	if !field.IsValid() || !field.CanInterface() {
		return nil
	}
	return field.Interface()
}

// create posts a spec to the tag simulator in process, with a session of its own, and returns the id made.
func (v *VCenter) create(path string, spec any) (string, error) {
	session, err := v.postInProcess(sessionPath, "", nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = v.withField("Session", func(f any) { delete(f.(map[string]*rest.Session), session) }) }()
	return v.postInProcess(path, session, spec)
}

const sessionPath = "/rest/com/vmware/cis/session"

func (v *VCenter) postInProcess(path, session string, body any) (string, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	u := &url.URL{Scheme: "http", Host: "simulation", Path: path}
	r, err := http.NewRequest(http.MethodPost, u.String(), bytes.NewReader(data)) //nolint:noctx // in process
	if err != nil {
		return "", err
	}
	r.SetBasicAuth(v.Username(), v.Password())
	r.Header.Set("vmware-api-session-id", session)
	answer := &recorder{header: http.Header{}, status: http.StatusOK}
	v.vapi.ServeHTTP(answer, r)
	if answer.status != http.StatusOK {
		return "", fmt.Errorf("POST %s in process answers %d: %s", path, answer.status, answer.body.String())
	}
	var value struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(answer.body.Bytes(), &value); err != nil {
		return "", fmt.Errorf("POST %s in process answers no id: %w", path, err)
	}
	return value.Value, nil
}
