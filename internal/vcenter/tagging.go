package vcenter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// TagName names a tag by its category. Without a Name it is the category itself.
type TagName struct {
	Category, Name string
}

// The privileges for tagging, which vCenter does not name in a refusal.
const (
	needsAttach = "InventoryService.Tagging.AttachTag and InventoryService.Tagging.ObjectAttachable"
	needsCreate = "InventoryService.Tagging.CreateCategory and InventoryService.Tagging.CreateTag"
)

// WithTags lists the VMs that carry any tag of these categories, sorted. Categories that do not exist have
// none. A call for each category, one per 1000 tags in them, and one for each tag and category that was not seen
// before; one more while a category is unknown.
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
			category, ok := sameName(categories, category)
			if !ok {
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

// learnTags reads the tags and categories that were not seen before.
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

// SetTag gives the VM this tag of the category and no other. The tag and the category are created if they do not
// exist. vCenter has no call for that, and refuses a second tag of a category with single
// cardinality. So the others are detached first, and attached again if the new one cannot be attached. A repetition
// after a crash at any instant ends in the same state. Once the names are known, one call if the VM has the tag
// already, else two, and one for each other tag.
func (g *Gateway) SetTag(ctx context.Context, ref vsphere.Ref, category, value string) error {
	const op = "tag"
	c := call{op: op, object: g.names.describe(ref), needs: needsAttach}
	switch {
	case ref.Type != vsphere.TypeVM:
		return &Error{Op: op, Object: ref.String(), Kind: NotFound, Err: errNotVM}
	case category == "" || value == "":
		return &Error{Op: op, Object: c.object, Kind: Invalid, Err: errNoTagName}
	}
	for again := false; ; again = true {
		id, in, err := g.ensureTag(ctx, category, value)
		if err == nil {
			err = g.replaceTags(ctx, c, ref, in, id)
		}
		kind := KindOf(err)
		if again || kind != NotFound && kind != Invalid {
			g.log.Debug(op, "moref", ref.Value, "category", category, "tag", value, "reason", err)
			return err
		}
		if kind == Invalid {
			continue // somebody else attached a tag of the category in the meantime
		}
		if gone := g.gone(ctx, c, ref); gone != nil {
			return gone
		}
		g.tags.drop(id) // deleted in the meantime, perhaps with its category
		g.tags.forgetCategory(in)
	}
}

// ClearTag detaches all tags of the category from the VM. It is not an error if it has none, or if there is no
// such category. Once the names are known, one call, and one for each tag.
func (g *Gateway) ClearTag(ctx context.Context, ref vsphere.Ref, category string) error {
	const op = "take a tag off"
	c := call{op: op, object: g.names.describe(ref), needs: needsAttach}
	if ref.Type != vsphere.TypeVM {
		return &Error{Op: op, Object: ref.String(), Kind: NotFound, Err: errNotVM}
	}
	in, err := g.knownCategory(ctx, category)
	if err != nil || in == "" {
		return err
	}
	carried, err := g.carriedIn(ctx, c, ref, in)
	if err != nil {
		return g.orGone(ctx, c, ref, err)
	}
	for _, id := range carried {
		if err := g.detach(ctx, c, ref, id); err != nil {
			return g.orGone(ctx, c, ref, err)
		}
	}
	g.log.Debug(op, "moref", ref.Value, "category", category, "tags", len(carried))
	return nil
}

// replaceTags attaches the tag in the place of the others of its category.
func (g *Gateway) replaceTags(ctx context.Context, c call, ref vsphere.Ref, category, id string) error {
	carried, err := g.carriedIn(ctx, c, ref, category)
	if err != nil {
		return g.orGone(ctx, c, ref, err)
	}
	var former []string
	for _, other := range carried {
		if other == id {
			continue
		}
		if err := g.detach(ctx, c, ref, other); err != nil {
			g.attachAgain(ctx, c, ref, former)
			return g.orGone(ctx, c, ref, err)
		}
		former = append(former, other)
	}
	if slices.Contains(carried, id) {
		return nil
	}
	if err := g.attach(ctx, c, ref, id); err != nil {
		g.attachAgain(ctx, c, ref, former)
		return g.orGone(ctx, c, ref, err)
	}
	return nil
}

// attachAgain undoes detaching, even if the caller's context has ended. A failure is left to the caller's
// next attempt: the original error says what is wrong.
func (g *Gateway) attachAgain(ctx context.Context, c call, ref vsphere.Ref, former []string) {
	if len(former) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	for _, id := range former {
		if err := g.attach(ctx, c, ref, id); err != nil {
			g.log.Warn("could not attach a tag again", "moref", ref.Value, "tag", g.tags.name(id), "reason", err)
		}
	}
}

// carriedIn lists the tags of the category that the VM carries. One call when they are known.
func (g *Gateway) carriedIn(ctx context.Context, c call, ref vsphere.Ref, category string) ([]string, error) {
	var all, in []string
	err := g.rest(ctx, c, func(ctx context.Context, c *rest.Client) (err error) {
		all, err = tags.NewManager(c).ListAttachedTags(ctx, toMoRef(ref))
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := g.learnTags(ctx, all); err != nil {
		return nil, err
	}
	for _, id := range all {
		if of, _ := g.tags.category(id); of == category {
			in = append(in, id)
		}
	}
	slices.Sort(in)
	return in, nil
}

func (g *Gateway) attach(ctx context.Context, c call, ref vsphere.Ref, id string) error {
	return g.rest(ctx, c, func(ctx context.Context, c *rest.Client) error {
		return tags.NewManager(c).AttachTag(ctx, id, toMoRef(ref))
	})
}

// detach accepts that the tag was deleted in the meantime.
func (g *Gateway) detach(ctx context.Context, c call, ref vsphere.Ref, id string) error {
	err := g.rest(ctx, c, func(ctx context.Context, c *rest.Client) error {
		return tags.NewManager(c).DetachTag(ctx, id, toMoRef(ref))
	})
	if KindOf(err) == NotFound && g.gone(ctx, c, ref) == nil {
		return nil
	}
	return err
}

// orGone returns the error, or that the VM no longer exists: for such a VM vCenter says that we have no permission.
func (g *Gateway) orGone(ctx context.Context, c call, ref vsphere.Ref, err error) error {
	if KindOf(err) == NoPermission {
		if gone := g.gone(ctx, c, ref); gone != nil {
			return gone
		}
	}
	return err
}

// gone returns an error if the VM does not exist, nil if it exists or that is unknown now.
func (g *Gateway) gone(ctx context.Context, c call, ref vsphere.Ref) error {
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: ref.Type, PathSet: []string{"name"}}},
		ObjectSet: []types.ObjectSpec{{Obj: toMoRef(ref)}},
	})
	if err == nil && len(objects) == 0 {
		return &Error{Op: c.op, Object: c.object, Kind: NotFound, Err: errGone}
	}
	return nil
}

var (
	errGone      = errors.New("it no longer exists")
	errNoTagName = errors.New("a tag needs a category and a name")
)

// EnsureTags creates the missing ones of these tags, named by category. It returns, sorted, what it created, or with
// dryRun would create, and what existed. A category it makes has single cardinality and is for virtual
// machines; one that exists is used as it is. Somebody else may do the same at the same time. A call for the
// categories, one for each, one for the tags of each one asked for and one for each of these tags, and one
// for each thing made.
func (g *Gateway) EnsureTags(ctx context.Context, values map[string][]string, dryRun bool) (created, existed []TagName, err error) {
	if err := enter(ctx, g.tags.turn); err != nil {
		return nil, nil, interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	note := func(name TagName, made bool) {
		if made {
			created = append(created, name)
		} else {
			existed = append(existed, name)
		}
	}
	if err := g.listCategories(ctx, anyID); err != nil {
		return nil, nil, err
	}
	for _, category := range slices.Sorted(maps.Keys(values)) {
		in, made, err := g.makeCategory(ctx, category, dryRun)
		if err != nil {
			return created, existed, err
		}
		note(TagName{Category: category}, made)
		if in != "" && !made {
			if err := g.listTags(ctx, in, anyID); err != nil {
				return created, existed, err
			}
		}
		for _, name := range unique(slices.Sorted(slices.Values(values[category]))) {
			_, made, err := g.makeTag(ctx, in, TagName{category, name}, dryRun)
			if err != nil {
				return created, existed, err
			}
			note(TagName{category, name}, made)
		}
	}
	return created, existed, nil
}

// ensureTag returns the tag and its category, and creates them if they are missing. It needs no call if the
// names are known.
func (g *Gateway) ensureTag(ctx context.Context, category, name string) (id, in string, err error) {
	if in = g.tags.categoryNamed(category); in != "" {
		if id = g.tagIn(in, name, equal); id != "" {
			g.tags.use(id)
			return id, in, nil
		}
	}
	if err := enter(ctx, g.tags.turn); err != nil {
		return "", "", interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	if in, err = g.findCategory(ctx, category); err == nil && in == "" {
		in, _, err = g.makeCategory(ctx, category, false)
	}
	if err == nil {
		err = g.listTags(ctx, in, g.unknownTag)
	}
	if err == nil {
		id, _, err = g.makeTag(ctx, in, TagName{category, name}, false)
	}
	if err == nil {
		g.tags.use(id)
	}
	return id, in, err
}

// knownCategory is the id of the category; "" if there is none of that name.
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

// findCategory is knownCategory for a caller that holds the turn.
func (g *Gateway) findCategory(ctx context.Context, name string) (string, error) {
	if id := g.tags.categoryNamed(name); id != "" {
		return id, nil
	}
	err := g.listCategories(ctx, g.tags.unnamed)
	return g.tags.categoryNamed(name), err
}

func anyID(string) bool { return true }

func (g *Gateway) unknownTag(id string) bool { return !g.tags.knows(id) }

// listCategories reads the categories for which want is true, and forgets those that no longer exist.
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

// listTags reads the tags of the category for which want is true, and forgets those that no longer exist.
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

// makeCategory returns the category, and creates it unless it is known. If another caller creates it at the same
// moment, vCenter refuses ours and it is read. With dryRun nothing is created and there may be no id.
func (g *Gateway) makeCategory(ctx context.Context, name string, dryRun bool) (id string, made bool, err error) {
	if id := g.tags.categoryNamed(name); id != "" {
		return id, false, nil
	}
	if name == "" {
		return "", false, &Error{Op: "create tag category", Kind: Invalid, Err: errNoTagName}
	}
	if dryRun {
		return "", true, nil
	}
	c := call{op: "create tag category", object: fmt.Sprintf("%q", name), write: true, needs: needsCreate}
	err = g.rest(ctx, c, func(ctx context.Context, c *rest.Client) (err error) {
		id, err = tags.NewManager(c).CreateCategory(ctx, &tags.Category{
			Name: name, Description: describeCategory(name),
			Cardinality: "SINGLE", AssociableTypes: []string{vsphere.TypeVM},
		})
		return err
	})
	switch {
	case err == nil:
		g.log.Info("created tag category", "category", name)
		g.tags.learnCategory(id, name)
		return id, true, nil
	case KindOf(err) != Conflict:
		return "", false, err
	}
	if id, findErr := g.findCategory(ctx, name); id != "" || findErr != nil {
		return id, false, findErr
	}
	return "", false, err
}

// makeTag is makeCategory for a tag in a category whose tags are known.
func (g *Gateway) makeTag(ctx context.Context, category string, name TagName, dryRun bool) (id string, made bool, err error) {
	if id := g.tagIn(category, name.Name, equal); id != "" {
		return id, false, nil
	}
	if name.Name == "" {
		return "", false, &Error{Op: "create tag", Object: "in category " + name.Category, Kind: Invalid, Err: errNoTagName}
	}
	if dryRun {
		return "", true, nil
	}
	c := call{op: "create tag", object: fmt.Sprintf("%q in category %s", name.Name, name.Category), write: true, needs: needsCreate}
	err = g.rest(ctx, c, func(ctx context.Context, c *rest.Client) (err error) {
		id, err = tags.NewManager(c).CreateTag(ctx, &tags.Tag{
			Name: name.Name, Description: madeBy, CategoryID: category,
		})
		return err
	})
	switch {
	case err == nil:
		g.log.Info("created tag", "category", name.Category, "tag", name.Name)
		g.tags.put(id, tagInfo{name: name.Name, category: category})
		return id, true, nil
	case KindOf(err) != Conflict:
		return "", false, err
	}
	if err := g.listTags(ctx, category, g.unknownTag); err != nil {
		return "", false, err
	}
	id = cmp.Or(g.tagIn(category, name.Name, equal), g.tagIn(category, name.Name, strings.EqualFold))
	if id == "" {
		return "", false, err
	}
	return id, false, nil
}

// tagIn is the known tag of that name in the category, "" for none.
func (g *Gateway) tagIn(category, name string, same func(a, b string) bool) string {
	if category == "" {
		return ""
	}
	known := g.tags.of(category)
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if same(known[id], name) {
			return id
		}
	}
	return ""
}

func equal(a, b string) bool { return a == b }

// madeBy is the description of tags that we create, so that administrators know their origin.
const madeBy = "Made by vsphere-preemption."

func describeCategory(name string) string {
	if what := categoryMeaning[name]; what != "" {
		return what + " " + madeBy
	}
	return madeBy
}

// categoryMeaning describes the tags of a category for administrators.
var categoryMeaning = map[string]string{
	remedy.CategoryCPUs:           "Number of virtual CPUs that the VM is to have after its next power-off.",
	remedy.CategoryMemory:         "Memory in MB that the VM is to have after its next power-off.",
	remedy.CategoryCoresPerSocket: "Cores per socket that the VM is to have after its next power-off.",
	remedy.CategoryMemoryHotAdd:   "Whether memory can be added to the VM while it is on, from its next power-off: true or false.",
	remedy.CategoryCPUHotAdd:      "Whether CPUs can be added to the VM while it is on, from its next power-off: true or false.",
	remedy.CategoryCPUHotRemove:   "Whether CPUs can be removed from the VM while it is on, from its next power-off: true or false.",
	remedy.CategoryMode:           "How the VM may be remedied when it is in alarm, or that it may not be.",
	remedy.CategoryMaxCPUs:        "Number of virtual CPUs up to which the VM may grow.",
	remedy.CategoryMaxMemory:      "Memory in MB up to which the VM may grow.",
}
