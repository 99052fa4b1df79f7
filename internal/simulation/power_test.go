package simulation_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// history reads the event history of an entity through the API, oldest first.
func history(t testing.TB, c *vim25.Client, ref types.ManagedObjectReference, kinds ...string) []types.BaseEvent {
	t.Helper()
	begin := time.Now().Add(-time.Hour)
	res, err := methods.QueryEvents(t.Context(), c, &types.QueryEvents{
		This: *c.ServiceContent.EventManager,
		Filter: types.EventFilterSpec{
			Entity:      &types.EventFilterSpecByEntity{Entity: ref, Recursion: types.EventFilterSpecRecursionOptionSelf},
			Time:        &types.EventFilterSpecByTime{BeginTime: &begin},
			EventTypeId: kinds,
		},
	})
	must(t, err)
	slices.SortFunc(res.Returnval, func(a, b types.BaseEvent) int { return int(a.GetEvent().Key - b.GetEvent().Key) })
	return res.Returnval
}

func TestAPowerOffIsATaskAndCarriesItsUser(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	task, err := object.NewVirtualMachine(c, ref).PowerOff(t.Context())
	must(t, err)
	info, err := task.WaitForResult(t.Context())
	must(t, err)
	if reason, ok := info.Reason.(*types.TaskReasonUser); !ok || reason.UserName != v.EventUser() {
		t.Errorf("the task's reason is %+v", info.Reason)
	}
	var vm mo.VirtualMachine
	properties(t, c, ref, &vm, "runtime", "recentTask")
	if v.PowerState(ref) != off || vm.Runtime.PowerState != off || vm.Runtime.BootTime != nil {
		t.Errorf("the VM is %s, booted %v", vm.Runtime.PowerState, vm.Runtime.BootTime)
	}
	if !slices.Contains(vm.RecentTask, task.Reference()) {
		t.Errorf("recent tasks %v lack %v", vm.RecentTask, task.Reference())
	}
	events := history(t, c, ref, "VmPoweredOffEvent")
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0].GetEvent()
	if e.UserName != v.EventUser() || e.ComputeResource.Name != "cluster-a" || e.Vm.Name != "cluster-a-batch-01" || e.Host == nil || e.Datacenter == nil {
		t.Errorf("the event is %+v", e)
	}
	if err := powerOff(t, c, ref); !isFault[*types.InvalidPowerState](err) {
		t.Errorf("a second power-off: %v", err)
	}
}

func TestPowerOnAndSuspendWork(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	vm := object.NewVirtualMachine(c, ref)
	task, err := vm.Suspend(t.Context())
	must(t, err)
	must(t, task.Wait(t.Context()))
	if v.PowerState(ref) != types.VirtualMachinePowerStateSuspended {
		t.Errorf("the VM is %s", v.PowerState(ref))
	}
	task, err = vm.PowerOn(t.Context())
	must(t, err)
	must(t, task.Wait(t.Context()))
	var got mo.VirtualMachine
	properties(t, c, ref, &got, "runtime")
	if got.Runtime.PowerState != on || got.Runtime.BootTime == nil || time.Since(*got.Runtime.BootTime) > time.Minute {
		t.Errorf("the VM is %s since %v", got.Runtime.PowerState, got.Runtime.BootTime)
	}
	for _, kind := range []string{"VmSuspendedEvent", "VmPoweredOnEvent"} {
		if events := history(t, c, ref, kind); len(events) == 0 || events[len(events)-1].GetEvent().UserName != v.EventUser() {
			t.Errorf("%s: %v", kind, events)
		}
	}
}

func TestAGuestShutdownTakesItsTimeAndEndsWithoutAUser(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	v.SetShutdownDelay(50 * time.Millisecond)
	must(t, object.NewVirtualMachine(c, ref).ShutdownGuest(t.Context()))
	if v.PowerState(ref) != on {
		t.Error("the VM was off at once")
	}
	eventually(t, "the guest is down", func() bool { return v.PowerState(ref) == off })
	eventually(t, "its events", func() bool {
		events := history(t, c, ref, "VmGuestShutdownEvent", "VmPoweredOffEvent")
		if len(events) != 2 {
			return false
		}
		_, first := events[0].(*types.VmGuestShutdownEvent)
		_, second := events[1].(*types.VmPoweredOffEvent)
		return first && second && events[0].GetEvent().UserName == v.EventUser() && events[1].GetEvent().UserName == ""
	})
	if err := object.NewVirtualMachine(c, ref).ShutdownGuest(t.Context()); !isFault[*types.InvalidPowerState](err) {
		t.Errorf("shutting down a VM that is off: %v", err)
	}
}

func TestAGuestWithoutToolsCannotShutDown(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	must(t, v.SetToolsRunning(ref, false))
	if err := object.NewVirtualMachine(c, ref).ShutdownGuest(t.Context()); !isFault[*types.ToolsUnavailable](err) {
		t.Errorf("without tools: %v", err)
	}
	must(t, v.SetToolsRunning(ref, true))
	must(t, object.NewVirtualMachine(c, ref).ShutdownGuest(t.Context()))
}

func TestAGuestMayIgnoreShutdown(t *testing.T) {
	v := start(t, small())
	c, ref, other := login(t, v), v.VM("cluster-a-batch-01"), v.VM("cluster-a-batch-02")
	v.IgnoreShutdown(ref)
	must(t, object.NewVirtualMachine(c, ref).ShutdownGuest(t.Context()))
	must(t, object.NewVirtualMachine(c, other).ShutdownGuest(t.Context()))
	eventually(t, "the other guest is down", func() bool { return v.PowerState(other) == off })
	time.Sleep(30 * time.Millisecond)
	if v.PowerState(ref) != on {
		t.Error("the guest shut down after all")
	}
	if n := len(history(t, c, ref, "VmGuestShutdownEvent")); n != 1 {
		t.Errorf("%d shutdown events", n)
	}
}

func TestALateShutdownDoesNotHitTheNextLife(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	v.SetShutdownDelay(60 * time.Millisecond)
	must(t, object.NewVirtualMachine(c, ref).ShutdownGuest(t.Context()))
	must(t, v.PowerOffAs(ref, "ops@corp.example"))
	must(t, v.PowerOnAs(ref, "ops@corp.example"))
	time.Sleep(120 * time.Millisecond)
	if v.PowerState(ref) != on {
		t.Error("the old shutdown turned the VM off")
	}
}

func TestSomebodyElsesPowerOffCarriesTheirName(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-b-app-01")
	must(t, v.PowerOffAs(ref, "alice@corp.example"))
	events := history(t, c, ref, "VmPoweredOffEvent")
	if len(events) != 1 || events[0].GetEvent().UserName != `CORP.EXAMPLE\alice` {
		t.Errorf("events %+v", events)
	}
	if v.PowerOffAs(ref, "alice@corp.example") == nil {
		t.Error("turning off a VM that is off succeeds")
	}
}

func TestADelayedPowerOffLetsTheVMBeRead(t *testing.T) {
	v := start(t, small())
	c, slow, slower := login(t, v), v.VM("cluster-a-batch-01"), v.VM("cluster-a-batch-02")
	v.SetTaskDelay(1500 * time.Millisecond)
	v.SetTaskDelayFor(slower, time.Hour)
	began := time.Now()
	tasks := map[types.ManagedObjectReference]*object.Task{}
	for _, ref := range []types.ManagedObjectReference{slow, slower} {
		task, err := object.NewVirtualMachine(c, ref).PowerOff(t.Context())
		must(t, err)
		tasks[ref] = task
	}
	var vm mo.VirtualMachine
	properties(t, c, slow, &vm, "runtime.powerState")
	if vm.Runtime.PowerState != on {
		t.Errorf("read %s after %v", vm.Runtime.PowerState, time.Since(began))
	}
	must(t, tasks[slow].Wait(t.Context()))
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("the task took %v", took)
	}
	var task mo.Task
	properties(t, c, tasks[slower].Reference(), &task, "info.state")
	if task.Info.State != types.TaskInfoStateRunning || v.PowerState(slower) != on {
		t.Errorf("the slower task is %s", task.Info.State)
	}
}

func TestATaskCanBeMadeToFail(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	v.FailTask(ref, &types.HostNotConnected{}, 1)
	if err := powerOff(t, c, ref); !isFault[*types.HostNotConnected](err) || v.PowerState(ref) != on {
		t.Errorf("%v, and the VM is %s", err, v.PowerState(ref))
	}
	must(t, powerOff(t, c, ref))
}

func TestReconfigureIsRefusedWhereVCenterRefusesIt(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-app-01")
	reconfigure := func(spec types.VirtualMachineConfigSpec) error {
		task, err := object.NewVirtualMachine(c, ref).Reconfigure(t.Context(), spec)
		must(t, err)
		return task.Wait(t.Context())
	}
	hot := true
	if err := reconfigure(types.VirtualMachineConfigSpec{NumCPUs: 8}); !isFault[*types.CpuHotPlugNotSupported](err) {
		t.Errorf("more CPUs without hot-add: %v", err)
	}
	if err := reconfigure(types.VirtualMachineConfigSpec{MemoryMB: 32768}); !isFault[*types.MemoryHotPlugNotSupported](err) {
		t.Errorf("more memory without hot-add: %v", err)
	}
	if err := reconfigure(types.VirtualMachineConfigSpec{ChangeVersion: "old"}); !isFault[*types.ConcurrentAccess](err) {
		t.Errorf("a stale change version: %v", err)
	}
	must(t, v.SetPowerState(ref, off))
	must(t, reconfigure(types.VirtualMachineConfigSpec{CpuHotAddEnabled: &hot}))
	must(t, v.SetPowerState(ref, on))
	must(t, reconfigure(types.VirtualMachineConfigSpec{NumCPUs: 8}))
	must(t, v.SetPowerState(ref, off))
	must(t, reconfigure(types.VirtualMachineConfigSpec{MemoryMB: 8192}))
}

func TestCollectorsReadTheHistoryInPages(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	cluster := v.Cluster("cluster-a")
	for _, vm := range cluster.VMs {
		must(t, powerOff(t, c, vm.Ref))
	}
	must(t, v.PowerOffAs(v.VM("cluster-b-app-01"), "bob"))
	res, err := methods.CreateCollectorForEvents(t.Context(), c, &types.CreateCollectorForEvents{
		This: *c.ServiceContent.EventManager,
		Filter: types.EventFilterSpec{
			Entity:      &types.EventFilterSpecByEntity{Entity: cluster.Ref, Recursion: types.EventFilterSpecRecursionOptionAll},
			EventTypeId: []string{"VmPoweredOffEvent"},
		},
	})
	must(t, err)
	got := 0
	for {
		page, err := methods.ReadNextEvents(t.Context(), c, &types.ReadNextEvents{This: res.Returnval, MaxCount: 3})
		must(t, err)
		if got += len(page.Returnval); len(page.Returnval) == 0 {
			break
		}
	}
	if got != len(cluster.VMs) {
		t.Errorf("%d power-offs in cluster-a, the history has %d", len(cluster.VMs), got)
	}
	_, err = methods.DestroyCollector(t.Context(), c, &types.DestroyCollector{This: res.Returnval})
	must(t, err)
}

func TestCollectorsComeAndGoWhileEventsArePosted(t *testing.T) {
	v := start(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 20})
	c := login(t, v)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, vm := range v.VMs() {
			_ = v.PowerOffAs(vm.Ref, "bob")
		}
	}()
	for range 40 {
		res, err := methods.CreateCollectorForEvents(t.Context(), c, &types.CreateCollectorForEvents{This: *c.ServiceContent.EventManager})
		must(t, err)
		_, err = methods.DestroyCollector(t.Context(), c, &types.DestroyCollector{This: res.Returnval})
		must(t, err)
	}
	<-done
}

func TestManyVMsArePoweredOnInOneCall(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	var refs []types.ManagedObjectReference
	for _, vm := range v.TaggedVMs("") {
		must(t, powerOff(t, c, vm.Ref))
		refs = append(refs, vm.Ref)
	}
	dc := object.NewDatacenter(c, v.Inventory().Datacenter)
	task, err := dc.PowerOnVM(t.Context(), refs)
	must(t, err)
	info, err := task.WaitForResult(t.Context())
	must(t, err)
	result, ok := info.Result.(types.ClusterPowerOnVmResult)
	if !ok || len(result.Attempted) != len(refs) {
		t.Fatalf("the result is %+v", info.Result)
	}
	for _, attempt := range result.Attempted {
		must(t, object.NewTask(c, *attempt.Task).Wait(t.Context()))
		if v.PowerState(attempt.Vm) != on {
			t.Errorf("%v is %s", attempt.Vm, v.PowerState(attempt.Vm))
		}
	}
	must(t, object.NewVirtualMachine(c, refs[0]).ShutdownGuest(t.Context())) // its tools run again
}

func TestMovingToADatastoreThatDoesNotExistIsRefused(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-app-01")
	nowhere := types.ManagedObjectReference{Type: "Datastore", Value: "datastore-none"}
	vm := object.NewVirtualMachine(c, ref)
	if _, err := vm.Relocate(t.Context(), types.VirtualMachineRelocateSpec{Datastore: &nowhere}, ""); !isFault[*types.ManagedObjectNotFound](err) {
		t.Errorf("moving nowhere: %v", err)
	}
	there := v.Cluster("cluster-a").Datastores[1]
	task, err := vm.Relocate(t.Context(), types.VirtualMachineRelocateSpec{Datastore: &there}, "")
	must(t, err)
	must(t, task.Wait(t.Context()))
	var got mo.VirtualMachine
	properties(t, c, ref, &got, "datastore")
	if len(got.Datastore) != 1 || got.Datastore[0] != there {
		t.Errorf("the VM is on %v", got.Datastore)
	}
}
