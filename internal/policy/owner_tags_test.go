package policy_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// FuzzTagsOfOwners gives one of two VMs tags of any content. Whatever they say, each VM is chosen or spared, a VM whose
// protection cannot be read is spared, and the other VM's fate does not hang on them.
func FuzzTagsOfOwners(f *testing.F) {
	for _, seed := range []string{"", "4h", "do-not-preempt", "Do-Not-Preempt", "-4h", "9999999999h", "1e9h", " 5 ", "+7", "web", "\x00", "-2147483649"} {
		f.Add(seed, seed, seed)
	}
	f.Add("4h", "99", "web")
	f.Fuzz(func(t *testing.T, protect, priority, group string) {
		s := short(10_000, 10_000,
			vm(1, tagged(policy.CategoryProtect, protect), tagged(policy.CategoryPriority, priority), tagged(policy.CategoryGroup, group)), vm(2))
		p := aimed(func(p *policy.Policy) {
			p.Target = policy.Goal{}
			p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 1}}}
		})
		plan := policy.Choose(s, policy.Demand{Scope: clusterA, Now: now}, p)
		if len(plan.Targets)+len(plan.Spared) != 2 {
			t.Fatalf("%d chosen and %d spared of 2", len(plan.Targets), len(plan.Spared))
		}
		chosen := func(n int) bool {
			return slices.ContainsFunc(plan.Targets, func(target policy.Target) bool { return target.Ref == vm(n).Ref })
		}
		if !chosen(2) {
			t.Error("another VM's tags protect a VM without any")
		}
		d, err := time.ParseDuration(protect)
		if chosen(1) && (err != nil || d <= 0 || d > time.Hour || strings.EqualFold(protect, policy.TagDoNotPreempt)) {
			t.Errorf("chosen in spite of its protection %q", protect)
		}
		if _, err := strconv.Atoi(strings.TrimSpace(priority)); chosen(1) && err != nil {
			t.Errorf("chosen in spite of its unreadable priority %q", priority)
		}
		if chosen(1) {
			t.Errorf("the last of group %q goes off", group)
		}
	})
}
