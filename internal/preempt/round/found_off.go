package round

import (
	"context"
	"encoding/json"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"

	"go.temporal.io/sdk/activity"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// attributeOff settles targets that were found off. Before anything was sent they were turned off by
// somebody else; later, or after a crash, vCenter's events tell.
func (e *eviction) attributeOff(off []ActTarget) error {
	var unsure []ActTarget
	for _, t := range off {
		if !e.Repeated && !e.Sent && t.SentAt.IsZero() {
			e.decideAll([]ActTarget{t}, action.AlreadyOff, policy.Explanation{})
			continue
		}
		unsure = append(unsure, t)
	}
	if len(unsure) == 0 {
		return nil
	}
	e.endTurn() // events may be late
	c := attribution{
		roundID: e.in.RoundID, since: e.evidenceSince(unsure), late: e.in.Late, shutdownLasts: e.in.Policy.ShutdownLasts(),
		began: activity.GetInfo(e.Asked).ScheduledTime,
	}
	verdicts, err := e.whoTurnedOff(e.Ctx, c, unsure)
	if err != nil {
		return err
	}
	for _, t := range unsure {
		if v := verdicts[t.Ref]; v.outcome != "" {
			e.decideAll([]ActTarget{t}, v.outcome, policy.InWords(v.reason))
		} else {
			e.claimOff(t, v.cut, v.at)
		}
	}
	return nil
}

// attributeOnAgain settles targets that our task turned off and that are on: somebody powered them on before they were seen
// off. They are not turned off again, for whoever did so may go on with it.
func (e *eviction) attributeOnAgain(back []ActTarget) error {
	if len(back) == 0 {
		return nil
	}
	e.endTurn() // events may be late
	var by map[vsphere.Ref]vcenter.Touch
	err := e.VCenter.AwaitEvents(e.Ctx, func() (bool, error) {
		err := e.Attempt(e.Ctx, func() (err error) {
			by, err = e.VCenter.PoweredOnAgain(e.Ctx, refs(back), e.evidenceSince(back))
			return err
		})
		return len(by) == len(back), err
	})
	if vcenter.KindOf(err).Outage() {
		return err
	}
	for _, t := range back {
		who := "somebody"
		if touch := by[t.Ref]; touch.User != "" {
			who = preempt.Clip(touch.User)
		}
		e.decideAll([]ActTarget{t}, action.OnAgain, policy.InWords("it was turned off, and powered on again by "+who+" before it was seen off"))
	}
	return nil
}

// evidence looks up who turned the VMs off, and waits for vCenter's events of those that it finds none of.
func (a *Activities) evidence(ctx context.Context, targets []ActTarget, since time.Time) (found map[vsphere.Ref]vcenter.Evidence, err error) {
	err = a.Attempt(ctx, func() (err error) {
		found, err = a.VCenter.AwaitEvidence(ctx, refs(targets), since)
		return err
	})
	return found, err
}

func offBy(ev vcenter.Evidence) string {
	if ev.User == "" {
		return "its guest went off by itself"
	}
	return "turned off by " + preempt.Clip(ev.User)
}

// evidenceSince is when evidence begins: well before the first thing that this round can have sent, for clocks
// differ. The latest power-off of a VM counts, and it was on when it was planned.
func (e *eviction) evidenceSince(targets []ActTarget) time.Time {
	begin := activity.GetInfo(e.Asked).ScheduledTime
	for _, t := range targets {
		if !t.SentAt.IsZero() && t.SentAt.Before(begin) {
			begin = t.SentAt
		}
	}
	return begin.Add(-2 * time.Hour)
}

// claimOff records a VM that is ours and off, and annotates it. cut: its power was cut, not its guest shut down.
func (e *eviction) claimOff(t ActTarget, cut bool, at time.Time) {
	o := outcome(t, action.ShutDown)
	o.OffAt = at.UTC()
	if cut {
		o.Outcome, o.Forced = e.in.Action.Cut(!t.SentAt.IsZero())
	}
	if cut && e.in.Action == action.ShutdownGuest {
		o.Reason = policy.Because(policy.ForcedNoTools)
	}
	e.annotates.Go(func() { e.decide(e.annotate(e.Ctx, o, e.in.Attribute, e.in.Asked)) })
}

// annotate writes the attribute of a VM that is off. Its failure is part of the outcome.
func (a *Activities) annotate(ctx context.Context, o preemptapi.VMOutcome, attr preempt.Attribute, asked time.Time) preemptapi.VMOutcome {
	o, _ = a.writeAttribute(ctx, o, attr, asked)
	return o
}

// writeAttribute is annotate. Its error is that of the outcome.
func (a *Activities) writeAttribute(ctx context.Context, o preemptapi.VMOutcome, attr preempt.Attribute, asked time.Time) (preemptapi.VMOutcome, error) {
	o, err := a.writeRecord(ctx, o, attr)
	if err == nil {
		a.reclaimed(ctx, o, asked)
	}
	return o, err
}

// writeRecord writes into the attribute what the outcome says.
func (a *Activities) writeRecord(ctx context.Context, o preemptapi.VMOutcome, attr preempt.Attribute) (preemptapi.VMOutcome, error) {
	attr.Preempted, attr.ForcedShutdown, attr.Outcome, attr.PreemptedAt = true, o.Forced, o.Outcome, o.OffAt
	attr.InstanceUUID, attr.CPUMHz, attr.MemoryMB, attr.Throttle = o.InstanceUUID, o.CPUMHz, o.MemoryMB, o.Throttle
	if o.Throttle != nil && !o.Outcome.StaysOn() {
		attr.CPUMHz += o.Throttle.FreedMHz // it will use that again when it comes back without the limit
	}
	value, err := json.Marshal(attr)
	if err == nil {
		err = a.AttemptThrough(ctx, func() error { return a.VCenter.Annotate(ctx, o.Ref, preemption.AttributeKey, string(value)) })
	}
	if err != nil {
		o.AnnotationError = err.Error()
		return o, err
	}
	o.Annotated, o.AnnotationError = true, ""
	return o, nil
}

// reclaimed records a VM that is off, or throttled, and annotated.
func (a *Activities) reclaimed(ctx context.Context, o preemptapi.VMOutcome, asked time.Time) {
	a.MarkChanged()
	if !asked.IsZero() {
		activity.GetMetricsHandler(ctx).WithTags(map[string]string{"outcome": string(o.Outcome)}).Timer("preemption_reclaim").Record(time.Since(asked))
	}
}
