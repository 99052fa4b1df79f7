package simulation

import (
	"maps"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// What a VM is taken to ask for of which nothing was measured, as of one that is off.
const (
	unmeasuredMHz    = 100 // for each CPU
	unmeasuredMemory = 4   // a fourth of what it has
)

// measureTwin takes sizes and usage as they were when the inventory was saved. Nothing is told of them: what the
// recording says stays as it is until something changes.
func (v *VCenter) measureTwin() {
	l, ctx, inventory := &v.load, v.context(""), v.Inventory()
	onHost := map[types.ManagedObjectReference]usage{}
	for _, c := range inventory.Clusters {
		for _, out := range c.VMs {
			vm, ok := ctx.Map.Get(out.Ref).(*simulator.VirtualMachine)
			if !ok {
				continue
			}
			l.demand[out.Ref], l.place[out.Ref] = measuredVM(vm), out.Host
			if l.on[out.Ref] = vm.Runtime.PowerState == on; l.on[out.Ref] {
				onHost[out.Host] = onHost[out.Host].plus(l.demand[out.Ref])
			}
		}
	}
	for _, c := range inventory.Clusters {
		for _, h := range c.Hosts {
			l.size[h.Ref], l.idle[h.Ref] = measuredHost(ctx.Map.Get(h.Ref).(*simulator.HostSystem), onHost[h.Ref])
		}
	}
	l.told = maps.Clone(l.now(inventory))
}

func measuredVM(vm *simulator.VirtualMachine) usage {
	stats := vm.Summary.QuickStats
	u := usage{float64(stats.OverallCpuUsage), float64(stats.HostMemoryUsage)}
	if vm.Runtime.PowerState == on && u != (usage{}) {
		return u
	}
	c := vm.Summary.Config
	return usage{float64(c.NumCpu) * unmeasuredMHz, float64(c.MemorySizeMB) / unmeasuredMemory}
}

// measuredHost is the host's size, and what its VMs do not explain of its usage. A host that was not measured, as one
// that does not respond, uses what its VMs use.
func measuredHost(h *simulator.HostSystem, vms usage) (size, idle usage) {
	if hardware := h.Summary.Hardware; hardware != nil {
		size = usage{float64(hardware.CpuMhz) * float64(hardware.NumCpuCores), float64(hardware.MemorySize) / bytesPerMB}
	}
	stats := h.Summary.QuickStats
	return size, usage{max(0, float64(stats.OverallCpuUsage)-vms.mhz), max(0, float64(stats.OverallMemoryUsage)-vms.mb)}
}
