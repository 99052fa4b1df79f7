package vcenter

import (
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAVMIsFoundByMoRefPathOrName(t *testing.T) {
	v, g := warm(t, simulation.Options{})
	vm := v.VMs()[17]
	want := fromMoRef(vm.Ref)
	for name, what := range map[string]string{
		"whole MoRef": want.String(), "MoRef": want.Value, "name": vm.Name,
		"path": "/datacenter/vm/" + vm.Name, "path without the first slash": "datacenter/vm/" + vm.Name, "name with spaces around": " " + vm.Name + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			v.ResetCalls()
			ref, err := g.FindVM(t.Context(), what)
			check(t, err)
			if ref != want {
				t.Errorf("found %v, want %v", ref, want)
			}
			wantCalls(t, v, 1)
		})
	}
	if _, err := g.FindVM(t.Context(), strings.ToUpper(vm.Name)+"x"); !strings.Contains(err.Error(), "did you mean "+vm.Name) {
		t.Errorf("%q does not say which name is near", err)
	}
	for _, what := range []string{"", "nobody", "vm-99999", gone.String(), "/datacenter/vm/nobody", "/datacenter/vm", "HostSystem:" + vm.Host.Value} {
		_, err := g.FindVM(t.Context(), what)
		wantKind(t, err, NotFound)
		if !strings.Contains(err.Error(), "inventory path") {
			t.Errorf("%q does not say what to do", err)
		}
	}
}

func TestAnAmbiguousNameListsTheVMs(t *testing.T) {
	v, g := warm(t, simulation.Options{})
	a, b := v.VMs()[0], v.VMs()[20]
	check(t, v.Rename(b.Ref, a.Name))
	_, err := g.FindVM(t.Context(), a.Name)
	wantKind(t, err, Ambiguous)
	for _, want := range []string{fromMoRef(a.Ref).String(), fromMoRef(b.Ref).String(), "/datacenter/vm/"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	check(t, v.Rename(b.Ref, "a%2fb"))
	ref, err := g.FindVM(t.Context(), "a/b")
	check(t, err)
	if ref != fromMoRef(b.Ref) {
		t.Errorf("found %v", ref)
	}
	check(t, v.Rename(b.Ref, a.Ref.Value)) // somebody calls a VM like another one's MoRef
	_, err = g.FindVM(t.Context(), a.Ref.Value)
	wantKind(t, err, Ambiguous)
}

func TestStateNeedsNoTag(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.SetPowerState(toMoRef(refs[0]), off))
	state, err := g.State(t.Context(), "", append(refs, gone))
	check(t, err)
	wantCalls(t, v, 1)
	if len(state) != len(refs) || state[refs[0]].PowerState != vsphere.PoweredOff || state[refs[1]].Tagged || state[refs[1]].InstanceUUID == "" {
		t.Errorf("state %+v", state)
	}
	state, err = g.State(t.Context(), "preemptible", refs)
	check(t, err)
	if !state[refs[1]].Tagged {
		t.Error("the tag was given, and is not seen")
	}
	_, err = g.State(t.Context(), "no-such-tag", refs)
	wantKind(t, err, TagNotFound)
}

func TestOwnedListsWhatCarriesTheAttribute(t *testing.T) {
	for _, n := range []int{2, 40} {
		v, g := warm(t, many(n))
		list, err := g.Owned(t.Context(), "preempted")
		check(t, err)
		if len(list) != 0 {
			t.Errorf("nothing carries it, but %v", list)
		}
		refs := taggedRefs(v)
		check(t, g.Annotate(t.Context(), refs[0], "preempted", "by us"))
		check(t, g.Annotate(t.Context(), refs[1], "preempted", ""))
		check(t, v.SetPowerState(toMoRef(refs[0]), off))
		v.ResetCalls()
		list, err = g.Owned(t.Context(), "preempted")
		check(t, err)
		wantCalls(t, v, 1)
		state, err := g.State(t.Context(), "", refs[:1])
		check(t, err)
		vm := state[refs[0]]
		if len(list) != 1 || list[0] != (Owned{Ref: refs[0], Name: vm.Name, InstanceUUID: vm.InstanceUUID, PowerState: vsphere.PoweredOff, Value: "by us"}) {
			t.Errorf("owned %+v", list)
		}
	}
}
