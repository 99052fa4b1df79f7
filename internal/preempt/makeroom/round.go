package makeroom

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// busyLook is how often the ledger is asked again while another round is under way in the cluster.
const busyLook = 5 * time.Second

// round runs one round for those of a group that may have room, the most important of them, and returns its result once
// everything is acted upon, or why none ran.
func (m *making) round(all []Ask, step int) (group []Ask, result preemptapi.RoundResult, refused string) {
	group = all
	demand := m.demand(group)
	if demand.Policy.MaxVMs <= 0 {
		return group, result, "as many VMs as the policy's maxVMs allows have gone"
	}
	id := roundID(m.info.WorkflowExecution.RunID, demand.RequestID, step)
	if group, refused = m.admit(group, demand, id, step); refused != "" {
		return group, result, refused
	}
	demand = m.demand(group)
	for _, ask := range group {
		o := m.outcome(ask.Demand.RequestID)
		o.State, o.Reason = preemptapi.RoomMaking, ""
	}
	m.roundID, m.done = id, nil
	options := workflow.ChildWorkflowOptions{
		WorkflowID: id, ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, WorkflowTaskTimeout: preempt.TaskTimeout,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:         preempt.Clip(fmt.Sprintf("%s preemption of VMs tagged %s, room for %s", demand.Criticality, demand.Tag, demand.Rooms[0].Words())),
		Memo:                  map[string]any{"alarm": "", "scope": demand.Scope.String(), "tag": demand.Tag, "state": "running"},
	}
	if m.attrs {
		options.TypedSearchAttributes = temporal.NewSearchAttributes(preempt.SearchUpdates("", demand.Scope.String(), "running")...)
	}
	in := round.Input{Demand: demand, IntakeID: m.info.WorkflowExecution.ID, IntakeRun: m.info.WorkflowStartTime, Timing: m.timing, Attrs: m.attrs}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(m.ctx, options), preemptapi.RoundType, in)
	// Its error is that of a context which is never cancelled.
	_ = workflow.Await(m.ctx, func() bool { return m.done != nil || child.IsReady() })
	m.roundID, m.told = "", "what the round has made"
	if m.done != nil {
		return group, *m.done, ""
	}
	result, err := preemptapi.ResultOf(child.Get(m.ctx, &result), result)
	if err != nil {
		return group, result, "the round ended without a result: " + preempt.Cause(err)
	}
	return group, result, ""
}

// demand is what a group asks of its round. VMs that went already count towards the limit.
func (m *making) demand(group []Ask) preemptapi.Demand {
	d := group[0].Demand
	for _, ask := range group {
		room := ask.Room
		room.RequestID = ask.Demand.RequestID
		d.Rooms = append(d.Rooms, room.Parts()...)
		d.Policy.MaxVMs -= len(m.outcome(ask.Demand.RequestID).Gone)
	}
	return d
}

// admit asks the ledger until the round may start, and returns for whom, or why it may not.
func (m *making) admit(group []Ask, d preemptapi.Demand, id string, step int) (admitted []Ask, refused string) {
	var a *Activities
	req := ledger.AdmitRequest{RequestID: id, Scope: d.Scope.String(), Owner: id, Rank: d.Criticality.Rank(), NoCooldown: true}
	if step == 1 {
		req.Rooms, req.RoomsPerHour = rooms(group), m.perHour
	}
	until := m.now()
	for _, ask := range group {
		if t := m.now().Add(ask.Wait.D()); t.After(until) {
			until = t
		}
	}
	for {
		var got ledger.Admission
		ctx := m.timing.WithOptions(m.ctx, time.Minute, "ask the ledger")
		if err := workflow.ExecuteActivity(ctx, a.AdmitRoom, req).Get(ctx, &got); err != nil {
			return group, "the ledger could not be asked: " + preempt.Cause(err)
		}
		switch got.Verdict {
		case ledger.Granted:
			return group, ""
		case ledger.Busy:
		case ledger.Paused:
			return group, got.Reason
		case ledger.TooMany:
			reason := fmt.Sprintf("%d rooms an hour are made (makeRoom.perHour): the next may be made at %s", m.perHour, got.Until.UTC().Format(time.RFC3339))
			some := within(group, got.Rooms)
			if some == 0 || some >= len(group) {
				return group, reason
			}
			m.endAll(group[some:], reason)
			group = group[:some]
			req.Rooms = rooms(group)
			continue
		default:
			return group, fmt.Sprintf("the ledger answers %s: %s", got.Verdict, got.Owner)
		}
		for _, ask := range group {
			o := m.outcome(ask.Demand.RequestID)
			o.State, o.Reason = preemptapi.RoomWaiting, "another round is under way in the cluster: "+got.Owner
		}
		if m.cancelled || !m.now().Before(until) {
			return group, "another round is under way in the cluster: " + got.Owner
		}
		// Its error is that of a context which is never cancelled.
		_, _ = workflow.AwaitWithTimeout(m.ctx, busyLook, func() bool { return m.cancelled })
	}
}

// rooms is how many rooms a group asks for, one on each host.
func rooms(group []Ask) (n int) {
	for _, ask := range group {
		n += max(1, ask.Room.Hosts)
	}
	return n
}

// within is how many of a group, from the first, ask for no more than so many rooms together.
func within(group []Ask, most int) (n int) {
	for n < len(group) && rooms(group[:n+1]) <= most {
		n++
	}
	return n
}

// roundID derives a round's workflow id from its request, so that the same request never runs twice.
func roundID(run, requestID string, step int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", run, requestID, step))
	return workflowid.Of(workflowid.Round + hex.EncodeToString(sum[:6]) + "-room")
}
