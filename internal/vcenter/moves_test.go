package vcenter

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const gigabyte = 1 << 30

func TestStorageTellsWhyAVMMustStay(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 6, Tagged: 6})
	refs, at := taggedRefs(v), stores(v, 0)
	disk := func(i int, o simulation.DiskOptions) {
		t.Helper()
		o.CapacityGB, o.UsedGB = 20, 5
		_, err := v.AddDisk(toMoRef(refs[i]), o)
		check(t, err)
	}
	disk(0, simulation.DiskOptions{})
	disk(0, simulation.DiskOptions{Datastore: toMoRef(at[1]), Independent: true, Label: "the second"})
	disk(1, simulation.DiskOptions{})
	check(t, v.AddSnapshot(toMoRef(refs[1])))
	disk(2, simulation.DiskOptions{LinkedClone: true})
	disk(3, simulation.DiskOptions{Raw: true})
	disk(3, simulation.DiskOptions{Shared: true})
	check(t, v.AttachISO(toMoRef(refs[4]), toMoRef(at[1]), "iso/a.iso"))
	check(t, v.SetHomeUsage(toMoRef(refs[4]), 3))
	check(t, v.SetFaultTolerant(toMoRef(refs[5])))
	s, err := g.Storage(t.Context(), at[0], vsphere.Ref{})
	check(t, err)
	vm := storedVM(t, s, refs[0])
	if vm.Home != at[0] || vm.Snapshots || vm.LinkedClone || vm.FaultTolerant || len(vm.Media) != 0 || len(vm.Disks) != 2 {
		t.Fatalf("VM %+v", vm)
	}
	if d := vm.Disks[0]; d.Datastore != at[0] || d.Provisioned != 20*gigabyte || d.Used < 5*gigabyte || d.Used > 6*gigabyte || d.Independent || d.Raw || d.Shared {
		t.Errorf("disk %+v", d)
	}
	if d := vm.Disks[1]; d.Datastore != at[1] || !d.Independent || d.Label != "the second" {
		t.Errorf("disk %+v", d)
	}
	if vm := storedVM(t, s, refs[1]); !vm.Snapshots || vm.LinkedClone {
		t.Errorf("with a snapshot: %+v", vm)
	}
	if vm := storedVM(t, s, refs[2]); vm.Snapshots || !vm.LinkedClone {
		t.Errorf("a linked clone: %+v", vm)
	}
	if disks := storedVM(t, s, refs[3]).Disks; len(disks) != 2 || !disks[0].Raw || disks[0].Shared || !disks[1].Shared || disks[1].Raw {
		t.Errorf("raw and shared: %+v", disks)
	}
	if vm := storedVM(t, s, refs[4]); len(vm.Media) != 1 || !slices.Equal(vm.MediaSources, []string{at[1].Value}) || vm.Other < 3*gigabyte || vm.Other > 4*gigabyte {
		t.Errorf("with an image: %+v", vm)
	}
	if !storedVM(t, s, refs[5]).FaultTolerant {
		t.Error("a fault-tolerant VM is none")
	}
}

func TestStorageTellsDatastoresThatCannotBeUsed(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 1, Tagged: 1})
	c := v.Inventory().Clusters[0]
	automated, err := v.AddPod("automated", true, true)
	check(t, err)
	idle, err := v.AddPod("idle", true, false)
	check(t, err)
	add := func(o simulation.DatastoreOptions) vsphere.Ref {
		t.Helper()
		ref, err := v.AddDatastore(c.Name, o)
		check(t, err)
		return fromMoRef(ref)
	}
	inAuto, inIdle := add(simulation.DatastoreOptions{Name: "a", Pod: "automated", CapacityGB: 100, UsedGB: 40, Kind: "NFS"}), add(simulation.DatastoreOptions{Name: "b", Pod: "idle"})
	one, away, held := add(simulation.DatastoreOptions{Name: "c", Hosts: []string{c.Hosts[1].Name}}), add(simulation.DatastoreOptions{Name: "d", Inaccessible: true}), add(simulation.DatastoreOptions{Name: "e", Maintenance: true})
	s, err := g.Storage(t.Context(), stores(v, 0)[0], vsphere.Ref{})
	check(t, err)
	if len(s.Datastores) != 7 {
		t.Errorf("%d datastores", len(s.Datastores))
	}
	if d := storeOf(t, s, inAuto); d.Pod != fromMoRef(automated) || d.PodMode != placement.PodAutomated || d.Kind != "NFS" || d.Capacity != 100*gigabyte || d.Free != 60*gigabyte || d.Provisioned != 40*gigabyte || len(d.Hosts) != 2 {
		t.Errorf("in a pod: %+v", d)
	}
	if d := storeOf(t, s, inIdle); d.Pod != fromMoRef(idle) || d.PodMode != "" {
		t.Errorf("in a pod without Storage DRS: %+v", d)
	}
	if d := storeOf(t, s, one); !slices.Equal(d.Hosts, []vsphere.Ref{fromMoRef(c.Hosts[1].Ref)}) {
		t.Errorf("mounted on one host: %+v", d)
	}
	if d := storeOf(t, s, away); d.Accessible {
		t.Errorf("out of reach: %+v", d)
	}
	if d := storeOf(t, s, held); !d.Maintenance {
		t.Errorf("in maintenance: %+v", d)
	}
	vm := taggedRefs(v)[0]
	dest, ok, err := g.RecommendDatastore(t.Context(), vm, fromMoRef(automated))
	check(t, err)
	if !ok || dest != inAuto {
		t.Errorf("recommended %v %v", dest, ok)
	}
	check(t, v.SetDatastoreUsed(toMoRef(inAuto), 100))
	_, err = v.AddDisk(toMoRef(vm), simulation.DiskOptions{CapacityGB: 1, UsedGB: 1})
	check(t, err)
	_, ok, err = g.RecommendDatastore(t.Context(), vm, fromMoRef(automated))
	check(t, err)
	if ok {
		t.Error("a full datastore is recommended")
	}
}

func TestAMoveTakesWhatIsOnTheSource(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 2, Tagged: 2})
	ref, at := taggedRefs(v)[0], stores(v, 0)
	third, err := v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "third"})
	check(t, err)
	for _, on := range at {
		_, err := v.AddDisk(toMoRef(ref), simulation.DiskOptions{CapacityGB: 10, UsedGB: 10, Datastore: toMoRef(on)})
		check(t, err)
	}
	v.SetRelocateTime(300 * time.Millisecond)
	task, err := g.Relocate(t.Context(), ref, at[0], fromMoRef(third))
	check(t, err)
	found, ok, err := g.RunningTask(t.Context(), ref, RelocateOperation)
	check(t, err)
	if !ok || found != task {
		t.Errorf("found %v %v, want %v", found, ok, task)
	}
	if vm := hardwareOf(t, g, ref); !vm.Busy {
		t.Error("a VM that is being moved is not busy")
	}
	again, err := g.Relocate(t.Context(), ref, at[0], fromMoRef(third))
	if err == nil {
		err = g.AwaitTask(t.Context(), again, nil)
	}
	wantKind(t, err, Busy)
	var told []int
	check(t, g.AwaitTask(t.Context(), task, func(percent int) { told = append(told, percent) }))
	if len(told) == 0 || !slices.IsSorted(told) {
		t.Errorf("progress %v", told)
	}
	s, err := g.Storage(t.Context(), vsphere.Ref{}, ref)
	check(t, err)
	vm := storedVM(t, s, ref)
	if vm.Home != fromMoRef(third) || vm.Disks[0].Datastore != fromMoRef(third) || vm.Disks[1].Datastore != at[1] {
		t.Errorf("moved: home %v, disks %+v", vm.Home, vm.Disks)
	}
	_, err = g.Relocate(t.Context(), ref, at[0], fromMoRef(third))
	wantKind(t, err, InvalidState)
	full, err := v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "full", CapacityGB: 5})
	check(t, err)
	task, err = g.Relocate(t.Context(), ref, at[1], fromMoRef(full))
	if err == nil {
		err = g.AwaitTask(t.Context(), task, nil)
	}
	wantKind(t, err, NoRoom)
}

func TestMemoryGrowsHotWithinItsBounds(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, v.SetPowerState(toMoRef(ref), off))
	yes := true
	task, err := g.Reconfigure(t.Context(), ref, placement.Change{MemoryMB: number(2048), MemoryHotAdd: &yes}, "")
	check(t, err)
	check(t, g.AwaitTask(t.Context(), task, nil))
	check(t, v.SetPowerState(toMoRef(ref), types.VirtualMachinePowerStatePoweredOn))
	vm := hardwareOf(t, g, ref)
	if vm.MemoryMB != 2048 || !vm.MemoryHotAdd || vm.HotMemoryLimitMB <= 2048 || vm.HotMemoryStepMB == 0 {
		t.Errorf("read %+v", vm)
	}
	for _, c := range []struct {
		mb   int
		want Kind
	}{
		{2048 + vm.HotMemoryStepMB, ""},
		{2048 + vm.HotMemoryStepMB + 1, Invalid},
		{vm.HotMemoryLimitMB + vm.HotMemoryStepMB, ""}, // of which kind depends on the guest
	} {
		task, err := g.Reconfigure(t.Context(), ref, placement.Change{MemoryMB: number(c.mb)}, "")
		check(t, err)
		err = g.AwaitTask(t.Context(), task, nil)
		switch {
		case c.mb > vm.HotMemoryLimitMB:
			if kind := KindOf(err); kind != Invalid && kind != InvalidState {
				t.Errorf("%d MB: %v", c.mb, err)
			}
		default:
			wantKind(t, err, c.want)
		}
	}
}

func TestSetTagMeetsSingleCardinality(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	for _, value := range []string{"4", "8", "4"} {
		check(t, g.SetTag(t.Context(), ref, placement.CategoryCPUs, value))
		wantCarried(t, g, ref, placement.CategoryCPUs, value)
	}
	id, _, err := g.ensureTag(t.Context(), placement.CategoryCPUs, "16")
	check(t, err)
	wantKind(t, g.attach(t.Context(), call{}, ref, id), Invalid)
	wantCarried(t, g, ref, placement.CategoryCPUs, "4")
}
