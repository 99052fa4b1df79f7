package preempt

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// placed notes what DRS powers on: vCenter then names no task, and the VM goes on some time later.
func (p *powering) placed(ref vsphere.Ref, s vcenter.Started) {
	if s.Err == nil && s.Task.Zero() {
		p.byDRS[ref] = true
	}
}

// silent is why a VM has failed of which vCenter did not say in time that it is on.
func (p *powering) silent(ref vsphere.Ref) string {
	if p.byDRS[ref] {
		return "DRS did not power it on within " + p.in.Timeout.String() + ": look at the faults and recommendations of DRS"
	}
	return "vCenter did not say within " + p.in.Timeout.String() + " that it is on: look at its power-on task"
}
