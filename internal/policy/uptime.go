package policy

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// run is how long a VM has been on.
type run struct {
	least time.Duration
	exact bool // false: it may be longer
	known bool // false: vCenter says nothing
}

// String writes 3h5m, or at least 3h5m.
func (r run) String() string {
	if r.exact {
		return age(r.least)
	}
	return "at least " + age(r.least)
}

// uptime returns how long the VM has been on. After a vMotion, vCenter no longer knows the start, and counts from the
// vMotion. A start in the future, because of differing clocks, counts as a start now.
func uptime(vm *vsphere.VM, now time.Time) run {
	if !vm.BootTime.IsZero() {
		return run{least: max(0, now.Sub(vm.BootTime)), exact: true, known: true}
	}
	return run{least: time.Duration(max(0, vm.UptimeSeconds)) * time.Second, known: vm.UptimeSeconds > 0}
}
