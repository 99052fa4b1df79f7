package remediate

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// tellPeople tells people of a decision by which something was changed, is recommended, or failed.
func (d *remediation) tellPeople(dec *remediateapi.Decision) {
	m := tell.Message{
		Event: tell.Remediation, Alarm: dec.Cause.Alarm, Why: dec.Reason,
		Look: tell.Command(d.info.Namespace, d.info.TaskQueueName, "remediation", "show", d.id()),
	}
	switch dec.State {
	case remediateapi.Applied:
		m.What = dec.Kind + " was done"
	case remediateapi.Planned:
		m.What = dec.Kind + " is recommended"
	case remediateapi.Failed:
		m.Event, m.What = tell.Failed, dec.Kind+" failed"
	default:
		return
	}
	if dec.VM.Zero() {
		m.What += " of " + named(dec)
	} else {
		m.What = ": " + m.What
		m = m.With([]tell.VM{{Ref: dec.VM.String(), Name: named(dec)}})
	}
	d.out.Send(d.ctx, d.setup.Timing.Tell, m)
}
