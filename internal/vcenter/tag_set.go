package vcenter

import (
	"context"
	"errors"
	"slices"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// What tagging needs, which vCenter does not say when it refuses.
const (
	needsAttach = "InventoryService.Tagging.AttachTag and InventoryService.Tagging.ObjectAttachable"
	needsCreate = "InventoryService.Tagging.CreateCategory and InventoryService.Tagging.CreateTag"
)

// SetTag lets the VM carry this tag of the category and no other of it; the tag, and the category, are made
// if there are none. vCenter has no call for that, and refuses a second tag of a category of single
// cardinality: the others are detached first, and attached again when the new one cannot be. Repeated after
// a crash at any instant it ends in the same state. Once the names are known, one call when the VM is as
// wanted, else two, and one for each other tag.
func (g *Gateway) SetTag(ctx context.Context, ref vsphere.Ref, category, value string) error {
	const op = "tag"
	c := call{op: op, object: g.names.describe(ref), needs: needsAttach, alike: true}
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
			continue // somebody else attached a tag of the category meanwhile
		}
		if gone := g.gone(ctx, c, ref); gone != nil {
			return gone
		}
		g.tags.drop(id) // deleted meanwhile, perhaps with its category
		g.tags.forgetCategory(in)
	}
}

// ClearTag detaches all tags of the category from the VM. It is no error that it has none, or that there is no
// such category. Once the names are known, one call, and one for each tag.
func (g *Gateway) ClearTag(ctx context.Context, ref vsphere.Ref, category string) error {
	const op = "take a tag off"
	c := call{op: op, object: g.names.describe(ref), needs: needsAttach, alike: true}
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

// attachAgain undoes detaching, also when the caller's context has ended. What fails is for the caller's
// next try: the error that led here says what is wrong.
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

// detach is content with a tag that was deleted meanwhile.
func (g *Gateway) detach(ctx context.Context, c call, ref vsphere.Ref, id string) error {
	err := g.rest(ctx, c, func(ctx context.Context, c *rest.Client) error {
		return tags.NewManager(c).DetachTag(ctx, id, toMoRef(ref))
	})
	if KindOf(err) == NotFound && g.gone(ctx, c, ref) == nil {
		return nil
	}
	return err
}

// orGone returns the error, or that the VM is gone: of such vCenter says that we have no permission to it.
func (g *Gateway) orGone(ctx context.Context, c call, ref vsphere.Ref, err error) error {
	if KindOf(err) == NoPermission {
		if gone := g.gone(ctx, c, ref); gone != nil {
			return gone
		}
	}
	return err
}

// gone is an error when the VM does not exist, nil when it does or that cannot be known now.
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
