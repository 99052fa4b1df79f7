package simulation_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

const gb = 1 << 30

type ref = types.ManagedObjectReference

func relocate(t testing.TB, c *vim25.Client, vm ref, spec types.VirtualMachineRelocateSpec) error {
	t.Helper()
	task, err := object.NewVirtualMachine(c, vm).Relocate(t.Context(), spec, types.VirtualMachineMovePriorityDefaultPriority)
	if err != nil {
		return err
	}
	return task.Wait(t.Context())
}

func made[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		must(t, err)
		return value
	}
}

// free is what the datastore says of itself, in GB.
func free(t testing.TB, c *vim25.Client, ds ref) int {
	t.Helper()
	var d mo.Datastore
	properties(t, c, ds, &d, "summary", "info")
	if d.Summary.FreeSpace != d.Info.GetDatastoreInfo().FreeSpace {
		t.Errorf("%s: free %d, and its info says %d", d.Summary.Name, d.Summary.FreeSpace, d.Info.GetDatastoreInfo().FreeSpace)
	}
	return int(d.Summary.FreeSpace / gb)
}

func TestDatastoresHaveACapacity(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	for _, d := range v.Datastores() {
		if d.CapacityBytes != 2048*gb || d.FreeBytes != 2048*gb || d.Kind != "VMFS" {
			t.Errorf("%+v", d)
		}
	}
	add := made[ref](t)
	some := add(v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "some", CapacityGB: 100, UsedGB: 30, Hosts: []string{"esx-a-1"}}))
	var d mo.Datastore
	properties(t, c, some, &d, "summary", "info", "host", "vm")
	if d.Summary.Capacity != 100*gb || free(t, c, some) != 70 || d.Summary.Type != "VMFS" || len(d.Host) != 1 || len(d.Vm) != 0 {
		t.Errorf("%+v", d)
	}
	if _, ok := d.Info.(*types.VmfsDatastoreInfo); !ok {
		t.Errorf("its info is a %T", d.Info)
	}
	var host mo.HostSystem
	properties(t, c, v.Cluster("cluster-a").Hosts[0].Ref, &host, "datastore")
	if !slices.Contains(host.Datastore, some) {
		t.Error("its host does not mount it")
	}
	_, err := methods.RefreshDatastore(t.Context(), c, &types.RefreshDatastore{This: some})
	must(t, err)
	if free(t, c, some) != 70 {
		t.Errorf("after a refresh %d GB are free", free(t, c, some))
	}
	must(t, v.SetDatastoreUsed(some, 90))
	must(t, v.SetDatastoreAccessible(some, false))
	must(t, v.SetDatastoreMaintenance(some, true))
	properties(t, c, some, &d, "summary", "host")
	if d.Summary.FreeSpace != 10*gb || d.Summary.Accessible || d.Summary.MaintenanceMode != "inMaintenance" || *d.Host[0].MountInfo.Accessible {
		t.Errorf("%+v", d.Summary)
	}
	for name, o := range map[string]simulation.DatastoreOptions{
		"no name": {}, "the name of another": {Name: "some"}, "no such host": {Name: "x", Hosts: []string{"esx-z-1"}},
		"too full": {Name: "x", CapacityGB: 1, UsedGB: 2}, "no such pod": {Name: "x", Pod: "none"},
	} {
		if _, err := v.AddDatastore("cluster-a", o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDisksAreConsistentlyDescribed(t *testing.T) {
	v := start(t, small())
	c, vm, other := login(t, v), v.VM("cluster-a-batch-01"), v.Datastore("datastore-a-2").Ref
	home, version := v.Datastore("datastore-a-1").Ref, v.ChangeVersion(vm)
	add := made[int32](t)
	first := add(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 100, UsedGB: 40}))
	second := add(v.AddDisk(vm, simulation.DiskOptions{Label: "data", CapacityGB: 50, UsedGB: 50, Datastore: other, Independent: true}))
	add(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 500, Raw: true}))
	add(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 20, UsedGB: 5, LinkedClone: true, Shared: true}))
	must(t, v.SetHomeUsage(vm, 3))
	must(t, v.AddSnapshot(vm))
	must(t, v.AttachISO(vm, other, "images/tools.iso"))
	if v.ChangeVersion(vm) == version {
		t.Error("the changeVersion stays")
	}
	var got mo.VirtualMachine
	properties(t, c, vm, &got, "config", "layoutEx", "storage", "summary", "datastore", "snapshot", "rootSnapshot")
	devices := object.VirtualDeviceList(got.Config.Hardware.Device)
	disks := devices.SelectByType((*types.VirtualDisk)(nil))
	if len(disks) != 4 || devices.FindByKey(disks[0].GetVirtualDevice().ControllerKey) == nil || got.Summary.Config.NumVirtualDisks != 4 {
		t.Fatalf("%d disks", len(disks))
	}
	b := devices.FindByKey(first).(*types.VirtualDisk).Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if b.FileName != "[datastore-a-1] cluster-a-batch-01/cluster-a-batch-01-000001.vmdk" || b.Parent == nil || b.Parent.Parent != nil || !*b.ThinProvisioned || *b.Datastore != home {
		t.Errorf("the first disk is at %+v", b)
	}
	d := devices.FindByKey(second).(*types.VirtualDisk)
	b = d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if d.DeviceInfo.GetDescription().Label != "data" || b.FileName != "[datastore-a-2] cluster-a-batch-01/cluster-a-batch-01_1.vmdk" || *b.ThinProvisioned || b.DiskMode != "independent_persistent" || b.Parent != nil {
		t.Errorf("the second disk is at %+v", b)
	}
	if _, ok := disks[2].GetVirtualDevice().Backing.(*types.VirtualDiskRawDiskMappingVer1BackingInfo); !ok {
		t.Errorf("the raw disk is a %T", disks[2].GetVirtualDevice().Backing)
	}
	if b := disks[3].GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo); b.Sharing != "sharingMultiWriter" || b.Parent.Parent.FileName != "[datastore-a-1] golden-image/golden-image.vmdk" {
		t.Errorf("the linked clone is at %+v", b)
	}
	if cd, ok := devices.SelectByType((*types.VirtualCdrom)(nil))[0].GetVirtualDevice().Backing.(*types.VirtualCdromIsoBackingInfo); !ok || cd.FileName != "[datastore-a-2] images/tools.iso" {
		t.Errorf("the drive has %+v", cd)
	}
	sum := int64(0)
	for _, f := range got.LayoutEx.File {
		sum += f.UniqueSize
	}
	s := got.Summary.Storage
	if sum != 98*gb || s.Committed != sum || s.Uncommitted != 75*gb || len(got.LayoutEx.Disk) != 4 || len(got.LayoutEx.Disk[0].Chain) != 2 || len(got.LayoutEx.Snapshot) != 1 {
		t.Errorf("files of %d GB, %+v", sum/gb, s)
	}
	if got.Snapshot == nil || len(got.RootSnapshot) != 1 || got.RootSnapshot[0] != *got.Snapshot.CurrentSnapshot {
		t.Errorf("snapshots %+v", got.Snapshot)
	}
	if !slices.Equal(got.Datastore, []ref{home, other}) || !slices.Equal(v.StoredOn(vm), got.Datastore) || len(got.Storage.PerDatastoreUsage) != 2 {
		t.Errorf("on %v, %+v", got.Datastore, got.Storage.PerDatastoreUsage)
	}
	if free(t, c, home) != 2048-48 || free(t, c, other) != 2048-50 || v.TotalUsed() != 98*gb {
		t.Errorf("free %d and %d, used %d", free(t, c, home), free(t, c, other), v.TotalUsed())
	}
	must(t, reconfigure(t, c, vm, types.VirtualMachineConfigSpec{Annotation: "x"}))
	_, err := methods.RefreshStorageInfo(t.Context(), c, &types.RefreshStorageInfo{This: vm})
	must(t, err)
	var after mo.VirtualMachine
	properties(t, c, vm, &after, "layoutEx", "summary", "config.annotation")
	if s := after.Summary.Storage; s.Committed != 98*gb || s.Uncommitted != 75*gb || len(after.LayoutEx.File) != len(got.LayoutEx.File) || after.Config.Annotation != "x" {
		t.Errorf("after a reconfiguration of something else: %+v, %d files", s, len(after.LayoutEx.File))
	}
	var ds mo.Datastore
	properties(t, c, other, &ds, "vm", "summary")
	if !slices.Equal(ds.Vm, []ref{vm}) || ds.Summary.Uncommitted != 0 {
		t.Errorf("%+v", ds)
	}
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

func TestADestroyedVMFreesItsSpace(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.VM("cluster-a-batch-01")
	to := v.Datastore("datastore-a-2").Ref
	made[int32](t)(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 20, UsedGB: 10, Datastore: to}))
	must(t, v.SetPowerState(vm, off))
	var home mo.Datastore
	properties(t, c, v.Datastore("datastore-a-1").Ref, &home, "summary.url")
	directory := filepath.Join(home.Summary.Url, "cluster-a-batch-01")
	_, err := os.Stat(directory)
	must(t, err)
	task, err := object.NewVirtualMachine(c, vm).Destroy(t.Context())
	must(t, err)
	must(t, task.Wait(t.Context()))
	if _, err := os.Stat(directory); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its directory is still there: %v", err)
	}
	eventually(t, "it is free", func() bool { return free(t, c, to) == 2048 && v.TotalUsed() == 0 })
}

func TestADiskGrows(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.VM("cluster-a-batch-01")
	small := made[ref](t)(v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "small", CapacityGB: 50}))
	key := made[int32](t)(v.AddDisk(vm, simulation.DiskOptions{CapacityGB: 20, UsedGB: 20, Datastore: small}))
	grow := func(to int64) error {
		var got mo.VirtualMachine
		properties(t, c, vm, &got, "config.hardware.device")
		disk := object.VirtualDeviceList(got.Config.Hardware.Device).FindByKey(key).(*types.VirtualDisk)
		disk.CapacityInBytes, disk.CapacityInKB = to*gb, to*gb/1024
		return reconfigure(t, c, vm, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
			&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: disk},
		}})
	}
	must(t, grow(40))
	if free(t, c, small) != 10 {
		t.Errorf("%d GB are free", free(t, c, small))
	}
	if err := grow(60); !isFault[*types.NoDiskSpace](err) {
		t.Errorf("beyond the datastore: %v", err)
	}
	if err := grow(10); !isFault[*types.InvalidDeviceOperation](err) {
		t.Errorf("smaller: %v", err)
	}
}

func TestPodsRecommendADatastore(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.VM("cluster-a-batch-01")
	pod := made[ref](t)(v.AddPod("pod", true, true))
	var refs []ref
	for i, used := range []int{50, 20, 95} {
		refs = append(refs, made[ref](t)(v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: fmt.Sprint("pod-", i), CapacityGB: 100, UsedGB: used, Pod: "pod"})))
	}
	must(t, v.SetHomeUsage(vm, 40))
	var got mo.StoragePod
	properties(t, c, pod, &got, "podStorageDrsEntry", "childEntity", "summary")
	if config := got.PodStorageDrsEntry.StorageDrsConfig.PodConfig; !config.Enabled || config.DefaultVmBehavior != "automated" || !slices.Equal(got.ChildEntity, refs) || got.Summary.FreeSpace != 135*gb {
		t.Errorf("%+v, %v, %+v", config, got.ChildEntity, got.Summary)
	}
	ask := func() (ref, error) {
		res, err := methods.RecommendDatastores(t.Context(), c, &types.RecommendDatastores{
			This: *c.ServiceContent.StorageResourceManager,
			StorageSpec: types.StoragePlacementSpec{
				Type: string(types.StoragePlacementSpecPlacementTypeRelocate), Vm: &vm,
				PodSelectionSpec: types.StorageDrsPodSelectionSpec{StoragePod: &pod},
			},
		})
		if err != nil || len(res.Returnval.Recommendations) == 0 {
			return ref{}, err
		}
		return res.Returnval.Recommendations[0].Action[0].(*types.StoragePlacementAction).Destination, nil
	}
	if to, err := ask(); err != nil || to != refs[1] {
		t.Errorf("%v, %v", to, err)
	}
	v.RecommendedWith(refs[2])
	if to, err := ask(); err != nil || to != refs[2] {
		t.Errorf("as ordered: %v, %v", to, err)
	}
	v.RecommendedWith(ref{})
	must(t, v.SetHomeUsage(vm, 81))
	if to, err := ask(); err != nil || to.Value != "" {
		t.Errorf("nothing fits: %v, %v", to, err)
	}
	disabled := made[ref](t)(v.AddPod("disabled", false, false))
	pod = disabled
	if _, err := ask(); !isFault[*types.InvalidArgument](err) {
		t.Errorf("a pod without Storage DRS: %v", err)
	}
	pod = ref{Type: "StoragePod", Value: "group-p-none"}
	if _, err := ask(); !isFault[*types.InvalidArgument](err) {
		t.Errorf("no pod: %v", err)
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
