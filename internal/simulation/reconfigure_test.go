package simulation_test

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func reconfigure(t testing.TB, c *vim25.Client, ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) error {
	t.Helper()
	task, err := object.NewVirtualMachine(c, ref).Reconfigure(t.Context(), spec)
	if err != nil {
		return err
	}
	return task.Wait(t.Context())
}

func TestReconfiguringIsRefusedAsVCenterDoes(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	yes, two := true, int32(2)
	hot := simulation.Hardware{CPUs: 4, CoresPerSocket: 1, MemoryMB: 4096, CPUHotAdd: true, MemoryHotAdd: true}
	removing := hot
	removing.CPUHotRemove = true
	sockets := hot
	sockets.CoresPerSocket = 2
	penguin := hot
	penguin.Linux, penguin.MemoryMB = true, 2048
	tiny := hot
	tiny.MemoryMB = 1024
	for name, tt := range map[string]struct {
		has     simulation.Hardware
		off     bool
		set     types.VirtualMachineConfigSpec
		refused func(error) bool
	}{
		"CPU up, cold":             {simulation.Hardware{CPUs: 4}, false, types.VirtualMachineConfigSpec{NumCPUs: 6}, isFault[*types.CpuHotPlugNotSupported]},
		"CPU up":                   {hot, false, types.VirtualMachineConfigSpec{NumCPUs: 6}, nil},
		"CPU down":                 {hot, false, types.VirtualMachineConfigSpec{NumCPUs: 2}, isFault[*types.CpuHotPlugNotSupported]},
		"CPU down, hot-remove":     {removing, false, types.VirtualMachineConfigSpec{NumCPUs: 2}, nil},
		"CPU down, off":            {hot, true, types.VirtualMachineConfigSpec{NumCPUs: 2}, nil},
		"half a socket":            {sockets, false, types.VirtualMachineConfigSpec{NumCPUs: 5}, isFault[*types.InvalidArgument]},
		"half a socket, off":       {sockets, true, types.VirtualMachineConfigSpec{NumCPUs: 5}, isFault[*types.InvalidArgument]},
		"more CPUs than the host":  {hot, false, types.VirtualMachineConfigSpec{NumCPUs: 33}, isFault[*types.NumVirtualCpusNotSupported]},
		"memory up, cold":          {simulation.Hardware{MemoryMB: 4096}, false, types.VirtualMachineConfigSpec{MemoryMB: 8192}, isFault[*types.MemoryHotPlugNotSupported]},
		"memory up":                {hot, false, types.VirtualMachineConfigSpec{MemoryMB: 8192}, nil},
		"memory up to the limit":   {tiny, false, types.VirtualMachineConfigSpec{MemoryMB: 16384}, nil},
		"memory beyond the limit":  {tiny, false, types.VirtualMachineConfigSpec{MemoryMB: 16384 + 128}, isFault[*types.MemorySizeNotSupported]},
		"memory by a crooked step": {hot, false, types.VirtualMachineConfigSpec{MemoryMB: 4100}, isFault[*types.InvalidArgument]},
		"the same step, off":       {hot, true, types.VirtualMachineConfigSpec{MemoryMB: 4100}, nil},
		"memory down":              {hot, false, types.VirtualMachineConfigSpec{MemoryMB: 2048}, isFault[*types.MemoryHotPlugNotSupported]},
		"memory down, off":         {hot, true, types.VirtualMachineConfigSpec{MemoryMB: 2048}, nil},
		"memory in thirds, off":    {hot, true, types.VirtualMachineConfigSpec{MemoryMB: 2049}, isFault[*types.MemorySizeNotSupported]},
		"more memory than a host":  {hot, true, types.VirtualMachineConfigSpec{MemoryMB: 65536 + 128}, isFault[*types.MemorySizeNotSupported]},
		"small Linux to 3 GB":      {penguin, false, types.VirtualMachineConfigSpec{MemoryMB: 3072}, nil},
		"small Linux beyond 3 GB":  {penguin, false, types.VirtualMachineConfigSpec{MemoryMB: 4096}, isFault[*types.MemoryHotPlugNotSupported]},
		"small Linux, off":         {penguin, true, types.VirtualMachineConfigSpec{MemoryMB: 4096}, nil},
		"hot-add while on":         {simulation.Hardware{CPUs: 4}, false, types.VirtualMachineConfigSpec{CpuHotAddEnabled: &yes}, isFault[*types.InvalidPowerState]},
		"hot-add while off":        {simulation.Hardware{CPUs: 4}, true, types.VirtualMachineConfigSpec{CpuHotAddEnabled: &yes}, nil},
		"hot-add as it is":         {hot, false, types.VirtualMachineConfigSpec{CpuHotAddEnabled: &yes}, nil},
		"sockets while on":         {hot, false, types.VirtualMachineConfigSpec{NumCoresPerSocket: &two}, isFault[*types.InvalidPowerState]},
		"sockets while off":        {hot, true, types.VirtualMachineConfigSpec{NumCoresPerSocket: &two}, nil},
		"an old changeVersion":     {hot, false, types.VirtualMachineConfigSpec{ChangeVersion: "old", NumCPUs: 6}, isFault[*types.ConcurrentAccess]},
	} {
		must(t, v.SetPowerState(ref, on))
		must(t, v.SetHardware(ref, simulation.Hardware{CPUs: 4, CoresPerSocket: 1, MemoryMB: 4096}))
		must(t, v.SetHardware(ref, tt.has))
		if tt.off {
			must(t, v.SetPowerState(ref, off))
		}
		before, version := v.HardwareOf(ref), v.ChangeVersion(ref)
		err := reconfigure(t, c, ref, tt.set)
		switch {
		case tt.refused == nil && err != nil:
			t.Errorf("%s: refused: %v", name, err)
		case tt.refused == nil && v.ChangeVersion(ref) == version:
			t.Errorf("%s: the changeVersion stays", name)
		case tt.refused != nil && (err == nil || !tt.refused(err)):
			t.Errorf("%s: %v", name, err)
		case tt.refused != nil && (v.HardwareOf(ref) != before || v.ChangeVersion(ref) != version):
			t.Errorf("%s: refused, yet it changes", name)
		}
	}
}

func TestReconfiguredHardwareIsSeenEverywhere(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	must(t, v.SetHardware(ref, simulation.Hardware{CPUs: 2, MemoryMB: 4096, CPUHotAdd: true, MemoryHotAdd: true}))
	var vm mo.VirtualMachine
	properties(t, c, ref, &vm, "config")
	if vm.Config.HotPlugMemoryLimit != 65536 || vm.Config.HotPlugMemoryIncrementSize != 128 {
		t.Errorf("memory can be added up to %d MB by %d MB", vm.Config.HotPlugMemoryLimit, vm.Config.HotPlugMemoryIncrementSize)
	}
	must(t, reconfigure(t, c, ref, types.VirtualMachineConfigSpec{
		ChangeVersion: vm.Config.ChangeVersion, NumCPUs: 4, MemoryMB: 8192,
		CpuAllocation: &types.ResourceAllocationInfo{Reservation: types.NewInt64(500)},
	}))
	properties(t, c, ref, &vm, "config", "summary")
	if h, s := vm.Config.Hardware, vm.Summary.Config; h.NumCPU != 4 || h.MemoryMB != 8192 || s.NumCpu != 4 || s.MemorySizeMB != 8192 || s.CpuReservation != 500 {
		t.Errorf("hardware %+v, summary %+v", h, s)
	}
	if vm.Config.HotPlugMemoryLimit != 65536 {
		t.Errorf("the limit follows the memory: %d", vm.Config.HotPlugMemoryLimit)
	}
	if r := vm.Config.CpuAllocation; *r.Reservation != 500 || *r.Limit != -1 {
		t.Errorf("allocation %+v", r)
	}
	events := history(t, c, ref, "VmReconfiguredEvent")
	if len(events) != 1 || events[0].GetEvent().UserName != v.EventUser() {
		t.Errorf("events %v", events)
	}
	must(t, powerOff(t, c, ref))
	properties(t, c, ref, &vm, "config")
	if vm.Config.HotPlugMemoryLimit != 0 {
		t.Errorf("off, memory can be added up to %d MB", vm.Config.HotPlugMemoryLimit)
	}
}

func TestAnotherUserMayReconfigureJustBefore(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	v.ChangeBeforeReconfigure(ref, 2)
	resize := func() error {
		return reconfigure(t, c, ref, types.VirtualMachineConfigSpec{ChangeVersion: v.ChangeVersion(ref), Annotation: "x"})
	}
	for range 2 {
		if err := resize(); !isFault[*types.ConcurrentAccess](err) {
			t.Errorf("a reconfiguration meets a change: %v", err)
		}
	}
	must(t, resize())
	if n := len(history(t, c, ref, "VmReconfiguredEvent")); n != 3 {
		t.Errorf("%d events", n)
	}
}

func TestHardwareIsNotChangedDuringAnotherTask(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	v.SetTaskDelayFor(ref, 200*time.Millisecond)
	task, err := object.NewVirtualMachine(c, ref).PowerOff(t.Context())
	must(t, err)
	if err := reconfigure(t, c, ref, types.VirtualMachineConfigSpec{NumCPUs: 2}); !isFault[*types.TaskInProgress](err) {
		t.Errorf("during a power-off: %v", err)
	}
	must(t, task.Wait(t.Context()))
	must(t, reconfigure(t, c, ref, types.VirtualMachineConfigSpec{NumCPUs: 2}))
	v.FailTaskOf("ReconfigVM_Task", ref, &types.ResourceInUse{}, 1)
	if err := reconfigure(t, c, ref, types.VirtualMachineConfigSpec{NumCPUs: 4}); !isFault[*types.ResourceInUse](err) {
		t.Errorf("an ordered fault: %v", err)
	}
	if v.HardwareOf(ref).CPUs != 2 {
		t.Errorf("%+v", v.HardwareOf(ref))
	}
}
