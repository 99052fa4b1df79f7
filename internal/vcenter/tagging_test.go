package vcenter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const (
	attachCall = "REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=attach"
	detachCall = "REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=detach"
	carryCall  = "REST POST /com/vmware/cis/tagging/tag-association?~action=list-attached-tags"
)

// carried are the tags of a category on a VM, as a gateway that knows nothing yet reads them.
func carried(t *testing.T, g *Gateway, ref vsphere.Ref, category string) []string {
	t.Helper()
	check(t, g.RefreshTags(t.Context()))
	names, err := g.tagsOn(t.Context(), "test", []vsphere.Ref{ref}, []string{category})
	check(t, err)
	return names[ref][category]
}

func wantCarried(t *testing.T, g *Gateway, ref vsphere.Ref, category string, want ...string) {
	t.Helper()
	if got := carried(t, g, ref, category); !slices.Equal(got, want) {
		t.Errorf("it carries %q of %s, want %q", got, category, want)
	}
}

func TestSetTagReplacesTheOthersOfItsCategory(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.SetTags(toMoRef(refs[0]), placement.CategoryMode, "tag"))
	check(t, g.SetTag(t.Context(), refs[0], placement.CategoryCPUs, "4")) // makes both
	wantCarried(t, g, refs[0], placement.CategoryCPUs, "4")
	check(t, g.SetTag(t.Context(), refs[1], placement.CategoryCPUs, "8"))
	v.ResetCalls()
	check(t, g.SetTag(t.Context(), refs[0], placement.CategoryCPUs, "8"))
	wantCalls(t, v, 3)
	v.ResetCalls()
	for range 2 { // again and again
		check(t, g.SetTag(t.Context(), refs[0], placement.CategoryCPUs, "8"))
	}
	wantCalls(t, v, 2)
	wantCarried(t, g, refs[0], placement.CategoryCPUs, "8")
	wantCarried(t, g, refs[0], placement.CategoryMode, "tag")
	wantCarried(t, g, refs[0], "preemption", "preemptible")
}

func TestSetTagUsesWhatOthersMade(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, v.CreateTag(placement.CategoryMemory, "4096"))
	check(t, v.SetTags(toMoRef(ref), placement.CategoryMemory, "1024", "2048")) // of multiple cardinality
	check(t, g.SetTag(t.Context(), ref, placement.CategoryMemory, "4096"))
	wantCarried(t, g, ref, placement.CategoryMemory, "4096")
	for _, path := range []string{tagPath, categoryPath} {
		if n := v.Calls()["REST POST "+path]; n != 0 {
			t.Errorf("%s was made although it exists", path)
		}
	}
}

func TestATagThatCannotBeAttachedLeavesTheFormerOne(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "4"))
	v.FailREST(attachCall, 403, 1)
	err := g.SetTag(t.Context(), ref, placement.CategoryCPUs, "8")
	wantKind(t, err, NoPermission)
	if !strings.Contains(err.Error(), "InventoryService.Tagging.AttachTag") {
		t.Error(err)
	}
	wantCarried(t, g, ref, placement.CategoryCPUs, "4")
	v.FailREST(detachCall, 503, 1)
	wantKind(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "8"), Unavailable)
	wantCarried(t, g, ref, placement.CategoryCPUs, "4")
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "8"))
	wantCarried(t, g, ref, placement.CategoryCPUs, "8")
}

func TestSetTagGoesOnAfterACrashAndALostSession(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "4"))
	check(t, v.DetachTag(placement.CategoryCPUs, "4", toMoRef(ref))) // as if it had ended there
	check(t, v.TerminateSessions())
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "8"))
	wantCarried(t, g, ref, placement.CategoryCPUs, "8")
}

func TestAFailedAttachMayBeRepeated(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	v.FailREST(attachCall, 400, 1)
	wantKind(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "8"), Unknown)
	wantCarried(t, g, ref, placement.CategoryCPUs)
	v.ResetCalls()
	v.FailREST(attachCall, 409, 1)
	wantKind(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "8"), Conflict)
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "8"))
	wantCarried(t, g, ref, placement.CategoryCPUs, "8")
}

func TestATagDeletedMeanwhileIsMadeAgain(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "4"))
	id, in, err := g.ensureTag(t.Context(), placement.CategoryCPUs, "4")
	check(t, err)
	remove := func(f func(context.Context, *tags.Manager) error) {
		t.Helper()
		check(t, g.rest(t.Context(), call{op: "delete"}, func(ctx context.Context, c *rest.Client) error { return f(ctx, tags.NewManager(c)) }))
	}
	remove(func(ctx context.Context, m *tags.Manager) error { return m.DeleteTag(ctx, &tags.Tag{ID: id}) })
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "4"))
	wantCarried(t, g, ref, placement.CategoryCPUs, "4")
	remove(func(ctx context.Context, m *tags.Manager) error {
		return m.DeleteCategory(ctx, &tags.Category{ID: in})
	})
	check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, "4"))
	wantCarried(t, g, ref, placement.CategoryCPUs, "4")
}

func TestTagsOfAVMThatIsGoneAreRefusedAsSuch(t *testing.T) {
	v, g := warm(t, small())
	check(t, v.CreateTag(placement.CategoryCPUs, "4"))
	v.FailREST(attachCall, 403, -1) // as vCenter says of it
	v.FailREST(carryCall, 403, 1)
	for range 2 {
		wantKind(t, g.SetTag(t.Context(), gone, placement.CategoryCPUs, "4"), NotFound)
	}
	v.FailREST(carryCall, 403, 1)
	wantKind(t, g.ClearTag(t.Context(), gone, placement.CategoryCPUs), NotFound)
	host := vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}
	wantKind(t, g.SetTag(t.Context(), host, placement.CategoryCPUs, "4"), NotFound)
	wantKind(t, g.ClearTag(t.Context(), host, placement.CategoryCPUs), NotFound)
	wantKind(t, g.SetTag(t.Context(), taggedRefs(v)[0], placement.CategoryCPUs, ""), Invalid)
}

func TestClearTagTakesAllOfTheCategory(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, g.ClearTag(t.Context(), ref, "no-such-category"))
	check(t, v.SetTags(toMoRef(ref), placement.CategoryMaxCPUs, "4", "8"))
	for range 2 {
		check(t, g.ClearTag(t.Context(), ref, placement.CategoryMaxCPUs))
		wantCarried(t, g, ref, placement.CategoryMaxCPUs)
	}
	wantCarried(t, g, ref, "preemption", "preemptible")
	v.ResetCalls()
	check(t, g.ClearTag(t.Context(), ref, placement.CategoryMaxCPUs))
	wantCalls(t, v, 1)
}

func TestWithTagsListsVMsOnly(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.SetTags(toMoRef(refs[1]), placement.CategoryCPUs, "4"))
	check(t, v.SetTags(toMoRef(refs[1]), placement.CategoryMemory, "4096"))
	check(t, v.SetTags(toMoRef(refs[0]), placement.CategoryMemory, "1024", "2048"))
	check(t, v.AttachTag(placement.CategoryCPUs, "4", v.Inventory().Datacenter))
	found, err := g.WithTags(t.Context(), append(placement.Settings(), "no-such-category"))
	check(t, err)
	want := []vsphere.Ref{refs[0], refs[1]}
	slices.SortFunc(want, byText)
	if !slices.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	v.ResetCalls()
	check(t, v.TerminateSessions())
	_, err = g.WithTags(t.Context(), placement.Settings())
	check(t, err)
	wantCalls(t, v, 6) // the categories, twice for one was refused, two of them, who carries their tags, and a login
	none, err := g.WithTags(t.Context(), []string{"no-such-category"})
	check(t, err)
	if len(none) != 0 {
		t.Errorf("found %v", none)
	}
}

func TestEnsureTagsMakesWhatIsMissing(t *testing.T) {
	v, g := warm(t, small())
	check(t, v.CreateTag(placement.CategoryMode, "off"))
	want := map[string][]string{placement.CategoryMode: {"off", "tag", "off"}, placement.CategoryCPUs: {"2", "1"}, placement.CategoryMaxCPUs: nil}
	news := fmt.Sprint([]TagName{
		{placement.CategoryCPUs, ""},
		{placement.CategoryCPUs, "1"},
		{placement.CategoryCPUs, "2"},
		{placement.CategoryMaxCPUs, ""},
		{placement.CategoryMode, "tag"},
	})
	olds := fmt.Sprint([]TagName{{placement.CategoryMode, ""}, {placement.CategoryMode, "off"}})
	for _, dryRun := range []bool{true, true, false} {
		created, existed, err := g.EnsureTags(t.Context(), want, dryRun)
		check(t, err)
		if fmt.Sprint(created) != news || fmt.Sprint(existed) != olds {
			t.Errorf("dry run %v: created %v, existed %v", dryRun, created, existed)
		}
	}
	created, existed, err := g.EnsureTags(t.Context(), want, false)
	check(t, err)
	if len(created) != 0 || len(existed) != 7 {
		t.Errorf("again: created %v, existed %v", created, existed)
	}
	var category *tags.Category
	check(t, g.rest(t.Context(), call{op: "read"}, func(ctx context.Context, c *rest.Client) (err error) {
		category, err = tags.NewManager(c).GetCategory(ctx, g.tags.categoryNamed(placement.CategoryCPUs))
		return err
	}))
	if category.Cardinality != "SINGLE" || !slices.Equal(category.AssociableTypes, []string{vsphere.TypeVM}) || !strings.Contains(category.Description, "vsphere-preemption") {
		t.Errorf("category %+v", category)
	}
}

func TestManyMayMakeTheSameTags(t *testing.T) {
	v := simulated(t, small())
	ref := taggedRefs(v)[0]
	values := map[string][]string{placement.CategoryCPUs: {"1", "2", "4", "8"}, placement.CategoryMode: {"off", "tag"}}
	var group sync.WaitGroup
	for range 4 {
		g := gateway(t, v) // a process of its own
		group.Go(func() {
			created, existed, err := g.EnsureTags(t.Context(), values, false)
			if err != nil || len(created)+len(existed) != 8 {
				t.Errorf("created %v, existed %v: %v", created, existed, err)
			}
		})
		group.Go(func() {
			if err := g.SetTag(t.Context(), ref, placement.CategoryMaxMemory, "4096"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	wantCarried(t, gateway(t, v), ref, placement.CategoryMaxMemory, "4096")
}

func TestMakingTagsNamesThePrivilege(t *testing.T) {
	v, g := warm(t, small())
	v.FailREST("REST POST "+categoryPath, 403, 1)
	_, _, err := g.EnsureTags(t.Context(), map[string][]string{placement.CategoryCPUs: {"1"}}, false)
	wantKind(t, err, NoPermission)
	if !strings.Contains(err.Error(), "InventoryService.Tagging.CreateCategory") {
		t.Error(err)
	}
	_, _, err = g.EnsureTags(t.Context(), map[string][]string{"": nil}, false)
	wantKind(t, err, Invalid)
	_, _, err = g.EnsureTags(t.Context(), map[string][]string{placement.CategoryCPUs: {""}}, false)
	wantKind(t, err, Invalid)
}

func TestErrorsOfTheRESTAPIHaveKinds(t *testing.T) {
	for name, want := range map[string]Kind{
		"already_exists": Conflict, "not_found": NotFound, "invalid_argument": Invalid, "resource_busy": Busy, "else": Unknown,
	} {
		if got := KindOf(&statusError{code: 400, kind: "com.vmware.vapi.std.errors." + name}); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
