package makeroom

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// versionTogether marks the first step that powers several VMs on side by side.
const versionTogether = "power-on-side-by-side"

// mostTogether bounds the power-ons of one plan that are under way at a time. The worker bounds their calls to vCenter besides.
const mostTogether = 10

// powering is a VM that is powered on where its room is.
type powering struct {
	ask  *Ask
	plan policy.RoomPlan
}

// together reports whether the VMs of a group are powered on side by side.
func (m *making) together(group []Ask) bool {
	first := slices.IndexFunc(group, func(a Ask) bool { return a.PowerOn })
	if first < 0 || !slices.ContainsFunc(group[first+1:], func(a Ask) bool { return a.PowerOn }) {
		return false
	}
	return workflow.GetVersion(m.ctx, versionTogether, workflow.DefaultVersion, 1) != workflow.DefaultVersion
}

// powerOnAll powers VMs on side by side, and returns those whom vCenter refused for want of more room. Their verdicts are
// handled in their order, the most important first.
func (m *making) powerOnAll(list []powering, step int) (again []Ask) {
	var started []workflow.Future
	for i, p := range list {
		for len(started) < min(len(list), i+mostTogether) {
			next := list[len(started)]
			started = append(started, m.powerOn(next.ask, next.plan))
		}
		if m.poweredOn(p.ask, p.plan, step, started[i]) {
			again = append(again, *p.ask)
		}
	}
	return again
}

// powerOn begins to power a VM on.
func (m *making) powerOn(ask *Ask, plan policy.RoomPlan) workflow.Future {
	var a *Activities
	in := PowerOnInput{VM: ask.VM, Name: ask.Room.Name, Host: plan.Host, Tag: ask.Demand.Tag}
	ctx := m.timing.WithOptions(m.ctx, m.timing.Outage, "power on "+ask.Room.Name)
	return workflow.ExecuteActivity(ctx, a.PowerOnAsker, in)
}

// poweredOn handles the verdict on a power-on. again: vCenter refused for lack of resources, and more VMs may go.
func (m *making) poweredOn(ask *Ask, plan policy.RoomPlan, step int, verdict workflow.Future) (again bool) {
	var res PowerOnResult
	if err := verdict.Get(m.ctx, &res); err != nil {
		m.giveUp(*ask, "it could not be powered on: "+preempt.Cause(err))
		return false
	}
	o := m.outcome(ask.Demand.RequestID)
	switch {
	case res.On:
		m.bringBackLater(*ask) // before it is said that all is done
		m.end(ask.Demand.RequestID, preemptapi.RoomRunning, o.Reason)
	case res.NoRoom && step < maxSteps && !m.cancelled:
		o.Refusals = append(o.Refusals, res.Refused)
		ask.Room.On, ask.Room.Further = plan.Host, max(1, 2*ask.Room.Further)
		return true
	default:
		m.giveUp(*ask, "vCenter does not power it on: "+res.Refused)
	}
	return false
}
