package vcenter

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// reshape reconfigures a VM as an administrator would, in ways that the gateway does not.
func reshape(t *testing.T, g *Gateway, ref vsphere.Ref, spec types.VirtualMachineConfigSpec) {
	t.Helper()
	var task vsphere.Ref
	check(t, g.onVM(t.Context(), "reshape", ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.ReconfigVM_Task(ctx, s.client, &types.ReconfigVM_Task{This: toMoRef(ref), Spec: spec})
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	}))
	check(t, g.AwaitTask(t.Context(), task, nil))
}

func hardwareOf(t *testing.T, g *Gateway, ref vsphere.Ref) placement.VM {
	t.Helper()
	vms, err := g.Hardware(t.Context(), []vsphere.Ref{ref})
	check(t, err)
	vm, ok := vms[ref]
	if !ok {
		t.Fatalf("%v is not there", ref)
	}
	return vm
}

func TestHardwareTellsWhatAResizeLooksAt(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 2, HostsPerCluster: 2, VMsPerCluster: 4, Tagged: 3})
	ref := taggedRefs(v)[0]
	check(t, v.SetPowerState(toMoRef(ref), off)) // hot-add is not switched on while it is on
	reshape(t, g, ref, types.VirtualMachineConfigSpec{
		GuestId: "ubuntu64Guest", NumCoresPerSocket: types.NewInt32(2), CpuHotAddEnabled: types.NewBool(true), MemoryHotAddEnabled: types.NewBool(true),
	})
	check(t, v.SetPowerState(toMoRef(ref), types.VirtualMachinePowerStatePoweredOn))
	check(t, v.SetTags(toMoRef(ref), placement.CategoryMaxCPUs, "8"))
	check(t, v.SetTags(toMoRef(ref), placement.CategoryMode, "tag", "off"))
	check(t, v.SetManagedBy(toMoRef(ref), "com.example", "x"))
	vms, err := g.Hardware(t.Context(), []vsphere.Ref{ref, ref, gone, {Type: vsphere.TypeHost, Value: "host-1"}})
	check(t, err)
	vm := vms[ref]
	if len(vms) != 1 || vm.Ref != ref {
		t.Fatalf("read %+v", vms)
	}
	want := placement.Hardware{CPUs: 4, CoresPerSocket: 2, MemoryMB: 16 << 10, CPUHotAdd: true, MemoryHotAdd: true}
	if vm.Hardware != want {
		t.Errorf("hardware %+v, want %+v", vm.Hardware, want)
	}
	if !vm.Linux || !vm.Connected || !vm.ToolsRunning || vm.Template || vm.Busy || vm.FaultTolerant || vm.PowerState != vsphere.PoweredOn ||
		vm.ManagedBy != "com.example" || vm.ChangeVersion == "" || vm.InstanceUUID == "" || vm.BIOSUUID == "" {
		t.Errorf("read %+v", vm)
	}
	if vm.Host.Zero() || vm.Cluster != fromMoRef(v.Inventory().Clusters[0].Ref) {
		t.Errorf("host %v in cluster %v", vm.Host, vm.Cluster)
	}
	if vm.HostCPUs != 32 || vm.HostMemoryMB != 64<<10 || vm.ClusterCPUs != 32 || vm.ClusterMemoryMB != 64<<10 {
		t.Errorf("sizes %d %d %d %d", vm.HostCPUs, vm.HostMemoryMB, vm.ClusterCPUs, vm.ClusterMemoryMB)
	}
	if got := fmt.Sprint(vm.Tags); got != "map[remediation-max-cpus:[8] remediation-mode:[off tag]]" {
		t.Errorf("tags %s", got)
	}
}

func TestHardwareTakesTheSameCallsWhateverTheNumber(t *testing.T) {
	for _, n := range []int{1, 30} {
		v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 3, VMsPerCluster: n, Tagged: n})
		refs := taggedRefs(v)
		for i, ref := range refs {
			check(t, v.SetTags(toMoRef(ref), placement.CategoryMaxMemory, fmt.Sprint(1024*(1+i%3))))
		}
		_, err := g.Hardware(t.Context(), refs) // reads the new tags
		check(t, err)
		v.ResetCalls()
		check(t, v.TerminateSessions())
		vms, err := g.Hardware(t.Context(), refs)
		check(t, err)
		if len(vms) != n || vms[refs[0]].Tags == nil {
			t.Errorf("%d VMs of %d", len(vms), n)
		}
		calls := v.Calls()
		if calls["RetrievePropertiesEx"] > 2 || calls["REST POST /com/vmware/cis/tagging/tag-association?~action=list-attached-tags-on-objects"] > 2 {
			t.Errorf("calls %v", calls)
		}
		v.ResetCalls()
		_, err = g.Hardware(t.Context(), refs)
		check(t, err)
		wantCalls(t, v, 2)
	}
}

func TestOnlyUsableHostsCountForTheCluster(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 2, Tagged: 1})
	ref, hosts := taggedRefs(v)[0], v.Inventory().Clusters[0].Hosts
	check(t, v.SetHostMaintenance(hosts[0].Ref, true))
	check(t, v.SetHostConnected(hosts[1].Ref, false))
	if vm := hardwareOf(t, g, ref); vm.ClusterCPUs != 0 || vm.ClusterMemoryMB != 0 || vm.HostCPUs != 32 {
		t.Errorf("read %+v", vm)
	}
	check(t, v.SetHostConnected(hosts[1].Ref, true))
	if vm := hardwareOf(t, g, ref); vm.ClusterCPUs != 32 {
		t.Errorf("read %+v", vm)
	}
}

func TestABusyVMIsToldFromAnIdleOne(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.SetDisabledMethods(toMoRef(refs[0]), "PowerOnVM_Task", "RelocateVM_Task"))
	check(t, v.SetDisabledMethods(toMoRef(refs[1]), "PowerOnVM_Task"))
	v.SetTaskDelayFor(toMoRef(refs[2]), time.Minute)
	_, err := g.PowerOff(t.Context(), refs[2])
	check(t, err)
	vms, err := g.Hardware(t.Context(), refs)
	check(t, err)
	for i, want := range []bool{true, false, true} {
		if vms[refs[i]].Busy != want {
			t.Errorf("VM %d is busy: %v", i, !want)
		}
	}
}

func TestHardwareFailsWithTheCallThatFails(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	v.FailREST("REST POST /com/vmware/cis/tagging/tag-association?~action=list-attached-tags-on-objects", 403, 1)
	_, err := g.Hardware(t.Context(), refs)
	wantKind(t, err, NoPermission)
	v.FailCall("RetrievePropertiesEx", nil, &types.NoPermission{PrivilegeId: "System.Read"}, 1)
	_, err = g.Hardware(t.Context(), refs)
	wantKind(t, err, NoPermission)
	check(t, v.RemoveVM(toMoRef(refs[0])))
	vms, err := g.Hardware(t.Context(), refs[:1])
	check(t, err)
	if len(vms) != 0 {
		t.Errorf("a VM that is gone: %+v", vms)
	}
}

func TestLinuxIsKnownByToolsAndByConfiguration(t *testing.T) {
	for _, c := range []struct {
		family, id, name string
		want             bool
	}{
		{"linuxGuest", "windows9_64Guest", "", true},
		{"windowsGuest", "ubuntu64Guest", "", false},
		{"otherGuestFamily", "vmwarePhoton64Guest", "", true},
		{"", "other5xLinux64Guest", "", true},
		{"", "rhel8_64Guest", "", true},
		{"", "otherGuest64", "Some Linux (64-bit)", true},
		{"", "freebsd13_64Guest", "FreeBSD 13 (64-bit)", false},
		{"", "", "", false},
	} {
		if got := isLinux(c.family, c.id, c.name); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestFaultTolerantVMsAreKnown(t *testing.T) {
	for state, want := range map[types.VirtualMachineFaultToleranceState]bool{
		"": false, types.VirtualMachineFaultToleranceStateNotConfigured: false,
		types.VirtualMachineFaultToleranceStateDisabled: true, types.VirtualMachineFaultToleranceStateRunning: true,
	} {
		if got := (object{props: map[string]any{"runtime.faultToleranceState": state}}).faultTolerant(); got != want {
			t.Errorf("%q: %v", state, got)
		}
	}
	if !(object{props: map[string]any{"config.ftInfo": types.FaultTolerancePrimaryConfigInfo{}}}).faultTolerant() {
		t.Error("a VM with fault tolerance information is not fault tolerant")
	}
}

func TestAChangeIsWrittenWithoutWhatStays(t *testing.T) {
	one, yes := 1, true
	for name, c := range map[string]struct {
		change placement.Change
		want   types.VirtualMachineConfigSpec
	}{
		"all":     {placement.Change{CPUs: &one, CoresPerSocket: &one, MemoryMB: &one, CPUHotAdd: &yes, CPUHotRemove: &yes, MemoryHotAdd: &yes}, types.VirtualMachineConfigSpec{NumCPUs: 1, NumCoresPerSocket: types.NewInt32(1), MemoryMB: 1, CpuHotAddEnabled: &yes, CpuHotRemoveEnabled: &yes, MemoryHotAddEnabled: &yes}},
		"nothing": {},
	} {
		if got := configSpec(c.change); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
