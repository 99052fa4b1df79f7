package simulation_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func relocate(t testing.TB, c *vim25.Client, vm ref, spec types.VirtualMachineRelocateSpec) error {
	t.Helper()
	task, err := object.NewVirtualMachine(c, vm).Relocate(t.Context(), spec, types.VirtualMachineMovePriorityDefaultPriority)
	if err != nil {
		return err
	}
	return task.Wait(t.Context())
}

func TestRelocatingMovesTheSpace(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.VM("cluster-a-batch-01")
	from, to := v.Datastore("datastore-a-1").Ref, v.Datastore("datastore-a-2").Ref
	add := made[int32](t)
	first := add(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 100, UsedGB: 40}))
	add(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 60, UsedGB: 60}))
	must(t, v.SetHomeUsage(vm, 1))
	v.SetRelocateTime(400 * time.Millisecond)
	task, err := object.NewVirtualMachine(c, vm).Relocate(t.Context(), types.VirtualMachineRelocateSpec{Datastore: &to}, types.VirtualMachineMovePriorityDefaultPriority)
	must(t, err)
	eventually(t, "the copy takes its space", func() bool { return free(t, c, to) == 2048-101 })
	var got mo.VirtualMachine
	properties(t, c, vm, &got, "disabledMethod", "datastore")
	if free(t, c, from) != 2048-101 || !slices.Contains(got.DisabledMethod, "RelocateVM_Task") || !slices.Equal(got.Datastore, []ref{from}) || v.Moving() != 1 {
		t.Errorf("meanwhile %d GB are free, %+v", free(t, c, from), got)
	}
	if err := relocate(t, c, vm, types.VirtualMachineRelocateSpec{Datastore: &to}); !isFault[*types.TaskInProgress](err) {
		t.Errorf("relocating twice: %v", err)
	}
	if err := reconfigure(t, c, vm, types.VirtualMachineConfigSpec{Annotation: "x"}); !isFault[*types.TaskInProgress](err) {
		t.Errorf("reconfiguring meanwhile: %v", err)
	}
	if err := powerOff(t, c, vm); !isFault[*types.TaskInProgress](err) {
		t.Errorf("powering off meanwhile: %v", err)
	}
	eventually(t, "progress", func() bool {
		var info mo.Task
		properties(t, c, task.Reference(), &info, "info")
		return info.Info.Progress > 0
	})
	must(t, task.Wait(t.Context()))
	properties(t, c, vm, &got, "config", "disabledMethod", "datastore", "layoutEx", "summary")
	disk := object.VirtualDeviceList(got.Config.Hardware.Device).FindByKey(first).(*types.VirtualDisk)
	b := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if b.FileName != "[datastore-a-2] cluster-a-batch-01/cluster-a-batch-01.vmdk" || *b.Datastore != to || got.Summary.Config.VmPathName != "[datastore-a-2] cluster-a-batch-01/cluster-a-batch-01.vmx" {
		t.Errorf("the disk is at %s, the configuration at %s", b.FileName, got.Summary.Config.VmPathName)
	}
	if free(t, c, from) != 2048 || free(t, c, to) != 2048-101 || !slices.Equal(got.Datastore, []ref{to}) || len(got.DisabledMethod) != 0 {
		t.Errorf("free %d and %d, on %v, disabled %v", free(t, c, from), free(t, c, to), got.Datastore, got.DisabledMethod)
	}
	for _, ds := range []ref{from, to} {
		var d mo.Datastore
		properties(t, c, ds, &d, "vm")
		if slices.Contains(d.Vm, vm) != (ds == to) {
			t.Errorf("%v lists %v", ds, d.Vm)
		}
	}
	for _, kind := range []string{"VmBeingRelocatedEvent", "VmRelocatedEvent"} {
		events := history(t, c, vm, kind)
		if len(events) != 1 || events[0].GetEvent().UserName != v.EventUser() {
			t.Errorf("%s: %v", kind, events)
		}
	}
	if e := history(t, c, vm, "VmRelocatedEvent")[0].(*types.VmRelocatedEvent); e.SourceDatastore.Datastore != from || e.Ds.Datastore != to {
		t.Errorf("from %+v to %+v", e.SourceDatastore, e.Ds)
	}
	must(t, powerOff(t, c, vm))
}

func TestEachDiskGoesWhereItsLocatorSays(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.VM("cluster-a-batch-01")
	from, to := v.Datastore("datastore-a-1").Ref, v.Datastore("datastore-a-2").Ref
	add := made[int32](t)
	first := add(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 10, UsedGB: 4}))
	add(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 10, UsedGB: 5}))
	at := func(key int32, ds ref) []types.VirtualMachineRelocateSpecDiskLocator {
		return []types.VirtualMachineRelocateSpecDiskLocator{{DiskId: key, Datastore: ds}}
	}
	must(t, relocate(t, c, vm, types.VirtualMachineRelocateSpec{Disk: at(first, to)}))
	if free(t, c, from) != 2048-5 || free(t, c, to) != 2048-4 || !slices.Equal(v.StoredOn(vm), []ref{from, to}) {
		t.Errorf("one disk: free %d and %d, on %v", free(t, c, from), free(t, c, to), v.StoredOn(vm))
	}
	must(t, relocate(t, c, vm, types.VirtualMachineRelocateSpec{Datastore: &from, Disk: at(first, to)}))
	must(t, relocate(t, c, vm, types.VirtualMachineRelocateSpec{Datastore: &to, Disk: at(first, from)}))
	if free(t, c, from) != 2048-4 || free(t, c, to) != 2048-5 || !slices.Equal(v.StoredOn(vm), []ref{to, from}) {
		t.Errorf("all but that disk: free %d and %d, on %v", free(t, c, from), free(t, c, to), v.StoredOn(vm))
	}
	if err := relocate(t, c, vm, types.VirtualMachineRelocateSpec{Disk: at(1, to)}); !isFault[*types.InvalidArgument](err) {
		t.Errorf("a disk that the VM does not have: %v", err)
	}
}

func TestRelocationsAreRefusedAsVCenterDoes(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	add := made[ref](t)
	option := func(o simulation.DatastoreOptions) ref { return add(v.AddDatastore("cluster-a", o)) }
	elsewhere := option(simulation.DatastoreOptions{Name: "elsewhere", Hosts: []string{"esx-a-2"}})
	broken := option(simulation.DatastoreOptions{Name: "broken", Inaccessible: true})
	closed := option(simulation.DatastoreOptions{Name: "closed", Maintenance: true})
	full := option(simulation.DatastoreOptions{Name: "full", CapacityGB: 100, UsedGB: 91})
	good := option(simulation.DatastoreOptions{Name: "good"})
	vms := v.Cluster("cluster-a").VMs
	vm, shared := vms[0].Ref, vms[2].Ref
	key := made[int32](t)(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 20, UsedGB: 10}))
	made[int32](t)(v.AddDisk(shared, simulation.DiskOptions{CapacityGB: 20, UsedGB: 10, Shared: true}))
	before := v.TotalUsed()
	to := func(ds ref) types.VirtualMachineRelocateSpec { return types.VirtualMachineRelocateSpec{Datastore: &ds} }
	for name, tt := range map[string]struct {
		vm      ref
		spec    types.VirtualMachineRelocateSpec
		refused func(error) bool
	}{
		"none":       {vm, to(ref{Type: "Datastore", Value: "datastore-none"}), isFault[*types.ManagedObjectNotFound]},
		"no disk's":  {vm, types.VirtualMachineRelocateSpec{Disk: []types.VirtualMachineRelocateSpecDiskLocator{{DiskId: key, Datastore: ref{Type: "Datastore", Value: "x"}}}}, isFault[*types.ManagedObjectNotFound]},
		"not a ds":   {vm, to(vm), isFault[*types.ManagedObjectNotFound]},
		"no mount":   {vm, to(elsewhere), isFault[*types.InvalidDatastore]},
		"broken":     {vm, to(broken), isFault[*types.InvalidDatastoreState]},
		"closed":     {vm, to(closed), isFault[*types.InvalidDatastoreState]},
		"full":       {vm, to(full), isFault[*types.NoDiskSpace]},
		"shared, on": {shared, to(good), isFault[*types.MultiWriterNotSupported]},
	} {
		if err := relocate(t, c, tt.vm, tt.spec); !tt.refused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, powerOff(t, c, shared))
	must(t, relocate(t, c, shared, to(good)))
	must(t, v.SetFaultTolerant(vms[1].Ref))
	if err := relocate(t, c, vms[1].Ref, to(good)); !isFault[*types.NotSupported](err) {
		t.Errorf("fault-tolerant: %v", err)
	}
	v.FailTaskOf("RelocateVM_Task", vm, &types.HostCommunication{}, 1)
	if err := relocate(t, c, vm, to(good)); !isFault[*types.HostCommunication](err) {
		t.Errorf("an ordered fault: %v", err)
	}
	if len(history(t, c, vm, "VmRelocateFailedEvent")) != 1 {
		t.Error("no event tells of the failure")
	}
	if v.TotalUsed() != before || free(t, c, good) != 2048-10 || v.Moving() != 0 {
		t.Errorf("used %d, was %d; %d GB free; %d under way", v.TotalUsed(), before, free(t, c, good), v.Moving())
	}
	must(t, relocate(t, c, vm, to(good)))
}

func TestARelocationThatFailsUnderWayLeavesAllAsItWas(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.VM("cluster-a-batch-01")
	from, to := v.Datastore("datastore-a-1").Ref, v.Datastore("datastore-a-2").Ref
	made[int32](t)(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 20, UsedGB: 10}))
	v.SetRelocateTime(300 * time.Millisecond)
	move := func() *object.Task {
		task, err := object.NewVirtualMachine(c, vm).Relocate(t.Context(), types.VirtualMachineRelocateSpec{Datastore: &to}, types.VirtualMachineMovePriorityDefaultPriority)
		must(t, err)
		return task
	}
	task := move()
	must(t, v.SetDatastoreAccessible(to, false))
	if err := task.Wait(t.Context()); !isFault[*types.InvalidDatastoreState](err) {
		t.Errorf("the destination is gone: %v", err)
	}
	must(t, v.SetDatastoreAccessible(to, true))
	task = move()
	must(t, task.Cancel(t.Context()))
	if err := task.Wait(t.Context()); !isFault[*types.RequestCanceled](err) {
		t.Errorf("cancelled: %v", err)
	}
	eventually(t, "the space is free again", func() bool { return free(t, c, to) == 2048 && v.Moving() == 0 })
	if !slices.Equal(v.StoredOn(vm), []ref{from}) {
		t.Errorf("on %v", v.StoredOn(vm))
	}
	task = move()
	v.Outage()
	time.Sleep(50 * time.Millisecond)
	v.Recover()
	eventually(t, "the move goes on during an outage", func() bool { return slices.Equal(v.StoredOn(vm), []ref{to}) })
	must(t, task.Wait(t.Context()))
}

func TestManyRelocationsAtOnceKeepTheSum(t *testing.T) {
	o := small()
	o.VMsPerCluster, o.Clusters = 12, 1
	v := start(t, o)
	c := login(t, v)
	stores := []ref{v.Datastore("datastore-a-1").Ref, v.Datastore("datastore-a-2").Ref, made[ref](t)(v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "third", CapacityGB: 60}))}
	for _, vm := range v.VMs() {
		made[int32](t)(v.AddDisk(vm.Ref, simulation.DiskOptions{CapacityGB: 20, UsedGB: 10}))
	}
	before := v.TotalUsed()
	v.SetRelocateTime(20 * time.Millisecond)
	var wait sync.WaitGroup
	for i, vm := range v.VMs() {
		wait.Go(func() {
			for n := range 6 {
				err := relocate(t, c, vm.Ref, types.VirtualMachineRelocateSpec{Datastore: &stores[(i+n)%3]})
				if err != nil && !isFault[*types.NoDiskSpace](err) {
					t.Errorf("%s: %v", vm.Name, err)
				}
			}
		})
	}
	wait.Wait()
	sum := int64(0)
	for _, d := range v.Datastores() {
		sum += d.CapacityBytes - d.FreeBytes
		if got := free(t, c, d.Ref); int64(got) != d.FreeBytes/gb {
			t.Errorf("%s says %d, not %d", d.Name, got, d.FreeBytes/gb)
		}
	}
	if v.TotalUsed() != before || sum != before || v.Moving() != 0 {
		t.Errorf("used %d, sum %d, was %d", v.TotalUsed(), sum, before)
	}
	perSource, perHost, total := v.MaxMoves()
	if total < 2 || total > 12 || perSource["datastore-a-1"] == 0 || perHost["esx-a-1"] == 0 {
		t.Errorf("%v %v %d", perSource, perHost, total)
	}
}

func TestAVMMovesToAnotherHostWithItsFiles(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.Cluster("cluster-a").VMs[0]
	hosts := v.Cluster("cluster-a").Hosts
	local := made[ref](t)(v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "local", Hosts: []string{hosts[1].Name}}))
	must(t, relocate(t, c, vm.Ref, types.VirtualMachineRelocateSpec{Host: &hosts[1].Ref, Datastore: &local}))
	var got mo.VirtualMachine
	properties(t, c, vm.Ref, &got, "runtime.host", "datastore")
	if *got.Runtime.Host != hosts[1].Ref || !slices.Equal(got.Datastore, []ref{local}) {
		t.Errorf("on %v and %v", got.Runtime.Host, got.Datastore)
	}
	if err := relocate(t, c, vm.Ref, types.VirtualMachineRelocateSpec{Host: &hosts[0].Ref}); !isFault[*types.InvalidDatastore](err) {
		t.Errorf("to a host that does not reach its files: %v", err)
	}
}
