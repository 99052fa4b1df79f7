package vcenter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestNobodyIsACandidateWhileTheTagsOfOwnersCannotBeSeen(t *testing.T) {
	for name, tc := range map[string]struct {
		hide    []string
		without []string
		unseen  []string // that the refusal names; nil: there is none
	}{
		"all are seen":                        {nil, nil, nil},
		"none is seen":                        {ownerCategories, nil, ownerCategories},
		"the protection is not seen":          {[]string{policy.CategoryProtect}, nil, []string{policy.CategoryProtect}},
		"the file says that there are none":   {ownerCategories, ownerCategories, nil},
		"the file says so of another one":     {[]string{policy.CategoryProtect}, []string{policy.CategoryGroup}, []string{policy.CategoryProtect}},
		"the file says so of one that exists": {nil, []string{policy.CategoryProtect}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := simulated(t, small())
			g := gateway(t, v, func(c *Config) { c.WithoutCategories = tc.without })
			vm := v.TaggedVMs("")[0].Ref
			check(t, v.SetTags(vm, policy.CategoryProtect, policy.TagDoNotPreempt))
			check(t, v.SetTags(vm, policy.CategoryGroup, "web"))
			check(t, v.SetTags(vm, policy.CategoryPriority, "5"))
			v.HideCategories(tc.hide...)
			snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
			_, again := g.RecheckDetail(t.Context(), "preemptible", taggedRefs(v), Scope{})
			if tc.unseen == nil {
				check(t, err)
				check(t, again)
				protected := vmOf(t, snapshot, fromMoRef(vm)).Tags[policy.CategoryProtect]
				if (len(tc.hide) == 0) != slices.Equal(protected, []string{policy.TagDoNotPreempt}) {
					t.Errorf("protected by %q", protected)
				}
				return
			}
			wantKind(t, err, CategoriesUnseen)
			wantKind(t, again, CategoriesUnseen)
			for _, want := range append(tc.unseen, "limits.withoutCategories", "global permission") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			v.HideCategories() // the permission is granted: no restart is needed
			_, err = g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
			check(t, err)
		})
	}
}

func TestAPermissionThatIsTakenAwayIsNoticed(t *testing.T) {
	v, g := warm(t, small())
	_, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	v.HideCategories(policy.CategoryProtect)
	_, err = g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	wantKind(t, err, CategoriesUnseen)
}

func TestTheStartSaysThatOwnersTagsCannotBeSeen(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 2, NoOwnerCategories: true})
	var log logBuffer
	g := gateway(t, v, func(c *Config) { c.Logger = log.logger() })
	check(t, g.Connect(t.Context()))
	eventually(t, "the log says it", func() bool {
		return strings.Contains(log.String(), policy.CategoryProtect) && strings.Contains(log.String(), "limits.withoutCategories")
	})
}

func TestACategoryInOtherLettersIsTheOwners(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 2, NoOwnerCategories: true})
	g := gateway(t, v)
	vm := v.TaggedVMs("")[0].Ref
	check(t, v.SetTags(vm, "Preemption-Protect", policy.TagDoNotPreempt))
	check(t, v.CreateCategory("PREEMPTION-GROUP", false))
	check(t, v.CreateCategory("preemption-Priority", false))
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	if got := vmOf(t, snapshot, fromMoRef(vm)).Tags[policy.CategoryProtect]; !slices.Equal(got, []string{policy.TagDoNotPreempt}) {
		t.Errorf("protected by %q", got)
	}
}

func TestAPlanReadsNoTagsButTheOwners(t *testing.T) {
	o := small()
	o.ExtraTags = 30
	v, g := warm(t, o)
	for i := range 20 { // another team's
		check(t, v.CreateTag("unrelated", fmt.Sprintf("later-%d", i)))
	}
	check(t, v.SetTags(v.TaggedVMs("")[0].Ref, policy.CategoryPriority, "5"))
	v.ResetCalls()
	_, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	if n := v.Calls()["REST GET /com/vmware/cis/tagging/tag/{id}"]; n > 1 {
		t.Errorf("%d tags read, want the owners' one: %v", n, v.Calls())
	}
}
