package makeroom

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// maxSteps is how many rounds are run for one room: after each refusal of vCenter more VMs go, 1, 2, 4 and 8.
const maxSteps = 5

// serve looks requests up, and makes room for those who may ask: one plan for all of a cluster that ask alike.
func (m *making) serve(requests []json.RawMessage) {
	var a *Activities
	var out Asks
	ctx := m.timing.WithOptions(m.ctx, 10*time.Minute, fmt.Sprintf("look up %d requests for room", len(requests)))
	if err := workflow.ExecuteActivity(ctx, a.ReadRoomAsks, requests).Get(ctx, &out); err != nil {
		m.reject(fmt.Sprintf("%d requests could not be looked up: %s", len(requests), preempt.Cause(err)))
		return
	}
	m.timing, m.attrs, m.perHour = out.Timing, out.Attrs, out.PerHour
	groups := map[string][]Ask{}
	for _, ask := range out.Asks {
		if m.accept(ask) {
			groups[ask.kind()] = append(groups[ask.kind()], ask)
		}
	}
	for _, kind := range workflow.DeterministicKeys(groups) {
		group := groups[kind]
		slices.SortStableFunc(group, func(a, b Ask) int { return cmp.Compare(b.Priority, a.Priority) })
		m.make(group)
	}
	m.result.Rooms = m.result.Rooms[max(0, len(m.result.Rooms)-maxKept):]
}

// kind is what those have in common for whom one plan is made.
func (a *Ask) kind() string {
	d := a.Demand
	return fmt.Sprintf("%s|%s|%s|%s|%s", d.Scope, d.Tag, d.Criticality, d.PolicyName, d.Policy.Mode)
}

// accept notes a request, and reports whether room is to be made for it.
func (m *making) accept(ask Ask) bool {
	if m.askedAlready(ask) {
		workflow.GetLogger(m.ctx).Info("asked for already, or decided a moment ago", "request", ask.Demand.RequestID, "for", ask.Room.Words(), "rule", ask.Rule)
		return false
	}
	m.result.Rooms = append(m.result.Rooms, preemptapi.RoomOutcome{
		RequestID: ask.Demand.RequestID, For: ask.Room.Words(), VM: ask.VM, Rule: ask.Rule, Priority: ask.Priority,
		State: preemptapi.RoomAsked, Cluster: ask.Demand.Scope, AskedAt: m.now(), Kind: ask.Kind,
	})
	if ask.Refused != "" {
		m.end(ask.Demand.RequestID, preemptapi.RoomRefused, ask.Refused)
		return false
	}
	return true
}

// askedAlready reports whether a request says nothing new: it is repeated, or a rule asks again for a VM for which room
// is held, or was tried to be made a moment ago.
func (m *making) askedAlready(ask Ask) bool {
	if o := m.outcome(ask.Demand.RequestID); o.RequestID != "" && ask.Demand.RequestID != "" {
		return true
	}
	if ask.Rule == "" || ask.VM.Zero() {
		return false
	}
	return slices.ContainsFunc(m.quiet, func(q quiet) bool { return q.VM == ask.VM && m.now().Before(q.Until) }) ||
		slices.ContainsFunc(m.held, func(h held) bool { return h.VM == ask.VM }) ||
		slices.ContainsFunc(m.result.Rooms, func(o preemptapi.RoomOutcome) bool { return o.VM == ask.VM && !o.State.Final() })
}

// make makes room for all of a group, the most important first, step by step.
func (m *making) make(group []Ask) {
	scope := group[0].Demand.Scope
	m.scopes = append(m.scopes, scope.String())
	m.tellHolds()
	for step := 1; len(group) > 0; step++ {
		group = m.step(group, step)
	}
	m.bringBackVain()
	m.scopes = m.scopes[:len(m.scopes)-1]
	m.tellHolds()
}

// step plans and evicts for a group, powers on, and returns those whom vCenter refused for want of more room.
func (m *making) step(group []Ask, step int) (again []Ask) {
	group, result, refused := m.round(group, step)
	if refused != "" {
		m.endAll(group, refused)
		return nil
	}
	together := m.together(group)
	var on []powering
	plans := result.Rooms
	for i := range group {
		ask := &group[i]
		id := ask.Demand.RequestID
		parts := plans[:min(len(plans), max(1, ask.Room.Hosts))]
		plans = plans[len(parts):]
		if len(parts) == 0 {
			parts = []policy.RoomPlan{{Refusal: cmp.Or(result.Reason, "the round ended without a plan")}}
		}
		reason := ""
		for _, part := range parts {
			m.note(id, part, result)
			reason = cmp.Or(reason, missing(part, result))
		}
		m.noteHosts(id, parts)
		plan := parts[0]
		switch {
		case reason != "":
			m.giveUp(*ask, reason)
		case result.State == preemptapi.RoundObserved:
			m.end(id, preemptapi.RoomObserved, "the policy only observes: nobody went")
		case !ask.PowerOn:
			m.hold(*ask, parts)
		case together:
			on = append(on, powering{ask: ask, plan: plan})
		case m.poweredOn(ask, plan, step, m.powerOn(ask, plan)):
			again = append(again, *ask)
		}
	}
	return append(again, m.powerOnAll(on, step)...)
}

// endAll ends a group for which no round ran.
func (m *making) endAll(group []Ask, reason string) {
	for _, ask := range group {
		m.giveUp(ask, reason)
	}
}

// note records where the room is, and who went for it.
func (m *making) note(id string, plan policy.RoomPlan, result preemptapi.RoundResult) {
	o := m.outcome(id)
	o.ClusterName = cmp.Or(result.ScopeName, o.ClusterName)
	if result.RoundID != "" && !slices.Contains(o.Rounds, result.RoundID) {
		o.Rounds = append(o.Rounds, result.RoundID)
	}
	if plan.Enough {
		o.Host, o.HostName = plan.Host, plan.HostName
	}
	for _, t := range result.Targets {
		if _, would := t.Outcome.Would(); (t.Outcome.Ours() || would) && slices.Contains(slices.Concat(plan.Targets, plan.Earlier), t.Ref) {
			o.Gone = append(o.Gone, t)
		}
	}
}

// noteHosts records where the parts of room on several hosts are.
func (m *making) noteHosts(id string, parts []policy.RoomPlan) {
	if len(parts) < 2 {
		return
	}
	o := m.outcome(id)
	o.Hosts = nil
	for _, part := range parts {
		if part.Enough {
			o.Hosts = append(o.Hosts, preemptapi.RoomHost{Host: part.Host, Name: part.HostName})
		}
	}
}

// missing says why the room of a plan is not there; empty: it is, or would be.
func missing(plan policy.RoomPlan, result preemptapi.RoundResult) string {
	if !plan.Enough {
		return cmp.Or(plan.Refusal, result.Reason, "no room could be planned")
	}
	if result.State == preemptapi.RoundWithdrawn || result.State == preemptapi.RoundFailed {
		return cmp.Or(result.Reason, "the round ended as "+string(result.State))
	}
	stays := 0
	for _, t := range result.Targets {
		switch t.Outcome {
		case action.Spared, action.Failed, action.OnAgain:
			if slices.Contains(plan.Targets, t.Ref) {
				stays++
			}
		}
	}
	if stays > 0 {
		return fmt.Sprintf("%d of the %d VMs that were to make room on %s could not go", stays, len(plan.Targets), plan.HostName)
	}
	return ""
}
