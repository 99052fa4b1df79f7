package simulation_test

import (
	"fmt"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// What a host of the simulated vCenter has.
const (
	hostMHz = 16 * 2400
	hostMB  = 64 << 10
)

// admitting is a vCenter with one cluster of two hosts, three VMs on each, and admission control; its app-01 is off.
func admitting(t *testing.T, a simulation.Admission) (v *simulation.VCenter, c *vim25.Client, asker ref) {
	t.Helper()
	v = start(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 6, Tagged: 2})
	must(t, v.SetAdmission("cluster-a", &a))
	asker = v.VM("cluster-a-app-01")
	must(t, v.PowerOffAs(asker, "owner@corp.example"))
	return v, login(t, v), asker
}

func powerOn(t testing.TB, c *vim25.Client, vm ref, host *ref) error {
	t.Helper()
	res, err := methods.PowerOnVM_Task(t.Context(), c, &types.PowerOnVM_Task{This: vm, Host: host})
	if err != nil {
		return err
	}
	return object.NewTask(c, res.Returnval).Wait(t.Context())
}

// powerOnAll is one PowerOnMultiVM_Task and its tasks; it returns the faults of the VMs that were not attempted.
func powerOnAll(t testing.TB, v *simulation.VCenter, c *vim25.Client, vms ...ref) map[ref]types.BaseMethodFault {
	t.Helper()
	task, err := object.NewDatacenter(c, v.Inventory().Datacenter).PowerOnVM(t.Context(), vms)
	must(t, err)
	info, err := task.WaitForResult(t.Context())
	must(t, err)
	result, ok := info.Result.(types.ClusterPowerOnVmResult)
	if !ok {
		t.Fatalf("the result is %+v", info.Result)
	}
	for _, attempt := range result.Attempted {
		if attempt.Task != nil {
			must(t, object.NewTask(c, *attempt.Task).Wait(t.Context()))
		}
	}
	refused := map[ref]types.BaseMethodFault{}
	for _, not := range result.NotAttempted {
		refused[not.Vm] = not.Fault.Fault
	}
	return refused
}

func hostOf(t testing.TB, c *vim25.Client, vm ref) ref {
	t.Helper()
	var got mo.VirtualMachine
	properties(t, c, vm, &got, "runtime.host")
	return *got.Runtime.Host
}

// reserve lets another VM of the host leave so much unreserved.
func reserve(t testing.TB, v *simulation.VCenter, host ref, leavesMHz, leavesMB int64) {
	t.Helper()
	for _, vm := range v.TaggedVMs("cluster-a") {
		if vm.Host == host {
			must(t, v.SetReservation(vm.Ref, simulation.Reservation{CPUMHz: hostMHz - leavesMHz, MemoryMB: hostMB - leavesMB}))
			return
		}
	}
	t.Fatalf("no tagged VM is on %s", host.Value)
}

func TestAHostWithoutUnreservedResourcesRefusesAPowerOn(t *testing.T) {
	for name, c := range map[string]struct {
		leavesMHz, leavesMB int64
		asks                simulation.Reservation
		is                  func(error) bool
	}{
		"too little memory":           {1000, 4095, simulation.Reservation{CPUMHz: 500, MemoryMB: 4096}, isFault[*types.InsufficientMemoryResourcesFault]},
		"too little for the overhead": {1000, 4100, simulation.Reservation{MemoryMB: 4096, OverheadMB: 5}, isFault[*types.InsufficientMemoryResourcesFault]},
		"too little CPU":              {499, 8192, simulation.Reservation{CPUMHz: 500, MemoryMB: 4096}, isFault[*types.InsufficientCpuResourcesFault]},
	} {
		t.Run(name, func(t *testing.T) {
			v, client, asker := admitting(t, simulation.Admission{})
			must(t, v.SetReservation(asker, c.asks))
			reserve(t, v, hostOf(t, client, asker), c.leavesMHz, c.leavesMB)
			err := powerOn(t, client, asker, nil)
			if !c.is(err) || v.PowerState(asker) != off {
				t.Fatalf("%v, and the VM is %s", err, v.PowerState(asker))
			}
			events := history(t, client, asker, "VmFailedToPowerOnEvent")
			if len(events) != 1 {
				t.Fatalf("%d events", len(events))
			}
			e := events[0].(*types.VmFailedToPowerOnEvent)
			if got := fmt.Sprintf("%T", e.Reason.Fault); !c.is(asError(e.Reason)) || e.UserName != v.EventUser() || e.Vm.Vm != asker || e.Host == nil || e.ComputeResource == nil {
				t.Errorf("%s: %+v", got, e)
			}
			must(t, v.SetReservation(asker, simulation.Reservation{CPUMHz: c.leavesMHz, MemoryMB: c.leavesMB}))
			must(t, powerOn(t, client, asker, nil))
		})
	}
}

// asError lets isFault look at the fault of an event.
func asError(f types.LocalizedMethodFault) error { return faultOf{f.Fault} }

type faultOf struct{ fault types.BaseMethodFault }

func (f faultOf) Error() string                { return "" }
func (f faultOf) Fault() types.BaseMethodFault { return f.fault }

func TestWhatVMsUseDoesNotCountForAdmission(t *testing.T) {
	v, c, asker := admitting(t, simulation.Admission{})
	must(t, v.SetClusterUsage("cluster-a", 99, 99))
	must(t, v.SetReservation(asker, simulation.Reservation{MemoryMB: 16 << 10}))
	must(t, powerOn(t, c, asker, nil))
	must(t, v.SetAdmission("cluster-a", nil))
	must(t, v.PowerOffAs(asker, "bob"))
	must(t, v.SetClusterUsage("cluster-a", 99, 99.9))
	if err := powerOn(t, c, asker, nil); !isFault[*types.InsufficientMemoryResourcesFault](err) {
		t.Errorf("without admission control: %v", err)
	}
}

func TestWhatAHostKeepsForItselfCannotBeReserved(t *testing.T) {
	v, c, asker := admitting(t, simulation.Admission{HostKeeps: simulation.Reservation{MemoryMB: 2048}})
	must(t, v.SetReservation(asker, simulation.Reservation{MemoryMB: hostMB - 2047}))
	if err := powerOn(t, c, asker, nil); !isFault[*types.InsufficientMemoryResourcesFault](err) {
		t.Errorf("%v", err)
	}
	must(t, v.SetReservation(asker, simulation.Reservation{MemoryMB: hostMB - 2048}))
	must(t, powerOn(t, c, asker, nil))
}

func TestAVMStartsOnTheHostThatTheCallNames(t *testing.T) {
	v, c, asker := admitting(t, simulation.Admission{})
	hosts := v.Cluster("cluster-a").Hosts
	here, there := hosts[0].Ref, hosts[1].Ref
	if hostOf(t, c, asker) != here {
		t.Fatal("the VM is not where the test expects it")
	}
	must(t, v.SetReservation(asker, simulation.Reservation{MemoryMB: 4096}))
	reserve(t, v, there, 1000, 1024)
	if err := powerOn(t, c, asker, &there); !isFault[*types.InsufficientMemoryResourcesFault](err) || hostOf(t, c, asker) != here {
		t.Errorf("%v, and the VM is on %v", err, hostOf(t, c, asker))
	}
	reserve(t, v, there, 1000, 4096)
	must(t, powerOn(t, c, asker, &there))
	if hostOf(t, c, asker) != there || v.PowerState(asker) != on {
		t.Errorf("the VM is %s on %v", v.PowerState(asker), hostOf(t, c, asker))
	}
	must(t, v.PowerOffAs(asker, "bob"))
	nowhere := ref{Type: "HostSystem", Value: "host-none"}
	if err := powerOn(t, c, asker, &nowhere); !isFault[*types.ManagedObjectNotFound](err) {
		t.Errorf("on a host that does not exist: %v", err)
	}
}

func TestDRSPlacesAVMWhereItFits(t *testing.T) {
	for name, drs := range map[string]*simulation.DRS{"with tasks": nil, "without tasks": {}} {
		t.Run(name, func(t *testing.T) {
			v, c, asker := admitting(t, simulation.Admission{})
			v.SetDRS(drs)
			other := v.VM("cluster-a-app-03")
			must(t, v.PowerOffAs(other, "bob"))
			hosts := v.Cluster("cluster-a").Hosts
			reserve(t, v, hosts[0].Ref, 1000, 1024)
			reserve(t, v, hosts[1].Ref, 1000, 6144)
			for _, vm := range []ref{asker, other} { // there is room for one of them
				must(t, v.SetReservation(vm, simulation.Reservation{MemoryMB: 4096}))
			}
			refused := powerOnAll(t, v, c, asker, other)
			f, ok := refused[other].(*types.InsufficientMemoryResourcesFault)
			if len(refused) != 1 || !ok || f.Unreserved != 2<<30 || f.Requested != 4<<30 {
				t.Fatalf("%+v", refused)
			}
			eventually(t, "the VM is on", func() bool { return v.PowerState(asker) == on })
			if hostOf(t, c, asker) != hosts[1].Ref || v.PowerState(other) != off {
				t.Errorf("on %v; the other is %s", hostOf(t, c, asker), v.PowerState(other))
			}
			events := history(t, c, other, "NotEnoughResourcesToStartVmEvent", "VmFailedToPowerOnEvent")
			if len(events) != 1 {
				t.Fatalf("%d events", len(events))
			}
			if e, ok := events[0].(*types.NotEnoughResourcesToStartVmEvent); !ok || e.Reason == "" || e.UserName != v.EventUser() {
				t.Errorf("%+v", events[0])
			}
			must(t, v.PowerOffAs(asker, "bob"))
			if refused := powerOnAll(t, v, c, other); len(refused) != 0 {
				t.Errorf("once there is room: %+v", refused)
			}
		})
	}
}

func TestPowerOnsKeepTheClustersRules(t *testing.T) {
	yes, no := types.NewBool(true), types.NewBool(false)
	for name, c := range map[string]struct {
		rule  func(asker, onSecond ref) types.BaseClusterRuleInfo
		first bool // the VM may start on the first host
		lands int  // where DRS places it
		full  bool // the second host has no room
	}{
		"must run in a group": {func(ref, ref) types.BaseClusterRuleInfo {
			return &types.ClusterVmHostRuleInfo{ClusterRuleInfo: types.ClusterRuleInfo{Enabled: yes, Mandatory: yes}, VmGroupName: "vms", AffineHostGroupName: "second"}
		}, false, 1, false},
		"must run in a group that is full": {func(ref, ref) types.BaseClusterRuleInfo {
			return &types.ClusterVmHostRuleInfo{ClusterRuleInfo: types.ClusterRuleInfo{Enabled: yes, Mandatory: yes}, VmGroupName: "vms", AffineHostGroupName: "second"}
		}, false, -1, true},
		"should run in a group": {func(ref, ref) types.BaseClusterRuleInfo {
			return &types.ClusterVmHostRuleInfo{ClusterRuleInfo: types.ClusterRuleInfo{Enabled: yes, Mandatory: no}, VmGroupName: "vms", AffineHostGroupName: "second"}
		}, true, 1, false},
		"should run in a group that is full": {func(ref, ref) types.BaseClusterRuleInfo {
			return &types.ClusterVmHostRuleInfo{ClusterRuleInfo: types.ClusterRuleInfo{Enabled: yes, Mandatory: no}, VmGroupName: "vms", AffineHostGroupName: "second"}
		}, true, 0, true},
		"a rule that is not enabled": {func(ref, ref) types.BaseClusterRuleInfo {
			return &types.ClusterVmHostRuleInfo{ClusterRuleInfo: types.ClusterRuleInfo{Enabled: no, Mandatory: yes}, VmGroupName: "vms", AffineHostGroupName: "second"}
		}, true, 0, false},
		"with a VM of the second host": {func(asker, other ref) types.BaseClusterRuleInfo {
			return &types.ClusterAffinityRuleSpec{ClusterRuleInfo: types.ClusterRuleInfo{Enabled: yes}, Vm: []ref{asker, other}}
		}, false, 1, false},
		"apart from a VM of the second host": {func(asker, other ref) types.BaseClusterRuleInfo {
			return &types.ClusterAntiAffinityRuleSpec{ClusterRuleInfo: types.ClusterRuleInfo{Enabled: yes}, Vm: []ref{asker, other}}
		}, true, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			v, client, asker := admitting(t, simulation.Admission{})
			hosts := v.Cluster("cluster-a").Hosts
			must(t, v.SetReservation(asker, simulation.Reservation{MemoryMB: 4096}))
			if c.full {
				reserve(t, v, hosts[1].Ref, 1000, 1024)
			}
			must(t, v.SetAffinity("cluster-a", []types.BaseClusterGroupInfo{
				&types.ClusterVmGroup{ClusterGroupInfo: types.ClusterGroupInfo{Name: "vms"}, Vm: []ref{asker}},
				&types.ClusterHostGroup{ClusterGroupInfo: types.ClusterGroupInfo{Name: "second"}, Host: []ref{hosts[1].Ref}},
			}, c.rule(asker, v.VM("cluster-a-app-02"))))
			err := powerOn(t, client, asker, &hosts[0].Ref)
			if (err == nil) != c.first || err != nil && !isFault[*types.VmHostAffinityRuleViolation](err) && !isFault[*types.RuleViolation](err) {
				t.Errorf("on the first host: %v", err)
			}
			if err == nil {
				must(t, v.PowerOffAs(asker, "bob"))
			}
			refused := powerOnAll(t, v, client, asker)
			switch {
			case c.lands < 0 && !isRefusedFor[*types.InsufficientMemoryResourcesFault](refused, asker):
				t.Errorf("%+v", refused)
			case c.lands >= 0 && (len(refused) != 0 || hostOf(t, client, asker) != hosts[c.lands].Ref):
				t.Errorf("%+v, on %v", refused, hostOf(t, client, asker))
			}
		})
	}
}

func isRefusedFor[F types.BaseMethodFault](refused map[ref]types.BaseMethodFault, vm ref) bool {
	_, ok := refused[vm].(F)
	return ok
}

func TestTwoPowerOnsAtOnceDoNotShareTheSameRoom(t *testing.T) {
	v, c, asker := admitting(t, simulation.Admission{})
	other := v.VM("cluster-a-app-03") // on the same host
	must(t, v.PowerOffAs(other, "bob"))
	for _, vm := range []ref{asker, other} {
		must(t, v.SetReservation(vm, simulation.Reservation{MemoryMB: hostMB * 3 / 4}))
	}
	for range 10 {
		errs := make(chan error, 2)
		for _, vm := range []ref{asker, other} {
			go func() { errs <- powerOn(t, c, vm, nil) }()
		}
		if a, b := <-errs, <-errs; (a == nil) == (b == nil) {
			t.Fatalf("%v; %v", a, b)
		}
		_, _ = v.PowerOffAs(asker, "bob"), v.PowerOffAs(other, "bob")
	}
}

func TestAPowerOnFailsForAnotherReason(t *testing.T) {
	v := start(t, small())
	c, asker := login(t, v), v.VM("cluster-a-app-01")
	must(t, v.PowerOffAs(asker, "bob"))
	v.FailTaskOf("PowerOnVM_Task", asker, &types.FileLocked{}, 2)
	if err := powerOn(t, c, asker, nil); !isFault[*types.FileLocked](err) {
		t.Errorf("by itself: %v", err)
	}
	if v.PowerOnAs(asker, "alice@corp.example") == nil {
		t.Error("somebody else turned it on")
	}
	events := history(t, c, asker, "VmFailedToPowerOnEvent")
	if len(events) != 2 || events[1].GetEvent().UserName != `CORP.EXAMPLE\alice` {
		t.Fatalf("%+v", events)
	}
	if _, ok := events[0].(*types.VmFailedToPowerOnEvent).Reason.Fault.(*types.FileLocked); !ok {
		t.Errorf("%+v", events[0])
	}
	must(t, powerOn(t, c, asker, nil))
}
