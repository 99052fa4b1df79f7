package policy_test

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// roomy is a host of clusterA with 32 cores of 3 GHz, 64 logical processors and 512 000 MB, of which this much is in use.
func roomy(n string, cpu, memory int64, changes ...func(*vsphere.Host)) vsphere.Host {
	changes = append([]func(*vsphere.Host){func(h *vsphere.Host) { h.CPUMHz, h.CoreMHz, h.Threads = 96_000, 3000, 64 }}, changes...)
	return host(n, clusterA, cpu, memory, changes...)
}

// reserves is a change that gives a VM its reservations.
func reserves(cpuMHz, memoryMB int64) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.CPUReservedMHz, v.MemoryReservedMB = cpuMHz, memoryMB }
}
