package vcenter

import (
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestSnapshotTellsWhatPolicyNeeds(t *testing.T) {
	v, g := warm(t, simulation.Options{})
	cluster := v.Inventory().Clusters[1]
	vms := v.TaggedVMs(cluster.Name)
	check(t, v.SetManagedBy(vms[0].Ref, "com.vmware.vim.eam", "cluster-agent"))
	check(t, v.SetToolsRunning(vms[1].Ref, false))
	check(t, v.SetDisabledMethods(vms[2].Ref, "PowerOffVM_Task"))
	check(t, v.SetPowerState(vms[3].Ref, off))
	check(t, v.SetTemplate(vms[4].Ref))

	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Ref: fromMoRef(cluster.Ref), Name: cluster.Name})
	check(t, err)
	wantCalls(t, v, 2)
	if snapshot.Scope != fromMoRef(cluster.Ref) || snapshot.ScopeName != cluster.Name || snapshot.Time.IsZero() {
		t.Errorf("scope %v %q at %v", snapshot.Scope, snapshot.ScopeName, snapshot.Time)
	}
	if len(snapshot.VMs) != 12 || len(snapshot.Others) != 0 {
		t.Fatalf("%d VMs, others %v; the snapshot is of both clusters", len(snapshot.VMs), snapshot.Others)
	}
	if !slices.Contains(snapshot.VCenterAddrs, "127.0.0.1") {
		t.Errorf("vCenter's addresses %v", snapshot.VCenterAddrs)
	}
	found := map[vsphere.Ref]vsphere.VM{}
	for _, vm := range snapshot.VMs {
		found[vm.Ref] = vm
	}
	at := func(i int) vsphere.VM { return found[fromMoRef(vms[i].Ref)] }
	if vm := at(0); vm.ManagedBy != "com.vmware.vim.eam" || vm.ManagedType != "cluster-agent" {
		t.Errorf("managed by %q %q", vm.ManagedBy, vm.ManagedType)
	}
	if at(1).ToolsRunning || !at(0).ToolsRunning {
		t.Error("tools")
	}
	if !slices.Contains(at(2).DisabledMethods, "PowerOffVM_Task") {
		t.Errorf("disabled methods %v", at(2).DisabledMethods)
	}
	if at(3).PowerState != vsphere.PoweredOff || at(0).PowerState != vsphere.PoweredOn || !at(4).Template {
		t.Error("power state or template")
	}
	vm := at(5)
	if vm.Name != vms[5].Name || !vm.Tagged || !vm.Connected || vm.BIOSUUID == "" || vm.InstanceUUID == "" || vm.BootTime.IsZero() || vm.ChangeVersion == "" {
		t.Errorf("VM %+v", vm)
	}
	if vm.Host != fromMoRef(vms[5].Host) || vm.Cluster != fromMoRef(cluster.Ref) {
		t.Errorf("host %v cluster %v", vm.Host, vm.Cluster)
	}
	if vm.CPUMHz <= 0 || vm.MemoryMB <= 0 {
		t.Errorf("usage %d MHz %d MB", vm.CPUMHz, vm.MemoryMB)
	}
	kinds := map[string]bool{}
	for _, a := range vm.Ancestors {
		kinds[a.Type] = true
	}
	for _, want := range []string{"Folder", "Datacenter", "HostSystem", "ClusterComputeResource", "ResourcePool"} {
		if !kinds[want] {
			t.Errorf("no %s among the ancestors %v", want, vm.Ancestors)
		}
	}
}

func TestCandidatesTakeTheSameCallsWhateverTheirNumber(t *testing.T) {
	for _, n := range []int{1, 60} {
		v, g := warm(t, simulation.Options{Clusters: 2, HostsPerCluster: 2, VMsPerCluster: n, Tagged: n})
		snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
		check(t, err)
		if len(snapshot.VMs) != 2*n {
			t.Errorf("%d VMs of %d", len(snapshot.VMs), 2*n)
		}
		wantCalls(t, v, 2)
		v.ResetCalls()
		_, err = g.Recheck(t.Context(), "preemptible", taggedRefs(v))
		check(t, err)
		wantCalls(t, v, 2)
	}
}

func TestTagOnOtherObjects(t *testing.T) {
	v, g := warm(t, small())
	cluster := v.Inventory().Clusters[0]
	root := types.ManagedObjectReference{Type: "Folder", Value: "group-d1"}
	for _, r := range []types.ManagedObjectReference{cluster.Hosts[0].Ref, cluster.Ref, root} {
		check(t, v.AttachTag("preemption", "preemptible", r))
	}
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	if len(snapshot.VMs) != 3 || len(snapshot.Others) != 3 {
		t.Errorf("VMs %d, others %v", len(snapshot.VMs), snapshot.Others)
	}
}

func TestTagOnNothing(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 1, Tagged: -1})
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	if len(snapshot.VMs)+len(snapshot.Others) != 0 {
		t.Errorf("snapshot %+v", snapshot)
	}
	wantCalls(t, v, 1)
	_, err = g.Candidates(t.Context(), "preemptible", Scope{Ref: vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c999"}})
	wantKind(t, err, ScopeNotFound)
}

func TestStaleReferencesDoNotFailTheRest(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.RemoveVM(toMoRef(refs[0])))
	check(t, v.AttachTag("preemption", "preemptible", toMoRef(gone)))
	check(t, v.AttachTag("preemption", "preemptible", toMoRef(refs[0])))

	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	wantCalls(t, v, 2)
	if len(snapshot.VMs) != 2 || !slices.Contains(snapshot.Others, gone) || !slices.Contains(snapshot.Others, refs[0]) {
		t.Errorf("%d VMs, others %v", len(snapshot.VMs), snapshot.Others)
	}
	vms, err := g.Recheck(t.Context(), "preemptible", append(refs, gone))
	check(t, err)
	if len(vms) != 2 {
		t.Errorf("rechecked %v", vms)
	}
}

func TestScopeMustBeOfThisVCenter(t *testing.T) {
	v, g := warm(t, small())
	cluster := v.Inventory().Clusters[0]
	right, host := fromMoRef(cluster.Ref), fromMoRef(cluster.Hosts[0].Ref)
	other := vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c987"}
	cases := map[string]struct {
		scope Scope
		want  Kind
		text  string
	}{
		"everything":                      {Scope{}, "", ""},
		"cluster by reference":            {Scope{Ref: right}, "", ""},
		"cluster by reference and name":   {Scope{Ref: right, Name: cluster.Name}, "", ""},
		"host by reference and name":      {Scope{Ref: host, Name: cluster.Hosts[0].Name}, "", ""},
		"unknown reference":               {Scope{Ref: other}, ScopeNotFound, "domain-c987"},
		"unknown reference, right name":   {Scope{Ref: other, Name: cluster.Name}, ScopeNotFound, "no such object"},
		"right reference, another name":   {Scope{Ref: right, Name: "cluster-z"}, ScopeNotFound, `"` + cluster.Name + `"`},
		"name alone":                      {Scope{Name: cluster.Name}, ScopeNotFound, "reference"},
		"a host's id with cluster's type": {Scope{Ref: vsphere.Ref{Type: vsphere.TypeCluster, Value: host.Value}}, ScopeNotFound, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			v.ResetCalls()
			_, err := g.Candidates(t.Context(), "preemptible", c.scope)
			wantKind(t, err, c.want)
			wantCalls(t, v, 2)
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%q lacks %q", err, c.text)
			}
		})
	}
}

func TestNamesWithSlashesMatch(t *testing.T) {
	inv := inventory{vm1: {ref: vm1, props: map[string]any{"name": "a%2fb"}}}
	for _, name := range []string{"a/b", "a%2fb", "a%2Fb"} {
		if _, err := inv.check(Scope{Ref: vm1, Name: name}); err != nil {
			t.Error(err)
		}
	}
	if vm, _ := inv.vm(vm1); vm.Name != "a/b" {
		t.Errorf("shown as %q", vm.Name)
	}
}

func TestRecheckSeesWhatChanged(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.DetachTag("preemption", "preemptible", toMoRef(refs[0])))
	check(t, v.SetPowerState(toMoRef(refs[1]), off))
	check(t, v.RemoveVM(toMoRef(refs[2])))
	vms, err := g.Recheck(t.Context(), "preemptible", refs)
	check(t, err)
	if vm, ok := vms[refs[0]]; !ok || vm.Tagged || vm.PowerState != vsphere.PoweredOn {
		t.Errorf("untagged VM: %v %+v", ok, vm)
	}
	if vm, ok := vms[refs[1]]; !ok || !vm.Tagged || vm.PowerState != vsphere.PoweredOff {
		t.Errorf("VM that is off: %v %+v", ok, vm)
	}
	if _, ok := vms[refs[2]]; ok {
		t.Error("a destroyed VM is still there")
	}
}

func TestErrorsNameTheVM(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	v.FailCall("PowerOffVM_Task", moRef(refs[0]), &types.NoPermission{PrivilegeId: "VirtualMachine.Interact.PowerOff"}, 1)
	_, err = g.PowerOff(t.Context(), refs[0])
	wantKind(t, err, NoPermission)
	i := slices.IndexFunc(snapshot.VMs, func(vm vsphere.VM) bool { return vm.Ref == refs[0] })
	for _, want := range []string{"power off " + refs[0].Value + " (" + snapshot.VMs[i].Name + "): ", v.EventUser(), "VirtualMachine.Interact.PowerOff"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}
