package makeroom

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// hold keeps the room of plans, on another host each, for whom it was made.
func (m *making) hold(ask Ask, plans []policy.RoomPlan) {
	id, until := ask.Demand.RequestID, m.now().Add(ask.Hold.D())
	m.end(id, preemptapi.RoomMade, "")
	m.outcome(id).HeldUntil = until
	ask.Demand.Event = nil
	ask.Room.On = plans[0].Host
	kept := held{RequestID: id, Until: until, VM: ask.VM, Ask: ask, Room: plans[0].Room}
	for _, plan := range plans[1:] {
		kept.More = append(kept.More, plan.Room)
	}
	m.held = append(m.held, kept)
}

// endHolds ends the holds whose time is over, or whose VM runs.
func (m *making) endHolds() {
	m.quiet = slices.DeleteFunc(m.quiet, func(q quiet) bool { return !m.now().Before(q.Until) })
	if len(m.held) == 0 {
		return
	}
	running := m.running()
	var stay, over []held
	for _, h := range m.held {
		if m.cancelled || !m.now().Before(h.Until) || running[h.VM] {
			over = append(over, h)
		} else {
			stay = append(stay, h)
		}
	}
	m.held = stay
	m.tellHolds()
	for _, h := range over {
		if o := m.outcome(h.RequestID); running[h.VM] {
			o.State, o.EndedAt, o.HeldUntil = preemptapi.RoomRunning, m.now(), time.Time{}
		} else if m.cancelled {
			o.HeldUntil = time.Time{}
		}
		m.bringBackLater(h.Ask)
	}
}

// running reports which VMs run whose room is held.
func (m *making) running() map[vsphere.Ref]bool {
	var a *Activities
	var vms []vsphere.Ref
	for _, h := range m.held {
		if !h.VM.Zero() && m.now().Before(h.Until) {
			vms = append(vms, h.VM)
		}
	}
	on := map[vsphere.Ref]bool{}
	if len(vms) == 0 || m.cancelled {
		return on
	}
	var list []vsphere.Ref
	ctx := workflow.WithActivityOptions(m.ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, ScheduleToCloseTimeout: 5 * time.Minute, Summary: "look whether the VMs run"})
	if err := workflow.ExecuteActivity(ctx, a.WhoRuns, WhoRunsInput{Tag: m.held[0].Ask.Demand.Tag, VMs: vms}).Get(ctx, &list); err != nil {
		workflow.GetLogger(m.ctx).Warn("it is not known whether the VMs run whose room is held; it is held on", "reason", err)
	}
	for _, ref := range list {
		on[ref] = true
	}
	return on
}

// tellHolds tells the ledger in which clusters room is made or held, where that has changed.
func (m *making) tellHolds() {
	req := ledger.ActiveRequest{Owner: m.info.WorkflowExecution.ID, Scopes: slices.Clone(m.scopes)}
	for i, h := range m.held {
		d := h.Ask.Demand
		if scope := d.Scope.String(); !slices.Contains(req.Scopes, scope) {
			req.Scopes = append(req.Scopes, scope)
		}
		if i == 0 {
			req.For = h.Ask.Room.Words()
		}
		for _, room := range append([]policy.HeldRoom{h.Room}, h.More...) {
			req.Rooms = append(req.Rooms, round.HeldRoom(h.RequestID, room))
		}
	}
	if req.For == "" && len(m.scopes) > 0 {
		req.For = "VMs that need it now"
	}
	said := ""
	if len(req.Scopes) > 0 {
		said = fmt.Sprint(req)
	}
	if said == m.told {
		return
	}
	m.told = said
	var a *Activities
	ctx := m.timing.WithOptions(m.ctx, time.Minute, "tell the ledger what is held")
	if err := workflow.ExecuteActivity(ctx, a.HoldRoom, req).Get(ctx, nil); err != nil {
		workflow.GetLogger(m.ctx).Error("the ledger was not told which rooms are held: a restore may take them", "error", err)
		m.told = "unknown"
	}
}

// vain is a request for which VMs went in vain.
type vain struct {
	ask    Ask
	reason string
}

// giveUp ends a request for which there is no room. Those who went for it come back when the last step is done.
func (m *making) giveUp(ask Ask, reason string) {
	if len(ours(m.outcome(ask.Demand.RequestID).Gone)) == 0 {
		m.end(ask.Demand.RequestID, preemptapi.RoomRefused, reason)
		return
	}
	m.vain = append(m.vain, vain{ask, reason})
}

// bringBackVain has all come back that went in vain, by one restore: a cluster has one at a time.
func (m *making) bringBackVain() {
	if len(m.vain) == 0 {
		return
	}
	d, o := m.vain[0].ask.Demand, m.outcome(m.vain[0].ask.Demand.RequestID)
	in := preemptapi.RestoreInput{
		Scope: d.Scope, ScopeName: o.ClusterName, Tag: d.Tag, Policy: &d.Policy, PolicyName: d.PolicyName, PolicyHash: d.PolicyHash,
		By: o.For, ReplyTo: d.ReplyTo, Person: true,
	}
	for _, v := range m.vain {
		for _, ref := range ours(m.outcome(v.ask.Demand.RequestID).Gone) {
			in.VMs = append(in.VMs, ref.String())
		}
	}
	failed := m.bringBack(d.RequestID, in)
	for _, v := range m.vain {
		if failed != "" {
			v.reason += "; " + failed
		}
		m.outcome(v.ask.Demand.RequestID).RestoreID = o.RestoreID
		m.end(v.ask.Demand.RequestID, preemptapi.RoomFailed, v.reason)
	}
	m.vain = nil
}

// bringBackLater starts the restore of the cluster, as the end of an alarm does, where the policy has one: those who went
// come back when there is room beside the VM that they made room for.
func (m *making) bringBackLater(ask Ask) {
	d := ask.Demand
	o := m.outcome(d.RequestID)
	if !d.Policy.Restore.Enabled || len(ours(o.Gone)) == 0 {
		return
	}
	if failed := m.bringBack(d.RequestID, preemptapi.RestoreInput{
		Scope: d.Scope, ScopeName: o.ClusterName, Tag: d.Tag, Policy: &d.Policy, PolicyName: d.PolicyName, PolicyHash: d.PolicyHash,
		By: "room for " + o.For, ReplyTo: d.ReplyTo,
	}); failed != "" {
		o.Reason = failed
	}
}

// bringBack starts a restore, or says why it could not.
func (m *making) bringBack(requestID string, in preemptapi.RestoreInput) (failed string) {
	var a *Activities
	var id string
	ctx := m.timing.WithOptions(m.ctx, time.Minute, "bring back who went")
	if err := workflow.ExecuteActivity(ctx, a.BringBackForRoom, in).Get(ctx, &id); err != nil {
		workflow.GetLogger(m.ctx).Error("the restore could not be started; preemptctl restore does it by hand", "error", err)
		return "the VMs that went could not be brought back: " + preempt.Cause(err)
	}
	m.outcome(requestID).RestoreID = id
	return ""
}

// ours are the VMs that we turned off.
func ours(list []preemptapi.VMOutcome) (refs []vsphere.Ref) {
	for _, t := range list {
		if t.Outcome.Ours() {
			refs = append(refs, t.Ref)
		}
	}
	return refs
}
