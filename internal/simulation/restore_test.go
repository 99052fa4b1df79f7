package simulation

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func TestAGuestAnswersOnlyWhileItRuns(t *testing.T) {
	v := running(t, Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 2, Tagged: 2})
	vm := v.VMs()[0].Ref
	m := &machine{Self: vm, vcenter: v}
	v.GuestReply(vm, func(notice string) (string, time.Duration) { return "heard " + notice, 0 })
	notice := func() {
		v.withVM(vm, func(_ *simulator.Context, s *simulator.VirtualMachine) {
			m.vm = s
			m.noticed(&types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: NoticeKey, Value: "it"}}})
		})
	}
	if err := v.SetPowerState(vm, off); err != nil {
		t.Fatal(err)
	}
	notice()
	if err := v.SetPowerState(vm, on); err != nil {
		t.Fatal(err)
	}
	if got := v.GuestInfo(vm, ReplyKey); got != "" {
		t.Errorf("a guest that is off answers %q", got)
	}
	notice()
	for deadline := time.Now().Add(10 * time.Second); v.GuestInfo(vm, ReplyKey) != "heard it"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guest never answers")
		}
	}
}

func TestTagsOfACategoryAreReplaced(t *testing.T) {
	v := running(t, Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 2, Tagged: 1})
	vm := v.VMs()[0].Ref
	for _, names := range [][]string{{"a", "b"}, {"b", "c"}, {}} {
		if err := v.SetTags(vm, "mine", names...); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c"} {
			refs, _ := v.tagged("mine", name)
			if got, want := slices.Contains(refs, vm), slices.Contains(names, name); got != want {
				t.Errorf("with tags %v it carries %s: %v", names, name, got)
			}
		}
	}
	if len(v.TaggedVMs("")) != 1 {
		t.Error("the tag of another category is gone")
	}
}

func TestPlacementChoosesTheFreestHostThatTakesVMs(t *testing.T) {
	v := running(t, Options{Clusters: 1, HostsPerCluster: 4, VMsPerCluster: 8, Tagged: 8})
	c := v.Cluster("cluster-a")
	vm := c.VMs[0] // on the first host
	for _, err := range []error{
		v.SetPowerState(vm.Ref, off), v.SetHostMaintenance(c.Hosts[0].Ref, true), v.SetHostConnected(c.Hosts[1].Ref, false),
		v.SetPowerState(c.VMs[3].Ref, off), // so that the fourth host has more memory free than the third
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if fault := v.placeVM(vm.Ref, ""); fault != nil {
		t.Fatalf("%T", fault)
	}
	if got := v.Cluster("cluster-a").VMs[0].Host; got != c.Hosts[3].Ref {
		t.Errorf("placed on %v, want %v", got, c.Hosts[3].Ref)
	}
	if err := v.PowerOnAs(vm.Ref, "owner@vsphere.local"); err != nil {
		t.Error(err)
	}
	for _, h := range c.Hosts {
		if err := v.SetHostMaintenance(h.Ref, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := v.placeVM(c.VMs[3].Ref, "").(*types.NoCompatibleHost); !ok {
		t.Error("a cluster in maintenance takes a VM")
	}
	if err := v.PowerOnAs(c.VMs[3].Ref, "owner@vsphere.local"); err == nil {
		t.Error("a host in maintenance powers a VM on")
	}
}

func running(t *testing.T, o Options) *VCenter {
	t.Helper()
	v, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}
