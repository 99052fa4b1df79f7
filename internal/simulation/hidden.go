package simulation

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ownerCategories are the tag categories by which owners of VMs have a say. Each simulated vCenter has them, unless its
// options say otherwise.
var ownerCategories = []string{"preemption-priority", "preemption-group", "preemption-protect"}

// buildOwnerCategories makes them.
func (v *VCenter) buildOwnerCategories() error {
	if v.options.NoOwnerCategories {
		return nil
	}
	for _, name := range ownerCategories {
		if err := v.CreateCategory(name, false); err != nil {
			return err
		}
	}
	return nil
}

// hidden is what our user may not see.
type hidden struct {
	mu         sync.Mutex // a leaf
	categories []string
	objects    []types.ManagedObjectReference
}

// HideCategories takes our user's permission on these tag categories and on all tags in them: as with vCenter they are
// absent from every list and unknown by id, and nothing says so. Each call replaces what the one before hid.
func (v *VCenter) HideCategories(names ...string) {
	v.hidden.mu.Lock()
	defer v.hidden.mu.Unlock()
	v.hidden.categories = slices.Clone(names)
}

// HideObjects takes our user's permission to view these objects, such as folders: they are absent from what is
// retrieved, and nothing says so. Each call replaces what the one before hid.
func (v *VCenter) HideObjects(refs ...types.ManagedObjectReference) {
	v.hidden.mu.Lock()
	defer v.hidden.mu.Unlock()
	v.hidden.objects = slices.Clone(refs)
}

func (h *hidden) objectsNow() []types.ManagedObjectReference {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.objects
}

// hiddenIDs are the ids of the hidden categories and their tags; nil where nothing is hidden.
func (v *VCenter) hiddenIDs() map[string]bool {
	v.hidden.mu.Lock()
	names := v.hidden.categories
	v.hidden.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	ids := map[string]bool{}
	_ = v.withTags(func(s tagStore) error {
		categories, _ := fieldOf(s, "Category").(map[string]*tags.Category)
		for id, c := range categories {
			ids[id] = ids[id] || slices.Contains(names, c.Name)
		}
		all, _ := fieldOf(s, "Tag").(map[string]*tags.Tag)
		for id, t := range all {
			ids[id] = ids[t.CategoryID]
		}
		return nil
	})
	return ids
}

// serveHiding serves a REST call without what our user may not see. False: nothing is hidden.
func (v *VCenter) serveHiding(w http.ResponseWriter, r *http.Request) bool {
	ids := v.hiddenIDs()
	if ids == nil || !strings.Contains(r.URL.Path, "/tagging/") {
		return false
	}
	for id, is := range ids {
		if is && strings.Contains(r.URL.Path, id) {
			answer(w, http.StatusNotFound, map[string]any{"type": "com.vmware.vapi.std.errors.not_found", "value": map[string]any{"messages": []any{}}})
			return true
		}
	}
	full := &recorder{header: w.Header(), status: http.StatusOK}
	v.service.ServeMux.ServeHTTP(full, r)
	var body any
	if full.status == http.StatusOK && json.Unmarshal(full.body.Bytes(), &body) == nil {
		full.body.Reset()
		_ = json.NewEncoder(&full.body).Encode(without(body, ids))
		w.Header().Del("Content-Length")
	}
	w.WriteHeader(full.status)
	_, _ = io.Copy(w, bytes.NewReader(full.body.Bytes()))
	return true
}

// without drops hidden ids from lists, and the entries of lists that are about them.
func without(body any, ids map[string]bool) any {
	switch b := body.(type) {
	case map[string]any:
		for k := range b {
			b[k] = without(b[k], ids)
		}
	case []any:
		seen := make([]any, 0, len(b))
		for _, entry := range b {
			id, _ := entry.(string)
			if about, ok := entry.(map[string]any); ok {
				id, _ = about["tag_id"].(string)
			}
			if !ids[id] {
				seen = append(seen, without(entry, ids))
			}
		}
		return seen
	}
	return body
}

// collector serves one retrieval without what our user may not see.
type collector struct {
	Self   types.ManagedObjectReference
	from   *simulator.PropertyCollector
	hidden []types.ManagedObjectReference
}

// Reference implements mo.Reference.
func (c *collector) Reference() types.ManagedObjectReference { return c.Self }

// RetrievePropertiesEx serves RetrievePropertiesEx.
func (c *collector) RetrievePropertiesEx(ctx *simulator.Context, req *types.RetrievePropertiesEx) soap.HasFault {
	res := c.from.RetrievePropertiesEx(ctx, req)
	body, ok := res.(*methods.RetrievePropertiesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil {
		return res
	}
	page := body.Res.Returnval
	page.Objects = slices.DeleteFunc(page.Objects, func(o types.ObjectContent) bool { return slices.Contains(c.hidden, o.Obj) })
	return res
}

// hide serves a retrieval without what our user may not see, where anything is hidden.
func (v *VCenter) hide(ctx *simulator.Context, this types.ManagedObjectReference) {
	objects := v.hidden.objectsNow()
	from, ok := ctx.Session.Get(this).(*simulator.PropertyCollector)
	if len(objects) > 0 && ok {
		v.serveWith(ctx, &collector{Self: this, from: from, hidden: objects})
	}
}
