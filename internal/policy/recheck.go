package policy

import (
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Recheck returns why a target may no longer be acted on, from its state just before; "" if it may. The
// caller checks the power state, because it knows what an unexpected "off" means.
func Recheck(vm vsphere.VM, scope vsphere.Ref) Reason {
	switch {
	case vm.Ref.Zero():
		return Gone
	case !vm.Tagged:
		return NotTagged
	case vm.Template:
		return Template
	case !inScope(&vm, scope):
		return OutOfScope
	case !vm.Connected:
		return NotConnected
	case slices.Contains(vm.DisabledMethods, "PowerOffVM_Task"):
		return PendingOperation
	}
	return ""
}

// RecheckAll returns which targets may no longer be turned off, just before acting on them, and why, in their
// order. The snapshot holds the targets and their groups as they are now; the demand is that of the plan
// with what has happened since. The targets themselves may be reserved in it, but are not yet evictions.
// In addition to Recheck, it checks tags that protect, exclusions, windows, budgets and for room the priority again, but not the shortfall
// and maxVMs. As with Recheck, the caller handles a target that is off by now.
func RecheckAll(s vsphere.Snapshot, d Demand, p Policy, targets []vsphere.Ref) (spared []Spared) {
	now := d.at(s)
	d.Reserved = slices.DeleteFunc(slices.Clone(d.Reserved), func(ref vsphere.Ref) bool { return slices.Contains(targets, ref) })
	limits := limitsOf(&s, &d, &p, now)
	found := make(map[vsphere.Ref]*vsphere.VM, len(s.VMs))
	for i := range s.VMs {
		found[s.VMs[i].Ref] = &s.VMs[i]
	}
	for _, ref := range targets {
		vm, ok := found[ref]
		if !ok {
			spared = append(spared, Spared{Ref: ref, Reason: Gone})
			continue
		}
		reason, detail := Recheck(*vm, d.Scope), ""
		if reason == "" && infrastructure(vm, &s, &d, &p) {
			reason = Infrastructure
		}
		if reason == "" {
			reason, detail = d.spared(ref)
		}
		if reason == "" {
			reason, detail = protection(vm, d.Preempted[ref.String()], now, &p)
		}
		if reason == "" && len(d.Rooms) > 0 {
			n, _ := priority(vm, &p)
			reason, detail = outrankedBy(d.Rooms, ref, n)
		}
		if reason == "" && vm.PowerState == vsphere.PoweredOn {
			reason, detail = limits.use(vm)
		}
		if reason != "" {
			spared = append(spared, Spared{Ref: ref, Name: vm.Name, Reason: reason, Detail: detail})
		}
	}
	return spared
}
