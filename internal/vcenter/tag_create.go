package vcenter

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// TagName names a tag by its category. Without a Name it is the category itself.
type TagName struct {
	Category, Name string
}

// EnsureTags makes what is missing of these tags, named by category, and returns sorted what it made, or with
// dryRun would make, and what there was. A category it makes has single cardinality and is for virtual
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

// ensureTag returns the tag and its category, and makes what is missing of them. Without a call when the
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

// makeCategory returns the category, which it makes unless it is known. When another makes it at the same
// moment, vCenter refuses ours and it is read. With dryRun nothing is made and there may be no id.
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

// madeBy is the description of what we make, by which an administrator knows where it comes from.
const madeBy = "Made by vsphere-preemption."

func describeCategory(name string) string {
	if what := categoryMeaning[name]; what != "" {
		return what + " " + madeBy
	}
	return madeBy
}

// categoryMeaning is what the tags of a category say, for administrators who come across them.
var categoryMeaning = map[string]string{
	placement.CategoryCPUs:           "Number of virtual CPUs that the VM is to have after its next power-off.",
	placement.CategoryMemory:         "Memory in MB that the VM is to have after its next power-off.",
	placement.CategoryCoresPerSocket: "Cores per socket that the VM is to have after its next power-off.",
	placement.CategoryMemoryHotAdd:   "Whether memory can be added to the VM while it is on, from its next power-off: true or false.",
	placement.CategoryCPUHotAdd:      "Whether CPUs can be added to the VM while it is on, from its next power-off: true or false.",
	placement.CategoryCPUHotRemove:   "Whether CPUs can be removed from the VM while it is on, from its next power-off: true or false.",
	placement.CategoryMode:           "How the VM may be remedied when it is in alarm, or that it may not be.",
	placement.CategoryMaxCPUs:        "Number of virtual CPUs up to which the VM may grow.",
	placement.CategoryMaxMemory:      "Memory in MB up to which the VM may grow.",
}
