package remediate

import (
	"context"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// foreign skips a request whose alarm belongs to another vCenter, where the same references name other objects. A request
// that names no vCenter, such as a person's, is taken for ours.
func (a *Activities) foreign(ctx context.Context, c placement.Cause) (Verdict, error) {
	if c.Alarm == "" || c.Entity.Zero() || c.VCenter == "" {
		return Verdict{}, nil
	}
	var reason string
	err := a.attempt(ctx, func() (err error) {
		reason, err = a.VCenter.Foreign(ctx, vcenter.AlarmEvent{
			Source: c.VCenter, Key: c.EventKey, Time: c.Time, Name: c.Alarm, Entity: c.Entity, To: c.To,
		})
		return err
	})
	if err != nil || reason == "" {
		return Verdict{}, step.Typed(err)
	}
	return Verdict{State: remediateapi.Skipped, Reason: reason}, nil
}
