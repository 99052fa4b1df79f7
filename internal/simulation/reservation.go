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

// FillMemory has each host of a cluster reserve all of its memory but for so many MB, by a larger reservation of one VM that
// is on, carries no tag of those that may go, and is not among the others.
func (v *VCenter) FillMemory(cluster string, leftMB int64, others ...types.ManagedObjectReference) error {
	c := v.Cluster(cluster)
	taken := map[types.ManagedObjectReference]bool{}
	for _, ref := range others {
		taken[ref] = true
	}
	for _, vm := range v.TaggedVMs(cluster) {
		taken[vm.Ref] = true
	}
	for _, host := range c.Hosts {
		left, filler := -leftMB, types.ManagedObjectReference{}
		_ = v.withHost(host.Ref, "read the memory", func(_ *simulator.Context, h *simulator.HostSystem) {
			left += h.Summary.Hardware.MemorySize / bytesPerMB
		})
		for _, vm := range c.VMs {
			held, powered := v.claimOf(vm.Ref)
			switch {
			case held.host != host.Ref || !powered:
			case !taken[vm.Ref] && filler.Value == "":
				filler = vm.Ref
			default:
				left -= held.mb
			}
		}
		if filler.Value == "" || left < 0 {
			continue
		}
		if err := v.SetReservation(filler, Reservation{MemoryMB: left}); err != nil {
			return err
		}
	}
	return nil
}
