package vcenter

import (
	"context"
	"slices"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// WithTags lists the VMs that carry any tag of these categories, sorted. Categories that do not exist have
// none. A call for each category, one per 1000 tags in them, and one for each tag and category that was not seen
// before; one more while a category is not known.
func (g *Gateway) WithTags(ctx context.Context, categories []string) ([]vsphere.Ref, error) {
	found, err := g.ownerTags(ctx, "list the VMs with", categories)
	if err != nil {
		return nil, err
	}
	var refs []vsphere.Ref
	for _, t := range found {
		refs = append(refs, t.vms...)
	}
	slices.SortFunc(refs, byText)
	return slices.Compact(refs), nil
}

// tagsOn reads which tags of these categories each VM carries: their names by category, sorted. The VMs must
// exist. One call per 1000 VMs, and one for each tag and category on them that was not seen before.
func (g *Gateway) tagsOn(ctx context.Context, op string, vms []vsphere.Ref, categories []string) (map[vsphere.Ref]map[string][]string, error) {
	carried := make(map[vsphere.Ref][]string, len(vms))
	for some := range slices.Chunk(vms, tagsAtOnce) {
		if err := g.readCarried(ctx, op, some, carried); err != nil {
			return nil, err
		}
	}
	var ids []string
	for _, list := range carried {
		ids = append(ids, list...)
	}
	if err := g.learnTags(ctx, unique(ids)); err != nil {
		return nil, err
	}
	names := make(map[vsphere.Ref]map[string][]string, len(carried))
	for ref, list := range carried {
		for _, id := range list {
			_, category := g.tags.category(id)
			if len(categories) > 0 {
				category, _ = sameName(categories, category)
			}
			if category == "" { // of another category, or deleted a moment ago
				continue
			}
			g.tags.use(id) // so that a new name of it is noticed
			if names[ref] == nil {
				names[ref] = make(map[string][]string)
			}
			names[ref][category] = append(names[ref][category], g.tags.name(id))
		}
		for _, list := range names[ref] {
			slices.Sort(list)
		}
	}
	return names, nil
}

// readCarried adds the ids of the tags that each object carries.
func (g *Gateway) readCarried(ctx context.Context, op string, refs []vsphere.Ref, carried map[vsphere.Ref][]string) error {
	objects := make([]mo.Reference, 0, len(refs))
	for _, ref := range refs {
		objects = append(objects, toMoRef(ref))
	}
	c := call{op: op, object: "the tags of " + g.describeAll(refs)}
	return g.rest(ctx, c, func(ctx context.Context, c *rest.Client) error {
		answer, err := tags.NewManager(c).ListAttachedTagsOnObjects(ctx, objects)
		for _, a := range answer {
			carried[fromMoRef(a.ObjectID.Reference())] = a.TagIDs
		}
		return err
	})
}

// learnTags reads those of the tags, and of their categories, that were not seen before.
func (g *Gateway) learnTags(ctx context.Context, ids []string) error {
	unknown := func() (unread, unnamed []string) {
		for _, id := range ids {
			if !g.tags.knows(id) {
				unread = append(unread, id)
			} else if category, name := g.tags.category(id); name == "" {
				unnamed = append(unnamed, category)
			}
		}
		return unread, unique(unnamed)
	}
	if unread, unnamed := unknown(); len(unread) == 0 && len(unnamed) == 0 {
		return nil
	}
	if err := enter(ctx, g.tags.turn); err != nil {
		return interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	unread, _ := unknown()
	found, err := g.readTags(ctx, unread)
	if err != nil {
		return err
	}
	for id, info := range found {
		g.tags.put(id, info)
	}
	_, unnamed := unknown()
	return g.readCategories(ctx, unnamed)
}

// knownCategory is the id of the category, "" when there is none of that name.
func (g *Gateway) knownCategory(ctx context.Context, name string) (string, error) {
	if id := g.tags.categoryNamed(name); id != "" {
		return id, nil
	}
	if err := enter(ctx, g.tags.turn); err != nil {
		return "", interrupted(call{op: "read", object: "tag categories"}, err)
	}
	defer func() { <-g.tags.turn }()
	return g.findCategory(ctx, name)
}

// findCategory is knownCategory for one who holds the turn.
func (g *Gateway) findCategory(ctx context.Context, name string) (string, error) {
	if id := g.tags.categoryNamed(name); id != "" {
		return id, nil
	}
	err := g.listCategories(ctx, g.tags.unnamed)
	return g.tags.categoryNamed(name), err
}

func anyID(string) bool { return true }

func (g *Gateway) unknownTag(id string) bool { return !g.tags.knows(id) }

// listCategories reads those categories that want says, and forgets those that are gone.
func (g *Gateway) listCategories(ctx context.Context, want func(id string) bool) error {
	var ids, missing []string
	err := g.rest(ctx, call{op: "list", object: "tag categories"}, func(ctx context.Context, c *rest.Client) (err error) {
		ids, err = tags.NewManager(c).ListCategories(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range g.tags.namedCategories() {
		if !slices.Contains(ids, id) {
			g.tags.forgetCategory(id)
		}
	}
	for _, id := range ids {
		if want(id) {
			missing = append(missing, id)
		}
	}
	return g.readCategories(ctx, missing)
}

// listTags reads those tags of the category that want says, and forgets those that are gone.
func (g *Gateway) listTags(ctx context.Context, category string, want func(id string) bool) error {
	var ids, missing []string
	c := call{op: "list", object: "the tags of a category"}
	err := g.rest(ctx, c, func(ctx context.Context, c *rest.Client) (err error) {
		ids, err = tags.NewManager(c).ListTagsForCategory(ctx, category)
		return err
	})
	if err != nil {
		return err
	}
	for id := range g.tags.of(category) {
		if !slices.Contains(ids, id) {
			g.tags.drop(id)
		}
	}
	for _, id := range ids {
		if want(id) {
			missing = append(missing, id)
		}
	}
	found, err := g.readTags(ctx, missing)
	for id, info := range found {
		g.tags.put(id, info)
	}
	return err
}
