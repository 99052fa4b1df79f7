package vcenter

import (
	"sync"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const attribute = "com.vmware.workflows.vsphere.preemption"

func TestAnnotateCreatesTheAttributeOnce(t *testing.T) {
	v, g := warm(t, many(10))
	other := gateway(t, v) // another worker
	check(t, other.Connect(t.Context()))
	v.ResetCalls()
	refs := taggedRefs(v)
	var group sync.WaitGroup
	for i, ref := range refs {
		worker := []*Gateway{g, other}[i%2]
		group.Go(func() {
			if err := worker.Annotate(t.Context(), ref, attribute, "value of "+ref.Value); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := v.Calls()["SetField"]; n != len(refs) {
		t.Errorf("%d calls to annotate %d VMs", n, len(refs))
	}
	if n := v.Calls()["AddCustomFieldDef"]; n < 1 || n > 2 {
		t.Errorf("%d attempts to create the attribute by two workers", n)
	}
	v.ResetCalls()
	values, err := g.Annotations(t.Context(), append(refs, gone), attribute)
	check(t, err)
	if n := v.Calls()["RetrievePropertiesEx"]; n != 1 { // the tags may be read ahead meanwhile
		t.Errorf("%d calls to read the attribute", n)
	}
	if len(values) != len(refs) {
		t.Errorf("%d values", len(values))
	}
	for _, ref := range refs {
		if values[ref] != "value of "+ref.Value {
			t.Errorf("%v carries %q", ref, values[ref])
		}
	}
}

func TestAnnotateTakesOneCallWhenTheKeyIsKnown(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, g.Annotate(t.Context(), refs[0], attribute, "1"))
	v.ResetCalls()
	check(t, g.Annotate(t.Context(), refs[0], attribute, "2"))
	check(t, g.Annotate(t.Context(), refs[1], attribute, "3"))
	wantCalls(t, v, 2)
	if got, _ := v.Attribute(toMoRef(refs[0]), attribute); got != "2" {
		t.Errorf("value %q", got)
	}
}

func TestAnnotateFindsTheAttributeOfAnotherWorker(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	other := gateway(t, v)
	v.Hook("AddCustomFieldDef", func(types.ManagedObjectReference) {
		v.ClearRules()
		if err := other.Annotate(t.Context(), ref, attribute, "theirs"); err != nil {
			t.Error(err)
		}
	})
	check(t, g.Annotate(t.Context(), ref, attribute, "ours"))
	if got, _ := v.Attribute(toMoRef(ref), attribute); got != "ours" {
		t.Errorf("value %q", got)
	}
}

func TestARejectedKeyIsReadAgain(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, g.Annotate(t.Context(), ref, attribute, "1"))
	g.fields.put(attribute, 4711) // as if the attribute had been deleted and made again
	check(t, g.Annotate(t.Context(), ref, attribute, "2"))
	if got, _ := v.Attribute(toMoRef(ref), attribute); got != "2" {
		t.Errorf("value %q", got)
	}
}

func TestAnnotateAVMThatIsGone(t *testing.T) {
	_, g := warm(t, small())
	wantKind(t, g.Annotate(t.Context(), gone, attribute, "1"), NotFound)
}

func TestAnnotateTellsOfFailures(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	v.FailCall("SetField", moRef(ref), &types.NoPermission{PrivilegeId: "Global.SetCustomField"}, -1)
	err := g.Annotate(t.Context(), ref, attribute, "1")
	wantKind(t, err, NoPermission)
	v.FailCall("SetField", moRef(ref), nil, 0)
	v.FailCall("SetField", moRef(ref), &types.InvalidArgument{InvalidProperty: "value"}, -1)
	v.ResetCalls()
	if err := g.Annotate(t.Context(), ref, attribute, "1"); err == nil || v.Calls()["SetField"] != 2 {
		t.Errorf("%v after %v", err, v.Calls())
	}
}

func TestAnnotationsOfNobody(t *testing.T) {
	v, g := warm(t, small())
	values, err := g.Annotations(t.Context(), nil, attribute)
	check(t, err)
	if len(values) != 0 {
		t.Error(values)
	}
	wantCalls(t, v, 0)
	values, err = g.Annotations(t.Context(), taggedRefs(v), attribute) // the attribute does not exist
	check(t, err)
	if len(values) != 0 {
		t.Error(values)
	}
}

func TestFieldOfAnotherType(t *testing.T) {
	list := func(kind string, key int32) []object {
		return []object{{props: map[string]any{"field": types.ArrayOfCustomFieldDef{CustomFieldDef: []types.CustomFieldDef{
			{Name: "other", Key: 3, ManagedObjectType: vsphere.TypeVM}, {Name: attribute, Key: key, ManagedObjectType: kind},
		}}}}}
	}
	if _, ok := findField(list("HostSystem", 0), attribute); ok {
		t.Error("a host's attribute was taken")
	}
	for _, kind := range []string{"", vsphere.TypeVM} {
		if key, ok := findField(list(kind, 0), attribute); !ok || key != 0 {
			t.Errorf("type %q: %d %v; a key may be 0", kind, key, ok)
		}
	}
}
