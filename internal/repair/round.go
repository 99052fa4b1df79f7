package repair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// notActed is why a VM of a round stays that was ended before it acted on it.
const notActed = "the round was ended by a repair, and the VM is on"

// record is what a round left in its history.
type record struct {
	in      round.Input
	started time.Time
	order   []vsphere.Ref
	targets map[vsphere.Ref]policy.Target
	decided map[vsphere.Ref]preemptapi.VMOutcome
	noticed bool // guests were given notice
}

// recorded reads a round's record from its events.
func recorded(events []*historypb.HistoryEvent) (rec record, ok bool) {
	rec.targets, rec.decided = map[vsphere.Ref]policy.Target{}, map[vsphere.Ref]preemptapi.VMOutcome{}
	if rec.in, ok = input[round.Input](events); !ok {
		return rec, false
	}
	rec.started = events[0].GetEventTime().AsTime()
	kinds := map[int64]string{}
	for _, e := range events {
		if s := e.GetActivityTaskScheduledEventAttributes(); s != nil {
			kinds[e.GetEventId()] = s.GetActivityType().GetName()
			rec.noticed = rec.noticed || s.GetActivityType().GetName() == "GiveNotice"
			continue
		}
		done := e.GetActivityTaskCompletedEventAttributes()
		if done == nil {
			continue
		}
		switch kinds[done.GetScheduledEventId()] {
		case preemptapi.PlanActivity:
			var plan round.PlanResult
			if converter.GetDefaultDataConverter().FromPayloads(done.GetResult(), &plan) == nil {
				rec.plan(plan)
			}
		case "EvictVMs", "AwaitVMs", "AnnotateVMs":
			var act round.ActResult
			if converter.GetDefaultDataConverter().FromPayloads(done.GetResult(), &act) == nil {
				for _, o := range act.Outcomes {
					rec.decided[o.Ref] = o
				}
			}
		}
	}
	return rec, true
}

func (rec *record) plan(p round.PlanResult) {
	for _, t := range p.Targets {
		if _, known := rec.targets[t.Ref]; !known {
			rec.order = append(rec.order, t.Ref)
		}
		rec.targets[t.Ref] = t
	}
}

// examineRound finds out what a round did, by its record, and by vCenter where the record does not say.
func (a *Activities) examineRound(ctx context.Context, e *Examination) error {
	r := &e.Result
	events, err := a.history(ctx, r.WorkflowID, r.RunID)
	if err != nil {
		return err
	}
	rec, ok := recorded(events)
	if !ok {
		r.Unproven = append(r.Unproven, "what the round was asked for and did: its input cannot be read; look at the VMs that carry the attribute with its id")
		r.Steps = append(r.Steps, "give back the VMs that it holds in the ledger")
		return nil
	}
	s, err := a.see(ctx, rec)
	if err != nil {
		r.Unproven = append(r.Unproven, "how its VMs are now, as vCenter cannot be asked: "+err.Error())
	}
	d := rec.in.Demand
	result := preemptapi.RoundResult{
		RoundID: r.WorkflowID, RunID: r.RunID, IntakeID: rec.in.IntakeID, Tag: d.Tag, Criticality: d.Criticality, Alarm: d.Alarm(),
		Scope: d.Scope, ScopeName: d.ScopeName, PolicyName: d.PolicyName, PolicyHash: d.PolicyHash, StartedAt: rec.started.UTC(), EndedAt: r.At,
		Targets: []preemptapi.VMOutcome{}, Spared: []policy.Spared{}, Reason: Reason,
	}
	for _, ref := range rec.order {
		o, owed, doubt := s.settle(rec, r.WorkflowID, ref)
		result.Targets = append(result.Targets, o)
		if o.Outcome.Ours() {
			result.FreedCPUMHz, result.FreedMemMB = result.FreedCPUMHz+o.CPUMHz, result.FreedMemMB+o.MemoryMB
		}
		if owed != "" {
			e.Owed = append(e.Owed, Owed{VM: ref, Value: owed})
		}
		if doubt != "" {
			r.Unproven = append(r.Unproven, doubt)
		}
	}
	result.State = preemptapi.RoundPartial
	if len(result.Preempted()) == 0 {
		result.State = preemptapi.RoundFailed
	}
	if d.ReplyTo != "" && len(result.Preempted()) > 0 {
		r.Unproven = append(r.Unproven, "whether its CloudEvent was sent to the reply address: none is sent by the repair")
	}
	if rec.noticed {
		r.Unproven = append(r.Unproven, "whether guests still show its notice: look at their guestinfo")
	}
	r.Round = &result
	e.Intake, e.Done = rec.in.IntakeID, completion(rec, result)
	r.Steps = append(r.Steps,
		fmt.Sprintf("tell the ledger that the round is over with %d VM(s) preempted: its VMs and its scope are free, the cooldown begins", len(result.Preempted())))
	if len(e.Owed) > 0 {
		r.Steps = append(r.Steps, fmt.Sprintf("write the attribute of %d VM(s) that the round turned off", len(e.Owed)))
	}
	if e.Intake != "" {
		r.Steps = append(r.Steps, "tell intake "+e.Intake+" the result, if it lives")
	}
	return nil
}

// completion is what the ledger is told.
func completion(rec record, result preemptapi.RoundResult) *ledger.CompleteRequest {
	d := rec.in.Demand
	req := &ledger.CompleteRequest{
		Owner: result.RoundID, Scope: d.Key(), Preempted: len(result.Preempted()), Rank: d.Criticality.Rank(), Cooldown: d.Policy.Cooldown.D(),
	}
	for _, t := range result.Targets {
		if t.Outcome.Ours() {
			req.Evicted = append(req.Evicted, ledger.Evicted{VM: t.Ref.String(), Host: t.Host.String(), CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Time: t.OffAt, StaysOn: t.Outcome.StaysOn()})
		}
	}
	return req
}

// sight is what vCenter says of a round's VMs.
type sight struct {
	seen     bool
	vms      map[vsphere.Ref]vsphere.VM
	notes    map[vsphere.Ref]string
	evidence map[vsphere.Ref]vcenter.Evidence
}

// see asks vCenter: three to six calls, whatever the number of VMs.
func (a *Activities) see(ctx context.Context, rec record) (s sight, err error) {
	if s.vms, err = a.VCenter.State(ctx, "", rec.order); err != nil {
		return s, err
	}
	if s.notes, err = a.VCenter.Annotations(ctx, rec.order, preemption.AttributeKey); err != nil {
		return s, err
	}
	if s.evidence, err = a.evidence(ctx, rec, s.vms); err != nil {
		return s, err
	}
	s.seen = true
	return s, nil
}

// evidence is how the round's VMs that are off went off; it waits for events that come after the state.
func (a *Activities) evidence(ctx context.Context, rec record, vms map[vsphere.Ref]vsphere.VM) (map[vsphere.Ref]vcenter.Evidence, error) {
	var off []vsphere.Ref
	for _, ref := range rec.order {
		if vm, there := vms[ref]; there && vm.PowerState != vsphere.PoweredOn {
			off = append(off, ref)
		}
	}
	return a.VCenter.AwaitEvidence(ctx, off, rec.started)
}

// settle says what became of one target: by the round's record, else by the attribute, else by vCenter's events. owed
// is the attribute that it lacks, doubt what cannot be proven.
func (s sight) settle(rec record, round string, ref vsphere.Ref) (o preemptapi.VMOutcome, owed, doubt string) {
	t := rec.targets[ref]
	if o, known := rec.decided[ref]; known {
		return o, "", ""
	}
	o = preemptapi.VMOutcome{Ref: ref, Name: t.Name, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host, Why: t.Why, Outcome: action.Failed}
	vm, there := s.vms[ref]
	var note preempt.Attribute
	_ = json.Unmarshal([]byte(s.notes[ref]), &note) // what is no record of ours proves nothing
	ev, off := s.evidence[ref]
	switch {
	case !s.seen:
		o.Reason = policy.InWords("vCenter could not be asked")
		return o, "", fmt.Sprintf("%s (%s): whether it was turned off", t.Name, ref.Value)
	case !there:
		o.Reason = policy.InWords("it is no longer in vCenter")
		return o, "", fmt.Sprintf("%s (%s): it is no longer in vCenter", t.Name, ref.Value)
	case note.RoundID == round && note.Outcome != "":
		return byAttribute(o, note, vm), "", ""
	case vm.PowerState == "poweredOn":
		o.Outcome, o.Reason = action.Spared, policy.InWords(notActed)
	case off && ev.Ours && (ev.User != "" || ev.Time.Sub(ev.Asked) <= rec.in.Demand.Policy.ShutdownLasts()) && !(note.Preempted && note.PreemptedAt.After(rec.started)):
		o.Outcome, o.OffAt, o.Reason = action.ByEvent(ev.Event, ev.User == ""), ev.Time, policy.InWords("by vCenter's events: "+ev.Event)
		return o, attributeFor(rec, round, o, vm, note.Throttle), ""
	default:
		o.Outcome, o.Reason = action.Unattributed, policy.InWords("it is off, and neither the round's record nor vCenter's events say by whom")
		return o, "", fmt.Sprintf("%s (%s): it is off, and nothing says by whom", t.Name, ref.Value)
	}
	return o, "", ""
}

// byAttribute is what became of a target by the attribute that the round wrote. That of a throttle is written before the limit
// is set.
func byAttribute(o preemptapi.VMOutcome, note preempt.Attribute, vm vsphere.VM) preemptapi.VMOutcome {
	if note.Outcome.StaysOn() && !note.Throttle.Active(vm.CPULimitMHz) {
		o.Outcome, o.Reason = action.Spared, policy.InWords("it does not have the CPU limit that the round was about to set, or has it no more")
		return o
	}
	o.Outcome, o.OffAt, o.Forced, o.Annotated = note.Outcome, note.PreemptedAt, note.ForcedShutdown, true
	o.Reason = policy.InWords("by the attribute that the round wrote")
	return o
}

// attributeFor is the record on the VM that the round did not come to write.
func attributeFor(rec record, round string, o preemptapi.VMOutcome, vm vsphere.VM, limit *policy.Throttled) string {
	d := rec.in.Demand
	id, began := rec.in.IntakeID, rec.in.IntakeRun
	if id == "" {
		id = round
	}
	if began.IsZero() {
		began = rec.started
	}
	b, err := json.Marshal(preempt.Attribute{
		Preempted: true, Tag: d.Tag, ForcedShutdown: o.Outcome == action.PoweredOff, Criticality: d.Criticality, WorkflowID: id,
		WorkflowStarted: began.UTC(), Event: d.Event, RoundID: round, Outcome: o.Outcome, PreemptedAt: o.OffAt.UTC(), PolicyHash: d.PolicyHash,
		Policy: d.PolicyName, Scope: d.Scope.String(), InstanceUUID: vm.InstanceUUID, CPUMHz: o.CPUMHz, MemoryMB: o.MemoryMB,
		Throttle: limit,
	})
	if err != nil {
		return ""
	}
	return string(b)
}

// endRound tells whoever must know that the round is over.
func (a *Activities) endRound(ctx context.Context, e Examination, r *health.RepairResult) error {
	for _, owed := range e.Owed {
		if err := a.VCenter.Annotate(ctx, owed.VM, preemption.AttributeKey, owed.Value); err != nil {
			r.Unproven = append(r.Unproven, "the attribute of "+owed.VM.Value+" could not be written: "+err.Error())
			continue
		}
		for i, t := range r.Round.Targets {
			if t.Ref == owed.VM {
				r.Round.Targets[i].Annotated = true
			}
		}
		r.Steps = append(r.Steps, "wrote the attribute of "+owed.VM.Value)
	}
	if e.Done == nil {
		return a.giveBack(ctx, r)
	}
	limited, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	if err := a.ledger().Complete(limited, *e.Done); err != nil {
		r.Unproven = append(r.Unproven, "the ledger could not be told of the round's end; repair the ledger, and within a minute it finds out itself, without the evictions: "+err.Error())
	} else {
		r.Steps = append(r.Steps, "told the ledger: VMs and scope of the round are free, "+fmt.Sprint(e.Done.Preempted)+" eviction(s) are counted")
	}
	if e.Intake == "" || r.Round == nil {
		return nil
	}
	err := a.Temporal.SignalWorkflow(ctx, e.Intake, "", round.DoneSignal, *r.Round)
	var missing *serviceerror.NotFound
	switch {
	case errors.As(err, &missing):
		r.Steps = append(r.Steps, "intake "+e.Intake+" has ended and needs not be told")
	case err != nil:
		return fmt.Errorf("tell intake %s: %w", e.Intake, err)
	default:
		r.Steps = append(r.Steps, "told intake "+e.Intake+" the result")
	}
	return nil
}
