package simulation_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

const gb = 1 << 30

type ref = types.ManagedObjectReference

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
