package vcenter

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// roomy is a vCenter of one cluster with two hosts, a snapshot of it, and a VM that is off.
func roomy(t *testing.T) (v *simulation.VCenter, g *Gateway, s vsphere.Snapshot, asker types.ManagedObjectReference) {
	t.Helper()
	v, g = warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 6, Tagged: 3})
	cluster := v.Inventory().Clusters[0]
	asker = v.VM(cluster.Name + "-app-01")
	check(t, v.PowerOffAs(asker, "CORP\\owner"))
	s, err := g.Candidates(t.Context(), "preemptible", detailed(cluster))
	check(t, err)
	return v, g, s, asker
}

func TestRoomTellsWhatIsReservedAndWhatTheAskerNeeds(t *testing.T) {
	v, g, s, asker := roomy(t)
	check(t, v.SetReservation(asker, simulation.Reservation{CPUMHz: 500, MemoryMB: 4096}))
	check(t, v.SetTags(asker, policy.CategoryPriority, "7"))
	check(t, g.RefreshTags(t.Context()))
	vm := vmOf(t, s, fromMoRef(v.TaggedVMs("")[0].Ref))
	check(t, v.SetReservation(toMoRef(vm.Ref), simulation.Reservation{CPUMHz: 1000, MemoryMB: 2048, OverheadMB: 60}))
	v.ResetCalls()
	list, err := g.Room(t.Context(), &s, []vsphere.Ref{fromMoRef(asker)})
	check(t, err)
	who := list[0]
	wantCalls(t, v, 2)
	hw := v.HardwareOf(asker)
	overhead := who.MemoryReservedMB - 4096
	if who.CPUs != hw.CPUs || who.MemoryMB != int64(hw.MemoryMB) || who.CPUReservedMHz != 500 || overhead < 40 || overhead > 2000 ||
		who.Cluster != s.Scope || who.PowerState != vsphere.PoweredOff || len(who.Priority) != 1 || who.Priority[0] != "7" {
		t.Errorf("%+v", who)
	}
	for _, h := range s.Hosts {
		cpu, memory := int64(0), int64(0)
		if h.Ref == vm.Host {
			cpu, memory = 1000, 2108
		}
		if h.CPUReservedMHz != cpu || h.MemoryReservedMB != memory || h.CoreMHz == 0 || h.Threads == 0 || who.CannotTake[h.Ref.String()] != "" {
			t.Errorf("%+v", h)
		}
	}
	if vm := vmOf(t, s, vm.Ref); vm.CPUReservedMHz != 1000 || vm.MemoryReservedMB != 2108 {
		t.Errorf("%+v", vm)
	}
}

func TestRoomOfAVMThatIsGoneIsAnError(t *testing.T) {
	_, g, s, asker := roomy(t)
	list, err := g.Room(t.Context(), &s, []vsphere.Ref{{Type: vsphere.TypeVM, Value: "vm-99999"}, fromMoRef(asker)})
	check(t, err)
	wantKind(t, list[0].Err, NotFound)
	if list[1].Err != nil || list[1].CPUs == 0 {
		t.Errorf("the other one who asks: %+v", list[1])
	}
}

func TestWhatTwoSpecsAskOfAVMIsJoinedInAnyOrder(t *testing.T) {
	vm := vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-1"}
	less := func() object { return object{ref: vm, props: map[string]any{"runtime.powerState": "poweredOff"}} }
	more := func() object { return object{ref: vm, props: map[string]any{"config.hardware.numCPU": int32(4)}} }
	for _, objects := range [][]object{{less(), more()}, {more(), less()}} {
		list := merged(objects)
		if len(list) != 1 || list[0].number("config.hardware.numCPU") != 4 || list[0].text("runtime.powerState") != "poweredOff" {
			t.Errorf("%+v", list)
		}
	}
}

func TestRulesOfTheClusterSayWhichHostsCannotTakeAVM(t *testing.T) {
	v, g, s, asker := roomy(t)
	hosts := v.Inventory().Clusters[0].Hosts
	other := v.VM(v.Inventory().Clusters[0].Name + "-app-02") // on one of the hosts
	on := toMoRef(mustHost(t, g, other))
	yes := types.NewBool(true)
	pinned := []types.BaseClusterGroupInfo{
		&types.ClusterVmGroup{ClusterGroupInfo: types.ClusterGroupInfo{Name: "databases"}, Vm: []types.ManagedObjectReference{asker}},
		&types.ClusterHostGroup{ClusterGroupInfo: types.ClusterGroupInfo{Name: "licensed"}, Host: []types.ManagedObjectReference{hosts[1].Ref}},
	}
	info := types.ClusterRuleInfo{Name: "the-rule", Enabled: yes}
	for name, c := range map[string]struct {
		rule types.BaseClusterRuleInfo
		bars func(host types.ManagedObjectReference) bool
	}{
		"hosts that it must run on": {
			&types.ClusterVmHostRuleInfo{ClusterRuleInfo: with(info, true), VmGroupName: "databases", AffineHostGroupName: "licensed"},
			func(h types.ManagedObjectReference) bool { return h != hosts[1].Ref },
		},
		"hosts that it should run on": {
			&types.ClusterVmHostRuleInfo{ClusterRuleInfo: with(info, false), VmGroupName: "databases", AffineHostGroupName: "licensed"},
			func(types.ManagedObjectReference) bool { return false },
		},
		"hosts that it must not run on": {
			&types.ClusterVmHostRuleInfo{ClusterRuleInfo: with(info, true), VmGroupName: "databases", AntiAffineHostGroupName: "licensed"},
			func(h types.ManagedObjectReference) bool { return h == hosts[1].Ref },
		},
		"apart from another": {
			&types.ClusterAntiAffinityRuleSpec{ClusterRuleInfo: info, Vm: []types.ManagedObjectReference{asker, other}},
			func(h types.ManagedObjectReference) bool { return h == on },
		},
		"with another": {
			&types.ClusterAffinityRuleSpec{ClusterRuleInfo: info, Vm: []types.ManagedObjectReference{asker, other}},
			func(h types.ManagedObjectReference) bool { return h != on },
		},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, v.SetAffinity(v.Inventory().Clusters[0].Name, pinned, c.rule))
			list, err := g.Room(t.Context(), &s, []vsphere.Ref{fromMoRef(asker)})
			check(t, err)
			for _, h := range s.Hosts {
				why := list[0].CannotTake[h.Ref.String()]
				if barred := why != ""; barred != c.bars(toMoRef(h.Ref)) || barred && !strings.Contains(why, "the-rule") {
					t.Errorf("%s: %q", h.Name, why)
				}
			}
		})
	}
}

func with(info types.ClusterRuleInfo, mandatory bool) types.ClusterRuleInfo {
	info.Mandatory = &mandatory
	return info
}

func mustHost(t *testing.T, g *Gateway, vm types.ManagedObjectReference) vsphere.Ref {
	t.Helper()
	state, err := g.State(t.Context(), "", []vsphere.Ref{fromMoRef(vm)})
	check(t, err)
	return state[fromMoRef(vm)].Host
}
