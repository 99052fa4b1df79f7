package vcenter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// tagged lists the objects that carry the tag: one call once the name is known.
func (g *Gateway) tagged(ctx context.Context, op, name string) ([]vsphere.Ref, error) {
	id, err := g.resolveTag(ctx, op, name)
	if err != nil {
		return nil, err
	}
	refs, err := g.attached(ctx, op, name, id)
	if KindOf(err) != NotFound {
		return refs, err
	}
	g.tags.forget(id) // deleted in the meantime; perhaps there is a new one of this name
	if id, err = g.resolveTag(ctx, op, name); err != nil {
		return nil, err
	}
	return g.attached(ctx, op, name, id)
}

func (g *Gateway) attached(ctx context.Context, op, name, id string) ([]vsphere.Ref, error) {
	var refs []vsphere.Ref
	err := g.rest(ctx, call{op: op, object: fmt.Sprintf("tag %q", name)}, func(ctx context.Context, c *rest.Client) error {
		objects, err := tags.NewManager(c).ListAttachedObjects(ctx, id)
		if err != nil {
			return err
		}
		refs = refs[:0]
		for _, o := range objects {
			refs = append(refs, fromMoRef(o.Reference()))
		}
		return nil
	})
	slices.SortFunc(refs, func(a, b vsphere.Ref) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(refs), err
}

// resolveTag turns `name` or `category:name` into the tag's id. A known name costs no call. For an unknown
// name, vCenter is asked for new tags each time, after a wait if necessary so that it is not asked too often, and for
// renamed tags from time to time.
func (g *Gateway) resolveTag(ctx context.Context, op, name string) (string, error) {
	began := time.Now()
	id, err := g.matchTag(ctx, op, name)
	if id != "" || err != nil {
		return id, err
	}
	if err := enter(ctx, g.tags.turn); err != nil {
		return "", interrupted(call{op: op, object: name}, err)
	}
	defer func() { <-g.tags.turn }()
	refreshNew := func(ctx context.Context) error { return g.refreshNew(ctx, began) }
	refreshOwn := func(ctx context.Context) error { return g.refreshCategoriesOf(ctx, name) }
	for _, refresh := range []func(context.Context) error{g.refreshNothing, refreshOwn, refreshNew, g.refreshStale} {
		if err := refresh(ctx); err != nil {
			return "", err
		}
		if id, err := g.matchTag(ctx, op, name); id != "" || err != nil {
			return id, err
		}
	}
	remedy := fmt.Sprintf("check the spelling, or create it: govc tags.category.create preemption && govc tags.create -c preemption %q", name)
	if near := g.tags.near(name); len(near) > 0 {
		remedy = "did you mean " + strings.Join(near, " or ") + "? Else " + remedy
	}
	return "", &Error{Op: op, Object: fmt.Sprintf("tag %q", name), Kind: TagNotFound, Err: errNoTag, Remedy: remedy}
}

// matchTag looks up the name in the cache; "" if it is not there.
func (g *Gateway) matchTag(ctx context.Context, op, name string) (string, error) {
	plain, qualified := g.tags.matches(name)
	if !g.tags.isWhole() { // another category may have the name too
		plain = nil
	}
	for _, id := range qualified {
		category, err := g.category(ctx, id)
		if err != nil {
			return "", err
		}
		if category+":"+g.tags.name(id) == name {
			plain = append(plain, id)
		}
	}
	switch len(plain) {
	case 0:
		return "", nil
	case 1:
		g.tags.use(plain[0])
		return plain[0], nil
	}
	return "", g.ambiguous(ctx, op, name, plain)
}

func (g *Gateway) ambiguous(ctx context.Context, op, name string, ids []string) error {
	var qualified, categories []string
	for _, id := range ids {
		category, err := g.category(ctx, id)
		if err != nil {
			return err
		}
		categories = append(categories, category)
		qualified = append(qualified, category+":"+g.tags.name(id))
	}
	slices.Sort(categories)
	slices.Sort(qualified)
	return &Error{
		Op: op, Object: fmt.Sprintf("tag %q", name), Kind: TagAmbiguous,
		Err:    fmt.Errorf("the name exists in the categories %s", strings.Join(categories, ", ")),
		Remedy: "say which one, as category:name: " + strings.Join(qualified, " or "),
	}
}

// category returns the name of a tag's category; one call per category, ever.
func (g *Gateway) category(ctx context.Context, tagID string) (string, error) {
	id, name := g.tags.category(tagID)
	if name != "" {
		return name, nil
	}
	name, err := g.readCategory(ctx, id)
	if err == nil {
		g.tags.learnCategory(id, name)
	}
	return name, err
}

// RefreshTags reads the names of all tags: one call, and one more for each tag.
func (g *Gateway) RefreshTags(ctx context.Context) error {
	if err := enter(ctx, g.tags.turn); err != nil {
		return interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	return g.refresh(ctx, func(string) bool { return true })
}

// loadTags is RefreshTags for an empty cache.
func (g *Gateway) loadTags(ctx context.Context) error {
	if err := enter(ctx, g.tags.turn); err != nil {
		return interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	return g.refreshStale(ctx)
}

// refreshNothing is used if another caller has read the tags while this one waited for its turn.
func (g *Gateway) refreshNothing(context.Context) error { return nil }

// refreshCategoriesOf reads the tags of the category in the name, unless the names of all tags are known.
func (g *Gateway) refreshCategoriesOf(ctx context.Context, name string) error {
	if !strings.Contains(name, ":") || g.tags.isWhole() {
		return nil
	}
	var categories []string
	for i := range name {
		if name[i] == ':' {
			categories = append(categories, name[:i])
		}
	}
	if !g.tags.knowsCategories(categories) {
		if err := g.listCategories(ctx, g.tags.unnamed); err != nil {
			return err
		}
	}
	for id := range g.tags.categoriesNamed(categories) {
		if err := g.listTags(ctx, id, g.unknownTag); err != nil && KindOf(err) != NotFound {
			return err
		}
	}
	return nil
}

// refreshNew reads the names of tags not seen before, unless that was done since the caller began to ask.
func (g *Gateway) refreshNew(ctx context.Context, began time.Time) error {
	if g.tags.listedSince(began) {
		return nil
	}
	if wait := g.tags.nextLook(); wait > 0 && !clock.Sleep(ctx, wait) {
		return interrupted(call{op: "look for a new tag in", object: "vCenter"}, ctx.Err())
	}
	return g.refresh(ctx, func(id string) bool { return !g.tags.knows(id) })
}

// refreshStale reads all names again, because a known tag may have been renamed, unless they were read recently.
func (g *Gateway) refreshStale(ctx context.Context) error {
	if g.tags.fullWithin(fullEvery) {
		return nil
	}
	return g.refresh(ctx, func(string) bool { return true })
}

// revalidateTags reads new tags, those in use and the owners' categories: the cheap way to keep the cache up to date.
func (g *Gateway) revalidateTags(ctx context.Context) error {
	if err := enter(ctx, g.tags.turn); err != nil {
		return interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	if err := g.refresh(ctx, func(id string) bool { return g.tags.inUse(id) || g.tags.isWhole() && !g.tags.knows(id) }); err != nil {
		return err
	}
	return g.readCategories(ctx, slices.Collect(maps.Keys(g.tags.categoriesNamed(ownerCategories))))
}

// refresh lists the ids and reads those for which want is true, some at a time. The caller holds the turn.
func (g *Gateway) refresh(ctx context.Context, want func(id string) bool) error {
	var ids []string
	began := time.Now()
	err := g.rest(ctx, call{op: "list", object: "tags"}, func(ctx context.Context, c *rest.Client) (err error) {
		ids, err = tags.NewManager(c).ListTags(ctx)
		return err
	})
	if err != nil {
		return err
	}
	var missing []string
	whole := true
	for _, id := range ids {
		if want(id) {
			missing = append(missing, id)
		} else if !g.tags.knows(id) {
			whole = false
		}
	}
	found, err := g.readTags(ctx, missing)
	if err != nil {
		return err
	}
	g.tags.store(began, ids, found, whole, len(missing) == len(ids))
	return nil
}

// readTags reads each tag. Tags deleted in the meantime are left out.
func (g *Gateway) readTags(ctx context.Context, ids []string) (map[string]tagInfo, error) {
	var mu sync.Mutex
	found := make(map[string]tagInfo, len(ids))
	err := g.forEach(ctx, ids, func(ctx context.Context, id string) error {
		info, err := g.readTag(ctx, id)
		switch {
		case err == nil:
			mu.Lock()
			defer mu.Unlock()
			found[id] = info
		case KindOf(err) == NotFound:
			return nil
		}
		return err
	})
	return found, err
}

// forEach calls f for each id, with half of the configured calls at once, until one fails.
func (g *Gateway) forEach(ctx context.Context, ids []string, f func(ctx context.Context, id string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	queue := make(chan string)
	for range min(len(ids), max(1, g.cfg.MaxConcurrentCalls/2)) {
		group.Go(func() {
			for id := range queue {
				if err := f(ctx, id); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, id := range ids {
		select {
		case queue <- id:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	group.Wait()
	return context.Cause(ctx)
}

func (g *Gateway) readTag(ctx context.Context, id string) (info tagInfo, err error) {
	err = g.rest(ctx, call{op: "read tag", object: id}, func(ctx context.Context, c *rest.Client) error {
		var tag tags.Tag
		req := c.Resource(tagPath).WithID(id).Request(http.MethodGet)
		err := c.Do(ctx, req, &tag)
		info = tagInfo{name: tag.Name, category: tag.CategoryID}
		return err
	})
	return info, err
}

var errNoTag = errors.New("vCenter has no such tag")

const tagPath = "/com/vmware/cis/tagging/tag"
