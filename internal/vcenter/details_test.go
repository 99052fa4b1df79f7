package vcenter

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func detailed(cluster simulation.Cluster) Scope {
	return Scope{Ref: fromMoRef(cluster.Ref), Name: cluster.Name, Detail: true}
}

func vmOf(t *testing.T, s vsphere.Snapshot, ref vsphere.Ref) vsphere.VM {
	t.Helper()
	i := slices.IndexFunc(s.VMs, func(vm vsphere.VM) bool { return vm.Ref == ref })
	if i < 0 {
		t.Fatalf("%v is not in the snapshot", ref)
	}
	return s.VMs[i]
}

func hostsIn(s vsphere.Snapshot) map[vsphere.Ref]vsphere.Host {
	found := make(map[vsphere.Ref]vsphere.Host)
	for _, h := range s.Hosts {
		found[h.Ref] = h
	}
	return found
}

func TestDetailsAreOnlyReadWhenAskedFor(t *testing.T) {
	v, g := warm(t, small())
	vm := v.TaggedVMs("")[0]
	check(t, v.SetTags(vm.Ref, policy.CategoryPriority, "5"))
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	wantCalls(t, v, 2)
	got := vmOf(t, snapshot, fromMoRef(vm.Ref))
	if got.Tags != nil || got.FolderPath != "" || snapshot.Hosts != nil || snapshot.Groups != nil {
		t.Errorf("details: %+v, hosts %v, groups %v", got, snapshot.Hosts, snapshot.Groups)
	}
}

func TestDetailsTellTagsAndPaths(t *testing.T) {
	v, g := warm(t, simulation.Options{Tagged: 3, VMsPerCluster: 4})
	cluster := v.Inventory().Clusters[1]
	vms := v.TaggedVMs(cluster.Name)
	check(t, v.SetTags(vms[0].Ref, policy.CategoryPriority, "5"))
	check(t, v.SetTags(vms[0].Ref, policy.CategoryProtect, "do-not-preempt", "4h"))
	check(t, v.SetTags(vms[0].Ref, "unrelated", "x"))
	check(t, v.SetTags(vms[1].Ref, policy.CategoryPriority, "7", "5"))

	snapshot, err := g.Candidates(t.Context(), "preemptible", detailed(cluster))
	check(t, err)
	first, second, third := vmOf(t, snapshot, fromMoRef(vms[0].Ref)), vmOf(t, snapshot, fromMoRef(vms[1].Ref)), vmOf(t, snapshot, fromMoRef(vms[2].Ref))
	if got := fmt.Sprint(first.Tags); got != "map[preemption-priority:[5] preemption-protect:[4h do-not-preempt]]" {
		t.Errorf("tags of the first: %s", got)
	}
	if got := fmt.Sprint(second.Tags, third.Tags); got != "map[preemption-priority:[5 7]] map[]" {
		t.Errorf("tags of the others: %s", got)
	}
	if first.FolderPath != "/datacenter/vm" || first.PoolPath != "/datacenter/host/"+cluster.Name+"/Resources" {
		t.Errorf("paths %q and %q", first.FolderPath, first.PoolPath)
	}
	check(t, v.SetTags(vms[0].Ref, policy.CategoryPriority, "6")) // a new tag counts at once
	snapshot, err = g.Candidates(t.Context(), "preemptible", detailed(cluster))
	check(t, err)
	if got := vmOf(t, snapshot, first.Ref).Tags[policy.CategoryPriority]; !slices.Equal(got, []string{"6"}) {
		t.Errorf("priority %v", got)
	}
}

func TestGroupsCountAllMembersTaggedOrNot(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 8, Tagged: 3})
	all := v.VMs()
	for _, i := range []int{0, 1, 3, 4, 5, 6} {
		check(t, v.SetTags(all[i].Ref, policy.CategoryGroup, "web"))
	}
	check(t, v.SetTags(all[7].Ref, policy.CategoryGroup, "no candidate's"))
	check(t, v.SetPowerState(all[3].Ref, off))
	check(t, v.SetTemplate(all[4].Ref))
	check(t, v.RemoveVM(all[5].Ref))

	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	up := []vsphere.Ref{fromMoRef(all[0].Ref), fromMoRef(all[1].Ref), fromMoRef(all[6].Ref)}
	slices.SortFunc(up, byText)
	if web := snapshot.Groups["web"]; len(snapshot.Groups) != 1 || web.Total != 4 || !slices.Equal(web.Up, up) {
		t.Errorf("groups %+v, want 4 members with %v up", snapshot.Groups, up)
	}
	v.ResetCalls()
	again, err := g.RecheckDetail(t.Context(), "preemptible", append(up[:1:1], gone), Scope{})
	check(t, err)
	wantCalls(t, v, 6)
	if fmt.Sprint(again.Groups) != fmt.Sprint(snapshot.Groups) || len(again.VMs) != 1 || !again.VMs[0].Tagged {
		t.Errorf("checked again: %+v", again)
	}
	if vm := again.VMs[0]; len(vm.Tags) != 1 || vm.FolderPath == "" || len(again.VCenterAddrs) == 0 {
		t.Errorf("checked again: %+v", vm)
	}
}

func TestRecheckDetailSeesWhatChanged(t *testing.T) {
	v, g := warm(t, small())
	refs, cluster := taggedRefs(v), v.Inventory().Clusters[0]
	check(t, v.SetTags(toMoRef(refs[0]), policy.CategoryProtect, policy.TagDoNotPreempt))
	check(t, v.DetachTag("preemption", "preemptible", toMoRef(refs[1])))
	check(t, v.SetPowerState(toMoRef(refs[2]), off))
	snapshot, err := g.RecheckDetail(t.Context(), "preemptible", refs, detailed(cluster))
	check(t, err)
	if snapshot.ScopeName != cluster.Name || vmOf(t, snapshot, refs[0]).Tags[policy.CategoryProtect] == nil ||
		vmOf(t, snapshot, refs[1]).Tagged || vmOf(t, snapshot, refs[2]).PowerState != vsphere.PoweredOff {
		t.Errorf("checked again: %+v", snapshot)
	}
	_, err = g.RecheckDetail(t.Context(), "preemptible", refs, Scope{Ref: vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c999"}})
	wantKind(t, err, ScopeNotFound)
}

func TestHostsAreThoseOfTheContendedCluster(t *testing.T) {
	v, g := warm(t, simulation.Options{})
	a, b := v.Inventory().Clusters[0], v.Inventory().Clusters[1]
	cases := map[string]struct {
		scope Scope
		want  int
	}{
		"of a cluster":        {detailed(b), len(b.Hosts)},
		"of a host's cluster": {Scope{Ref: fromMoRef(b.Hosts[1].Ref), Detail: true}, len(b.Hosts)},
		"all without a scope": {Scope{Detail: true}, len(a.Hosts) + len(b.Hosts)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			snapshot, err := g.Candidates(t.Context(), "preemptible", c.scope)
			check(t, err)
			if len(snapshot.Hosts) != c.want {
				t.Errorf("%d hosts, want %d", len(snapshot.Hosts), c.want)
			}
			for _, h := range snapshot.Hosts {
				if h.Cluster != fromMoRef(b.Ref) && h.Cluster != fromMoRef(a.Ref) || h.Name == "" {
					t.Errorf("host %+v", h)
				}
			}
		})
	}
}

func TestHostsTellCapacityUsageAndState(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 4, VMsPerCluster: 8})
	cluster := v.Inventory().Clusters[0]
	check(t, v.SetClusterUsage(cluster.Name, 80, 70))
	check(t, v.SetHostEntering(cluster.Hosts[1].Ref, true))
	check(t, v.SetHostMaintenance(cluster.Hosts[2].Ref, true))
	check(t, v.SetHostConnected(cluster.Hosts[3].Ref, false))
	snapshot, err := g.Candidates(t.Context(), "preemptible", detailed(cluster))
	check(t, err)
	wantCalls(t, v, 6)
	found, used, total := hostsIn(snapshot), int64(0), int64(0)
	for i, want := range []vsphere.Host{
		{Connected: true},
		{Connected: true, EnteringMaintenance: true},
		{Connected: true, InMaintenance: true},
		{},
	} {
		h := found[fromMoRef(cluster.Hosts[i].Ref)]
		if h.Connected != want.Connected || h.InMaintenance != want.InMaintenance || h.EnteringMaintenance != want.EnteringMaintenance {
			t.Errorf("host %d is %+v, want %+v", i, h, want)
		}
		if h.CPUMHz != 16*2400 || h.MemoryMB != 64<<10 {
			t.Errorf("host %d has %d MHz and %d MB", i, h.CPUMHz, h.MemoryMB)
		}
		used, total = used+h.CPUUsedMHz, total+h.CPUMHz
	}
	if percent := 100 * used / total; percent < 79 || percent > 81 {
		t.Errorf("CPU at %d %%, want 80", percent)
	}
	check(t, v.SetHostEntering(cluster.Hosts[1].Ref, false))
	snapshot, err = g.Candidates(t.Context(), "preemptible", detailed(cluster))
	check(t, err)
	if hostsIn(snapshot)[fromMoRef(cluster.Hosts[1].Ref)].EnteringMaintenance {
		t.Error("a host whose task has ended is still entering maintenance")
	}
}

func TestDetailsTakeTheSameCallsWhateverTheNumbers(t *testing.T) {
	for _, n := range []int{1, 40} {
		v, g := warm(t, simulation.Options{Clusters: 2, HostsPerCluster: n/10 + 1, VMsPerCluster: n, Tagged: n})
		for i, vm := range v.VMs() {
			check(t, v.SetTags(vm.Ref, policy.CategoryGroup, fmt.Sprintf("group-%d", i)))
			check(t, v.SetTags(vm.Ref, policy.CategoryPriority, fmt.Sprint(i%7)))
		}
		check(t, g.RefreshTags(t.Context()))
		_, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true}) // reads the categories
		check(t, err)
		v.ResetCalls()
		snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
		check(t, err)
		if len(snapshot.Groups) != 2*n {
			t.Errorf("%d groups of %d", len(snapshot.Groups), 2*n)
		}
		wantCalls(t, v, 6)
		v.ResetCalls()
		_, err = g.RecheckDetail(t.Context(), "preemptible", taggedRefs(v), Scope{})
		check(t, err)
		wantCalls(t, v, 6)
	}
}

func TestCategoriesThatDoNotExistCostOneCall(t *testing.T) {
	o := small()
	o.NoOwnerCategories = true
	v := simulated(t, o)
	g := gateway(t, v, func(c *Config) { c.WithoutCategories = ownerCategories })
	_, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	v.ResetCalls()
	_, err = g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	wantCalls(t, v, 3)
}

func TestDetailsFailWithTheCallThatFails(t *testing.T) {
	v, g := warm(t, small())
	check(t, v.SetTags(v.VMs()[0].Ref, policy.CategoryGroup, "web"))
	v.FailREST("REST POST /com/vmware/cis/tagging/tag-association?~action=list-attached-objects-on-tags", 403, 1)
	_, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	wantKind(t, err, NoPermission)
}

func TestPathsOfAVMInAVAppAreTheVApps(t *testing.T) {
	thing := func(value, kind, name string, refs map[string]vsphere.Ref) object {
		props := map[string]any{"name": name}
		for path, to := range refs {
			props[path] = toMoRef(to)
		}
		return object{ref: vsphere.Ref{Type: kind, Value: value}, props: props}
	}
	at := func(kind, value string) vsphere.Ref { return vsphere.Ref{Type: kind, Value: value} }
	inv := inventory{}
	for _, o := range []object{
		thing("root", "Folder", "Datacenters", nil),
		thing("dc", "Datacenter", "dc-1", map[string]vsphere.Ref{"parent": at("Folder", "root")}),
		thing("vm", "Folder", "vm", map[string]vsphere.Ref{"parent": at("Datacenter", "dc")}),
		thing("prod", "Folder", "a%2fb", map[string]vsphere.Ref{"parent": at("Folder", "vm")}),
		thing("host", "Folder", "host", map[string]vsphere.Ref{"parent": at("Datacenter", "dc")}),
		thing("pool", "ResourcePool", "Resources", map[string]vsphere.Ref{"parent": at("Folder", "host")}),
		thing("app", "VirtualApp", "app", map[string]vsphere.Ref{"parent": at("ResourcePool", "pool"), "parentFolder": at("Folder", "prod")}),
		thing("inner", "VirtualApp", "inner", map[string]vsphere.Ref{"parent": at("VirtualApp", "app")}),
		thing("vm-1", vsphere.TypeVM, "web", map[string]vsphere.Ref{"parentVApp": at("VirtualApp", "inner"), "resourcePool": at("VirtualApp", "inner")}),
	} {
		inv[o.ref] = o
	}
	vm := vsphere.VM{Ref: vm1}
	inv.locate(&vm)
	if vm.FolderPath != "/dc-1/vm/a%2fb" || vm.PoolPath != "/dc-1/host/Resources/app/inner" || vm.FolderUnseen || vm.PoolUnseen {
		t.Errorf("located at %+v", vm)
	}
}
