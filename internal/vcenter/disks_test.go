package vcenter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func storedVM(t *testing.T, s placement.Storage, ref vsphere.Ref) placement.StoredVM {
	t.Helper()
	i := slices.IndexFunc(s.VMs, func(vm placement.StoredVM) bool { return vm.Ref == ref })
	if i < 0 {
		t.Fatalf("%v is not in the storage", ref)
	}
	return s.VMs[i]
}

func storeOf(t *testing.T, s placement.Storage, ref vsphere.Ref) placement.Datastore {
	t.Helper()
	i := slices.IndexFunc(s.Datastores, func(d placement.Datastore) bool { return d.Ref == ref })
	if i < 0 {
		t.Fatalf("%v is not in the storage", ref)
	}
	return s.Datastores[i]
}

// stored is a VM as vCenter describes it, on the datastores ds-1 and ds-2.
func stored(props map[string]any) (inventory, object) {
	at := func(value string) vsphere.Ref { return vsphere.Ref{Type: vsphere.TypeDatastore, Value: value} }
	vm := object{ref: vm1, props: map[string]any{
		"datastore":               types.ArrayOfManagedObjectReference{ManagedObjectReference: []types.ManagedObjectReference{toMoRef(at("ds-1")), toMoRef(at("ds-2"))}},
		"config.files.vmPathName": "[fast/1] web/web.vmx",
	}}
	for path, value := range props {
		vm.props[path] = value
	}
	return inventory{
		vm1:        vm,
		at("ds-1"): {ref: at("ds-1"), props: map[string]any{"name": "fast%2f1"}},
		at("ds-2"): {ref: at("ds-2"), props: map[string]any{"name": "slow"}},
	}, vm
}

func flatDisk(key, controller int32, file string) *types.VirtualDisk {
	return &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key: key, ControllerKey: controller, DeviceInfo: &types.Description{Label: fmt.Sprint("Hard disk ", key)},
			Backing: &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}, DiskMode: "persistent"},
		},
		CapacityInBytes: 100,
	}
}

func TestDisksAreToldApart(t *testing.T) {
	plain, bus, writers := flatDisk(1, 10, "[fast/1] web/1.vmdk"), flatDisk(2, 11, "[slow] web/2.vmdk"), flatDisk(3, 10, "[slow] web/3.vmdk")
	writers.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Sharing = "sharingMultiWriter"
	raw := flatDisk(4, 12, "")
	raw.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[slow] web/4.vmdk"}, DiskMode: "independent_persistent"}
	inv, vm := stored(map[string]any{
		"config.hardware.device": types.ArrayOfVirtualDevice{VirtualDevice: []types.BaseVirtualDevice{
			&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 10}}, SharedBus: types.VirtualSCSISharingNoSharing}},
			&types.VirtualLsiLogicController{VirtualSCSIController: types.VirtualSCSIController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 11}}, SharedBus: types.VirtualSCSISharingPhysicalSharing}},
			&types.VirtualNVMEController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 12}}, SharedBus: "physicalSharing"},
			plain, bus, writers, raw,
		}},
		"layoutEx": types.VirtualMachineFileLayoutEx{
			File: []types.VirtualMachineFileLayoutExFileInfo{
				{Key: 1, Name: "[fast/1] web/1.vmdk", Size: 1},
				{Key: 2, Name: "[fast/1] web/1-flat.vmdk", Size: 40},
				{Key: 3, Name: "[fast/1] base/1-flat.vmdk", Size: 20},
				{Key: 4, Name: "[slow] web/2-flat.vmdk", Size: 7},
				{Key: 5, Name: "[fast/1] web/web.vmx", Size: 3},
				{Key: 6, Name: "[slow] web/web.vswp", Size: 1000},
				{Key: 7, Name: "[fast/1] web/web.log", Size: 4},
			},
			Disk: []types.VirtualMachineFileLayoutExDiskLayout{
				{Key: 1, Chain: []types.VirtualMachineFileLayoutExDiskUnit{{FileKey: []int32{3}}, {FileKey: []int32{1, 2}}}},
				{Key: 2, Chain: []types.VirtualMachineFileLayoutExDiskUnit{{FileKey: []int32{4}}}},
			},
		},
	})
	got := inv.storedVM(vm)
	ds1, ds2 := ref{Type: vsphere.TypeDatastore, Value: "ds-1"}, ref{Type: vsphere.TypeDatastore, Value: "ds-2"}
	want := []placement.Disk{
		{Label: "Hard disk 1", Datastore: ds1, Used: 61, Provisioned: 100},
		{Label: "Hard disk 2", Datastore: ds2, Used: 7, Provisioned: 100, Shared: true},
		{Label: "Hard disk 3", Datastore: ds2, Used: 100, Provisioned: 100, Shared: true},
		{Label: "Hard disk 4", Datastore: ds2, Used: 100, Provisioned: 100, Shared: true, Raw: true, Independent: true},
	}
	if !slices.Equal(got.Disks, want) {
		t.Errorf("disks %+v, want %+v", got.Disks, want)
	}
	if got.Home != ds1 || got.Other != 7 || got.Snapshots || got.LinkedClone {
		t.Errorf("VM %+v", got)
	}
}

func TestLinkedClonesAndSnapshotsAreToldApart(t *testing.T) {
	disk := flatDisk(1, 10, "[slow] web/1.vmdk")
	disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Parent = &types.VirtualDiskFlatVer2BackingInfo{}
	devices := types.ArrayOfVirtualDevice{VirtualDevice: []types.BaseVirtualDevice{disk}}
	for name, c := range map[string]struct {
		props               map[string]any
		snapshots, isLinked bool
	}{
		"a clone":             {nil, false, true},
		"a snapshot":          {map[string]any{"snapshot": types.VirtualMachineSnapshotInfo{}}, true, false},
		"files of a snapshot": {map[string]any{"layoutEx": types.VirtualMachineFileLayoutEx{Snapshot: []types.VirtualMachineFileLayoutExSnapshotLayout{{}}}}, true, false},
	} {
		inv, vm := stored(c.props)
		vm.props["config.hardware.device"] = devices
		if got := inv.storedVM(vm); got.Snapshots != c.snapshots || got.LinkedClone != c.isLinked {
			t.Errorf("%s: snapshots %v, linked clone %v", name, got.Snapshots, got.LinkedClone)
		}
	}
}

func TestMediaInUseAreListed(t *testing.T) {
	cd := func(file string, connection *types.VirtualDeviceConnectInfo) types.BaseVirtualDevice {
		return &types.VirtualCdrom{VirtualDevice: types.VirtualDevice{Connectable: connection, Backing: &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}}}}
	}
	in := &types.VirtualDeviceConnectInfo{Connected: true}
	inv, vm := stored(map[string]any{"config.hardware.device": types.ArrayOfVirtualDevice{VirtualDevice: []types.BaseVirtualDevice{
		cd("[slow] iso/a.iso", in),
		cd("[fast/1] iso/b.iso", &types.VirtualDeviceConnectInfo{}),
		cd("[] /usr/lib/vmware/isoimages/linux.iso", in),
		cd("[elsewhere] iso/c.iso", in),
		&types.VirtualCdrom{VirtualDevice: types.VirtualDevice{Connectable: in, Backing: &types.VirtualCdromAtapiBackingInfo{}}},
		&types.VirtualFloppy{VirtualDevice: types.VirtualDevice{Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true}, Backing: &types.VirtualFloppyImageBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[fast/1] a.flp"}}}},
	}}})
	images, from := inv.media(vm)
	if !slices.Equal(images, []string{"[slow] iso/a.iso", "[elsewhere] iso/c.iso", "[fast/1] a.flp"}) || !slices.Equal(from, []string{"ds-2", "", "ds-1"}) {
		t.Errorf("media %q on %q", images, from)
	}
}

func TestRelocationNamesEachDisk(t *testing.T) {
	ds1, ds2, ds3 := ref{Type: vsphere.TypeDatastore, Value: "ds-1"}, ref{Type: vsphere.TypeDatastore, Value: "ds-2"}, ref{Type: vsphere.TypeDatastore, Value: "ds-3"}
	here, there, lost := flatDisk(1, 0, "[fast/1] web/1.vmdk"), flatDisk(2, 0, "[slow] web/2.vmdk"), flatDisk(3, 0, "")
	with := func(disks ...types.BaseVirtualDevice) map[string]any {
		return map[string]any{"config.hardware.device": types.ArrayOfVirtualDevice{VirtualDevice: disks}}
	}
	for name, c := range map[string]struct {
		props    map[string]any
		from     vsphere.Ref
		home     bool
		disks    string
		nothing  bool
		isFailed bool
	}{
		"all":              {with(here), ds1, true, "1→ds-3", false, false},
		"home and one":     {with(here, there), ds1, true, "1→ds-3 2→ds-2", false, false},
		"one disk":         {with(here, there), ds2, false, "1→ds-1 2→ds-3", false, false},
		"home alone":       {with(there), ds1, true, "2→ds-2", false, false},
		"nothing there":    {with(here), ds2, false, "", true, true},
		"a disk somewhere": {with(here, lost), ds1, true, "", false, true},
	} {
		inv, vm := stored(c.props)
		spec, err := inv.relocateSpec(vm, c.from, ds3)
		if (err != nil) != c.isFailed || errors.Is(err, errNothingThere) != c.nothing {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		var disks []string
		for _, d := range spec.Disk {
			disks = append(disks, fmt.Sprintf("%d→%s", d.DiskId, d.Datastore.Value))
		}
		if got := strings.Join(disks, " "); got != c.disks || (spec.Datastore != nil) != c.home || spec.Transform != "" || spec.Host != nil {
			t.Errorf("%s: disks %s, spec %+v", name, got, spec)
		}
	}
}

func TestRelocateMovesAVM(t *testing.T) {
	v, g := warm(t, small())
	ref, at := taggedRefs(v)[0], stores(v, 0)
	v.ResetCalls()
	task, err := g.Relocate(t.Context(), ref, at[0], at[1])
	check(t, err)
	wantCalls(t, v, 2)
	check(t, g.AwaitTask(t.Context(), task, nil))
	check(t, v.TerminateSessions())
	check(t, g.RefreshDatastore(t.Context(), at[0]))
}

func TestRelocationsThatAreRefused(t *testing.T) {
	v, g := warm(t, small())
	ref, at := taggedRefs(v)[0], stores(v, 0)
	_, err := g.Relocate(t.Context(), gone, at[0], at[1])
	wantKind(t, err, NotFound)
	_, err = g.Relocate(t.Context(), at[0], at[0], at[1])
	wantKind(t, err, NotFound)
	_, err = g.Relocate(t.Context(), ref, at[1], at[0])
	wantKind(t, err, InvalidState)
	v.FailCall("RelocateVM_Task", moRef(ref), &types.NoPermission{PrivilegeId: "Resource.HotMigrate"}, 1)
	_, err = g.Relocate(t.Context(), ref, at[0], at[1])
	wantKind(t, err, NoPermission)
	if !strings.Contains(err.Error(), "Resource.HotMigrate") {
		t.Error(err)
	}
	v.FailCall("RelocateVM_Task", moRef(ref), &types.NoDiskSpace{}, 1)
	_, err = g.Relocate(t.Context(), ref, at[0], at[1])
	wantKind(t, err, NoRoom)
}
