package intake

import (
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

// lookedUp is what a worker with the policies default and nightly, and a vCenter of three VMs, knows of names.
func lookedUp(t *testing.T, in preemptapi.NamesInput) (preemptapi.NamesResult, error) {
	t.Helper()
	set := preempt.DefaultSettings()
	set.Policies = map[string]policy.Policy{"default": policy.Default(), "nightly": policy.Default()}
	a := &Activities{VCenter: vcentertest.New(3), Env: &preempt.Env{Settings: set}}
	return a.LookUpNames(t.Context(), in)
}

func TestWhatIsNotKnownByNameIsSaidAndNoError(t *testing.T) {
	for name, in := range map[string]preemptapi.NamesInput{
		"a policy": {Policy: "nightli"}, "a cluster": {Cluster: "domain-c404"}, "a cluster or host": {Place: "host-404"},
		"a datastore": {Datastore: "nosuch"}, "a VM": {VMs: []string{"nosuch"}},
	} {
		if out, err := lookedUp(t, in); err != nil || len(out.Unknown) != 1 {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	out, err := lookedUp(t, preemptapi.NamesInput{Policy: "nightli"})
	if err != nil || !strings.Contains(out.Unknown[0], "did you mean nightly?") {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = lookedUp(t, preemptapi.NamesInput{Policy: "nightly", Place: vcentertest.Cluster.Value})
	if err != nil || len(out.Unknown) > 0 || out.Place != vcentertest.Cluster {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestNamesOfEachKindAreListed(t *testing.T) {
	for _, kind := range preemptapi.NameKinds() {
		if _, err := lookedUp(t, preemptapi.NamesInput{List: kind}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	out, err := lookedUp(t, preemptapi.NamesInput{List: preemptapi.NamesOfPolicies, Prefix: "NIGHT"})
	if err != nil || !slices.Equal(out.Listed, []string{"nightly"}) {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := lookedUp(t, preemptapi.NamesInput{List: preemptapi.NamesOfVMs}); err != nil || len(out.Listed) != 3 {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := lookedUp(t, preemptapi.NamesInput{List: "planets"}); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("planets: %v", err)
	}
}
