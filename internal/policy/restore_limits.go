package policy

import (
	"fmt"
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// limits lists the VMs whose CPU limit is to be taken back. It is taken back whatever else becomes of the VM: whether it is on,
// who touched it, whether its tag was taken off, for how long it has been limited, and whether there is room.
func (r *returning) limits(owned []Owned) {
	only, done, reserved := setOf(r.d.Only), setOf(r.d.Done), setOf(r.d.Reserved)
	for i := range owned {
		o := &owned[i]
		if o.Record == nil || !o.Record.Throttle.Open() || done[o.Ref] || len(only) > 0 && !only[o.Ref] {
			continue
		}
		vm := r.vms[o.Ref]
		reason, detail := r.limitStays(o, vm)
		if reason == "" && reserved[o.Ref] {
			reason = BeingEvicted
		}
		if reason != "" {
			if o.Record.StaysOn { // of the others sift says why they stay off
				r.leave(o.Ref, o.Name, reason, detail)
			}
			continue
		}
		r.out.Limits = append(r.out.Limits, Return{
			Ref: o.Ref, Name: o.Name, InstanceUUID: o.InstanceUUID, OffSince: o.Record.At, Unthrottle: true, StaysOff: !o.Record.StaysOn,
			CPUMHz: max(0, o.Record.CPUMHz),
		})
		if vm != nil && vm.PowerState == vsphere.PoweredOn {
			r.load(vm, load{max(0, o.Record.CPUMHz), 0})
		}
	}
	slices.SortFunc(r.out.Limits, func(a, b Return) int { return compareRefs(a.Ref, b.Ref) })
}

// limitStays says why this restore leaves a VM its limit; "" where it does not. vm is nil where the VM does not carry the tag.
func (r *returning) limitStays(o *Owned, vm *vsphere.VM) (Reason, string) {
	switch {
	case o.Record.Tag != r.d.Tag:
		return OtherTag, "tag " + o.Record.Tag
	case !r.d.Scope.Zero() && o.Record.Scope != r.d.Scope && (vm == nil || !inScope(vm, r.d.Scope)):
		return OutOfScope, ""
	case o.Record.InstanceUUID != o.InstanceUUID:
		return OtherInstance, fmt.Sprintf("the record is of instance %s, the VM is %s: it is a copy, or vCenter was restored from a backup", known(o.Record.InstanceUUID), known(o.InstanceUUID))
	case vm != nil && !vm.Connected:
		return NotConnected, ""
	}
	return "", ""
}
