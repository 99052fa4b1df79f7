package simulation

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Reservation is what a VM holds of its host while it is on.
type Reservation struct {
	CPUMHz     int64
	MemoryMB   int64
	OverheadMB int64 // that vCenter adds to the memory
}

// SetReservation gives a VM its reservations. The simulated vCenter refuses a power-on for want of them where SetAdmission
// says so.
func (v *VCenter) SetReservation(ref types.ManagedObjectReference, r Reservation) error {
	return v.mustVM(ref, "set the reservations", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		ctx.Update(vm, []types.PropertyChange{
			{Name: "summary.config.cpuReservation", Val: int32(r.CPUMHz)},
			{Name: "summary.config.memoryReservation", Val: int32(r.MemoryMB)},
			{Name: "runtime.memoryOverhead", Val: r.OverheadMB * bytesPerMB},
		})
	})
}
