package policy_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestCompareTellsWhoIsNewAndWhyOthersStay(t *testing.T) {
	target := func(n int) policy.Target { v := vm(n); return policy.Target{Ref: v.Ref, Name: v.Name} }
	stays := func(n int, r policy.Reason) policy.Spared {
		v := vm(n)
		return policy.Spared{Ref: v.Ref, Name: v.Name, Reason: r}
	}
	for name, tc := range map[string]struct {
		was  []policy.Target
		is   policy.Plan
		want policy.Difference
	}{
		"nobody then, nobody now": {nil, policy.Plan{}, policy.Difference{}},
		"the same in another order": {
			[]policy.Target{target(1), target(2)}, policy.Plan{Targets: []policy.Target{target(2), target(1)}}, policy.Difference{},
		},
		"one for the other": {
			[]policy.Target{target(1)},
			policy.Plan{Targets: []policy.Target{target(2)}, Spared: []policy.Spared{stays(1, policy.Protected), stays(3, policy.OverLimit)}},
			policy.Difference{Added: []policy.Target{target(2)}, Dropped: []policy.Spared{stays(1, policy.Protected)}},
		},
		"one that the new plan does not know": {
			[]policy.Target{target(1)}, policy.Plan{}, policy.Difference{Dropped: []policy.Spared{stays(1, "")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := policy.Compare(tc.was, tc.is)
			if !slices.EqualFunc(got.Added, tc.want.Added, func(a, b policy.Target) bool { return reflect.DeepEqual(a, b) }) || !slices.Equal(got.Dropped, tc.want.Dropped) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if got.None() != (len(tc.want.Added)+len(tc.want.Dropped) == 0) {
				t.Errorf("None is %t", got.None())
			}
		})
	}
}

// Whatever the policies: who went and goes, and who is new, are who goes now; the others went and stay.
func TestCompareLeavesNobodyOut(t *testing.T) {
	for name, s := range scenarios() {
		was := policy.Choose(s.snapshot, s.demand, policy.Default())
		is := policy.Choose(s.snapshot, s.demand, s.policy)
		d := policy.Compare(was.Targets, is)
		if got := len(was.Targets) - len(d.Dropped) + len(d.Added); got != len(is.Targets) {
			t.Errorf("%s: %d would go, want %d", name, got, len(is.Targets))
		}
		for _, s := range d.Dropped {
			if s.Reason == "" {
				t.Errorf("%s: %s stays without a reason", name, s.Name)
			}
		}
	}
}
