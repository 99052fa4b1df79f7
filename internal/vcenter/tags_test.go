package vcenter

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestKnownTagCostsNoCall(t *testing.T) {
	for name, extra := range map[string]int{"1 tag": 0, "500 tags": 500} {
		t.Run(name, func(t *testing.T) {
			o := small()
			o.ExtraTags = extra
			v, g := warm(t, o)
			for range 3 {
				v.ResetCalls()
				snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Ref: fromMoRef(v.Inventory().Clusters[0].Ref)})
				check(t, err)
				if len(snapshot.VMs) != 3 {
					t.Errorf("%d VMs", len(snapshot.VMs))
				}
				wantCalls(t, v, 2)
			}
		})
	}
}

func TestFirstUseReadsTheTags(t *testing.T) {
	o := small()
	o.ExtraTags = 20
	v := simulated(t, o)
	g := gateway(t, v)
	_, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	if n := v.Calls()["REST GET /com/vmware/cis/tagging/tag/{id}"]; n > 22 {
		t.Errorf("%d tags read", n)
	}
}

func TestConnectReadsTheTagsAhead(t *testing.T) {
	v := simulated(t, small())
	g := gateway(t, v)
	check(t, g.Connect(t.Context()))
	eventually(t, "the tags are known", func() bool { plain, _ := g.tags.matches("preemptible"); return len(plain) == 1 })
}

func TestTagNames(t *testing.T) {
	v, g := warm(t, small())
	vm := toMoRef(taggedRefs(v)[0])
	for _, tag := range [][2]string{{"team-a", "shared"}, {"team-b", "shared"}, {"team-a", "odd:name"}, {"x", "y"}, {"z", "x:y"}} {
		check(t, v.CreateTag(tag[0], tag[1]))
	}
	check(t, v.AttachTag("team-b", "shared", vm))
	check(t, g.RefreshTags(t.Context()))
	cases := map[string]struct {
		tag  string
		want Kind
		text []string
	}{
		"by name":                     {tag: "preemptible"},
		"by category and name":        {tag: "team-b:shared"},
		"a name with a colon":         {tag: "odd:name"},
		"qualified, with a colon":     {tag: "team-a:odd:name"},
		"in two categories":           {tag: "shared", want: TagAmbiguous, text: []string{"team-a, team-b", "team-a:shared or team-b:shared"}},
		"of both readings":            {tag: "x:y", want: TagAmbiguous, text: []string{"x, z"}},
		"unknown":                     {tag: "nope", want: TagNotFound, text: []string{`"nope"`, "govc tags.create"}},
		"known, not in that category": {tag: "team-a:preemptible", want: TagNotFound, text: []string{`"team-a:preemptible"`}},
		"in another case":             {tag: "Preemptible", want: TagNotFound},
		"empty":                       {tag: "", want: TagNotFound},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := g.Candidates(t.Context(), c.tag, Scope{})
			wantKind(t, err, c.want)
			for _, want := range c.text {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
	snapshot, err := g.Candidates(t.Context(), "team-b:shared", Scope{})
	check(t, err)
	if len(snapshot.VMs) != 1 || snapshot.VMs[0].Ref != fromMoRef(vm) {
		t.Errorf("team-b:shared is on %v", snapshot.VMs)
	}
}

func TestUnknownTagIsNotHammered(t *testing.T) {
	o := small()
	o.ExtraTags = 50
	v, g := warm(t, o)
	began := time.Now()
	for range missBurst + 1 {
		_, err := g.Candidates(t.Context(), "nope", Scope{})
		wantKind(t, err, TagNotFound)
	}
	wantCalls(t, v, missBurst+1) // one each, whatever the number of tags
	if took := time.Since(began); took < missEvery-time.Second {
		t.Errorf("vCenter was asked %d times within %s", missBurst+1, took)
	}
}

func TestManyWhoAskForAnUnknownTagAtOnceShareTheAnswer(t *testing.T) {
	v, g := warm(t, small())
	var all sync.WaitGroup
	v.SetLatency(200 * time.Millisecond)
	for range 20 {
		all.Go(func() {
			_, err := g.Candidates(t.Context(), "nope", Scope{})
			if KindOf(err) != TagNotFound {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := v.Calls()["GET tagging/tag"]; n > missBurst {
		t.Errorf("vCenter was asked %d times: %v", n, v.Calls())
	}
}

func TestATagMadeRightAfterItWasMissedIsFound(t *testing.T) {
	v, g := warm(t, small())
	for range 3 {
		_, err := g.Candidates(t.Context(), "late", Scope{})
		wantKind(t, err, TagNotFound)
	}
	check(t, v.CreateTag("preemption", "late"))
	_, err := g.Candidates(t.Context(), "late", Scope{})
	check(t, err)
}

func TestTagCreatedLaterIsFound(t *testing.T) {
	o := small()
	o.ExtraTags = 50
	v, g := warm(t, o)
	check(t, v.CreateTag("preemption", "late"))
	_, err := g.Candidates(t.Context(), "late", Scope{})
	check(t, err)
	wantCalls(t, v, 3) // list, the new tag, its objects
}

func TestRecreatedTagIsResolvedAnew(t *testing.T) {
	v, g := warm(t, small())
	vm := toMoRef(taggedRefs(v)[0])
	id, err := g.resolveTag(t.Context(), "test", "preemptible")
	check(t, err)
	check(t, g.rest(t.Context(), call{op: "delete tag"}, func(ctx context.Context, c *rest.Client) error {
		return tags.NewManager(c).DeleteTag(ctx, &tags.Tag{ID: id})
	}))
	_, err = g.Candidates(t.Context(), "preemptible", Scope{})
	wantKind(t, err, TagNotFound)
	check(t, v.CreateTag("preemption", "preemptible"))
	check(t, v.AttachTag("preemption", "preemptible", vm))
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	if len(snapshot.VMs) != 1 {
		t.Errorf("%d VMs carry the new tag", len(snapshot.VMs))
	}
}

func TestRevalidationNoticesARename(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 2, Tagged: 1, ExtraTags: 30})
	id, err := g.resolveTag(t.Context(), "test", "preemptible")
	check(t, err)
	v.ResetCalls()
	check(t, g.revalidateTags(t.Context()))
	wantCalls(t, v, 5) // the list, the one tag in use and the categories of owners
	g.tags.tags[id] = tagInfo{name: "before-the-rename", category: g.tags.tags[id].category}
	check(t, g.revalidateTags(t.Context()))
	if g.tags.name(id) != "preemptible" {
		t.Errorf("the tag is still %q", g.tags.name(id))
	}
}
