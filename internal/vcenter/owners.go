package vcenter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// ownerCategories are the categories of which the policy knows.
var ownerCategories = []string{policy.CategoryPriority, policy.CategoryGroup, policy.CategoryProtect}

// OwnerCategory is a category of the owners' tags, as our user sees it.
type OwnerCategory struct {
	Name    string
	Seen    bool
	Tags    int  // in it, that are seen
	Without bool // the configuration says that this site has none
}

// OwnerCategories reports what our user sees of the owners' categories, those of remediation last if requested.
// It needs the calls of a detailed Candidates.
func (g *Gateway) OwnerCategories(ctx context.Context, remediation bool) ([]OwnerCategory, error) {
	names := ownerCategories
	if remediation {
		names = append(slices.Clone(names), placement.CategoryMode, placement.CategoryMaxCPUs, placement.CategoryMaxMemory)
	}
	if _, err := g.ownerTagIDs(ctx, names, anyID); err != nil {
		return nil, err
	}
	seen := g.tags.categoriesNamed(names)
	var list []OwnerCategory
	for _, name := range names {
		c := OwnerCategory{Name: name, Without: g.without(name)}
		for id, is := range seen {
			if is == name {
				c.Seen, c.Tags = true, c.Tags+len(g.tags.of(id))
			}
		}
		list = append(list, c)
	}
	return list, nil
}

func (g *Gateway) without(category string) bool {
	_, ok := sameName(g.cfg.WithoutCategories, category)
	return ok
}

// CheckOwnerCategories fails with kind CategoriesUnseen while a category of the owners cannot be seen: vCenter silently
// leaves out objects for which a user has no permission, so a VM that its owner protects would look like any other.
func (g *Gateway) CheckOwnerCategories(ctx context.Context) error {
	if g.unseenCategories() == nil {
		return nil
	}
	if _, err := g.ownerTagIDs(ctx, ownerCategories, anyID); err != nil { // one was created or renamed, or a permission was granted
		return err
	}
	unseen := g.unseenCategories()
	if unseen == nil {
		return nil
	}
	names := strings.Join(unseen, ", ")
	return &Error{
		Op: "see", Object: "the tags of owners", Kind: CategoriesUnseen,
		Err: fmt.Errorf("vCenter shows no tag category %s: %w", names, errUnseen),
		Remedy: fmt.Sprintf("give %s Read-only as a global permission, for tags are outside the inventory; or make what is missing, "+
			"as with govc tags.category.create -t VirtualMachine -m %s; or write limits.withoutCategories: [%s] into the file if this site has none",
			g.User(), unseen[0], names),
	}
}

var errUnseen = errors.New("it is not there, or our user has no permission on it; VMs that their owners protect could not be told from others")

// unseenCategories are the categories that this site should have and that are unknown.
func (g *Gateway) unseenCategories() (names []string) {
	for _, name := range ownerCategories {
		if !g.without(name) && len(g.tags.categoriesNamed([]string{name})) == 0 {
			names = append(names, name)
		}
	}
	return names
}

// ownerTagIDs lists the tags of these categories, whatever the case of their letters: a call for each of them, side by
// side, and one more for each tag that was not seen before. While one of them is unknown, a call searches for it, and
// one more for each category that reread names. A category that does not exist has no tags.
func (g *Gateway) ownerTagIDs(ctx context.Context, categories []string, reread func(id string) bool) ([]string, error) {
	if err := enter(ctx, g.tags.turn); err != nil {
		return nil, interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	for again := false; ; again = true {
		if again || !g.tags.knowsCategories(categories) {
			if err := g.listCategories(ctx, reread); err != nil {
				return nil, err
			}
		}
		err := g.listTagsOf(ctx, g.tags.categoriesNamed(categories))
		if kind := KindOf(err); again || kind != NotFound && kind != NoPermission {
			return g.tags.inCategories(categories), err
		} // one was deleted, or hidden from us, in the meantime
	}
}

// listTagsOf reads the tags of these categories that were not seen before. The caller holds the turn.
func (g *Gateway) listTagsOf(ctx context.Context, categories map[string]string) error {
	var all sync.WaitGroup
	errs := make(chan error, len(categories))
	for id := range categories {
		all.Go(func() { errs <- g.listTags(ctx, id, g.unknownTag) })
	}
	all.Wait()
	close(errs)
	var first error
	for err := range errs {
		if err != nil && (first == nil || KindOf(first) == NotFound) {
			first = err
		}
	}
	for _, id := range g.tags.inCategoryIDs(categories) {
		g.tags.use(id) // so that a new name of it is noticed
	}
	return first
}

// sameName returns the name that is equal, ignoring letter case.
func sameName(names []string, name string) (string, bool) {
	i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
	if i < 0 {
		return "", false
	}
	return names[i], true
}
