package round

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// AwaitInput asks to look on until guests that were asked to shut down are off.
type AwaitInput struct {
	RoundID string      `json:"roundID"`
	Alarm   string      `json:"alarm,omitempty"` // name, for the log
	Pending []ActTarget `json:"pending"`
	// Ask sends the guest shutdown to those that could not be asked yet.
	Ask       bool              `json:"ask,omitempty"`
	Attribute preempt.Attribute `json:"attribute"`
	// Evidence demands that vCenter's events show our guest shutdown to be the cause: for a late look-on,
	// when others may have acted in between.
	Evidence bool      `json:"evidence,omitempty"`
	Asked    time.Time `json:"asked,omitzero"` // when the round began, for the figures
}

// AwaitResult is who went off, and who has not.
type AwaitResult struct {
	Outcomes []preemptapi.VMOutcome `json:"outcomes"`
	Pending  []ActTarget            `json:"pending,omitempty"`
	// Unseen says that vCenter was away in the end, so that nobody knows whether the pending ones are on.
	Unseen bool `json:"unseen,omitempty"`
}

// AwaitVMs waits until all pending VMs are off or it is cancelled, annotating each as soon as vCenter
// says so. The workflow's timer ends it by cancelling it; it then returns how things stand. It sends
// nothing but the guest shutdowns that are still due, and may be repeated.
func (a *Activities) AwaitVMs(ctx context.Context, in AwaitInput) (AwaitResult, error) {
	stop := a.Beat(ctx)
	defer stop()
	var out AwaitResult
	asking := a.askLater(ctx, in)
	open := map[vsphere.Ref]ActTarget{}
	waits := make([]vcenter.Wait, 0, len(in.Pending))
	for _, t := range in.Pending {
		open[t.Ref] = t
		waits = append(waits, vcenter.Wait{VM: t.Ref})
	}
	ends := make(chan wentOff, len(in.Pending))
	done := make(chan []preemptapi.VMOutcome, 1)
	go func() { done <- a.decideEnded(context.WithoutCancel(ctx), in, ends) }()
	err := a.VCenter.AwaitOff(ctx, waits, func(ref vsphere.Ref, r vcenter.WaitResult) {
		ends <- wentOff{ActTarget: asking.updated(open[ref]), gone: r.Gone}
		delete(open, ref)
	})
	asking.stop()
	for ref, t := range open {
		open[ref] = asking.updated(t)
	}
	if step.Cancelled(ctx) && len(open) > 0 {
		out.Unseen = !a.lookOnceMore(ctx, in.Pending, open, ends)
	}
	close(ends)
	out.Outcomes = <-done
	if err != nil && ctx.Err() == nil {
		return AwaitResult{}, step.Typed(err)
	}
	if ctx.Err() != nil && !step.Cancelled(ctx) && len(open) > 0 {
		return AwaitResult{}, preempt.HandOver(ctx)
	}
	for _, t := range in.Pending {
		if t, still := open[t.Ref]; still {
			out.Pending = append(out.Pending, t)
		}
	}
	return out, nil
}

// lastLook is how long vCenter may take to say who is still on when their time is over.
const lastLook = 5 * time.Second

// lookOnceMore looks at the open VMs when their time is over: one that is off by then was seen too late by a wait
// that vCenter's absence or a lost session held up. It returns false where vCenter does not answer.
func (a *Activities) lookOnceMore(ctx context.Context, pending []ActTarget, open map[vsphere.Ref]ActTarget, ends chan<- wentOff) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
	defer cancel()
	now, err := a.VCenter.State(ctx, "", slices.Collect(maps.Keys(open)))
	if err != nil {
		a.Logger(ctx).Warn("vCenter does not say who is off; it is asked again", "reason", err)
		return false
	}
	for _, t := range pending {
		vm, there := now[t.Ref]
		if _, waiting := open[t.Ref]; waiting && (!there || vm.PowerState != vsphere.PoweredOn) {
			ends <- wentOff{ActTarget: open[t.Ref], gone: !there}
			delete(open, t.Ref)
		}
	}
	return true
}

// wentOff is a VM that is off, or gone.
type wentOff struct {
	ActTarget
	gone bool
}

// decideEnded decides about VMs as they come, those that come together, or while it waits for the events of others, with
// one look at the evidence: vCenter gives a session few event collectors.
func (a *Activities) decideEnded(ctx context.Context, in AwaitInput, ends <-chan wentOff) (out []preemptapi.VMOutcome) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for first := range ends {
		together := []wentOff{first}
		for len(ends) > 0 {
			together = append(together, <-ends)
		}
		for _, o := range a.attributeEnded(ctx, in, together) {
			wg.Go(func() {
				if o.Outcome.Ours() {
					o = a.annotate(ctx, o, in.Attribute, in.Asked)
				}
				a.Logger(ctx).Info("decided", "alarm", in.Alarm, "vm", o.Name, "moref", o.Ref.Value, "outcome", o.Outcome,
					"reason", o.Reason, "annotated", o.Annotated, "attempt", activity.GetInfo(ctx).Attempt)
				mu.Lock()
				defer mu.Unlock()
				out = append(out, o)
			})
		}
	}
	wg.Wait()
	return out
}

// attributeEnded finds out who turned the VMs off. We asked their guests to shut down and looked on: they are
// ours unless vCenter's events name somebody who cut the power. In a late look-on they are not either if their events
// do not show our guest shutdown, or a later round has taken them for its own.
func (a *Activities) attributeEnded(ctx context.Context, in AwaitInput, ends []wentOff) (out []preemptapi.VMOutcome) {
	var off []ActTarget
	since := time.Now()
	for _, t := range ends {
		if t.gone {
			o := outcome(t.ActTarget, action.Spared)
			o.Reason = string(policy.Gone)
			out = append(out, o)
			continue
		}
		off = append(off, t.ActTarget)
		if t.SentAt.Before(since) {
			since = t.SentAt
		}
	}
	if len(off) == 0 {
		return out
	}
	c := attribution{roundID: in.RoundID, since: since.Add(-time.Minute), watched: true, late: in.Evidence}
	var verdicts map[vsphere.Ref]verdict
	// Its error is that of the whole outage that a step may last; without a verdict a VM is not claimed.
	err := a.AttemptThrough(ctx, func() (err error) {
		verdicts, err = a.whoTurnedOff(ctx, c, off)
		return err
	})
	for _, t := range off {
		o, v := outcome(t, action.ShutDown), verdicts[t.Ref]
		o.OffAt = time.Now().UTC()
		switch {
		case err != nil:
			o.Outcome, o.Reason = action.Unattributed, err.Error()
		case v.outcome != "":
			o.Outcome, o.Reason = v.outcome, v.reason
		}
		out = append(out, o)
	}
	return out
}
