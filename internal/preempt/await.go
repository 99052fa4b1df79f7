package preempt

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// AwaitInput asks to look on until guests that were asked to shut down are off.
type AwaitInput struct {
	RoundID   string      `json:"roundID"`
	Alarm     string      `json:"alarm,omitempty"` // name, for the log
	Pending   []ActTarget `json:"pending"`
	Attribute Attribute   `json:"attribute"`
	// Evidence demands that vCenter's events show our guest shutdown to be the cause: for a late look-on,
	// when others may have acted in between.
	Evidence bool      `json:"evidence,omitempty"`
	Asked    time.Time `json:"asked,omitzero"` // when the round began, for the figures
}

// AwaitResult is who went off, and who has not.
type AwaitResult struct {
	Outcomes []VMOutcome `json:"outcomes"`
	Pending  []ActTarget `json:"pending,omitempty"`
}

// AwaitVMs waits until all pending VMs are off or it is cancelled, annotating each as soon as vCenter
// says so. The workflow's timer ends it by cancelling it; it then returns how things stand. It sends
// nothing destructive and may be repeated.
func (a *Activities) AwaitVMs(ctx context.Context, in AwaitInput) (AwaitResult, error) {
	stop := a.beat(ctx)
	defer stop()
	var out AwaitResult
	open := map[policy.Ref]ActTarget{}
	waits := make([]vcenter.Wait, 0, len(in.Pending))
	for _, t := range in.Pending {
		open[t.Ref] = t
		waits = append(waits, vcenter.Wait{VM: t.Ref})
	}
	ends := make(chan ended, len(in.Pending))
	done := make(chan []VMOutcome, 1)
	go func() { done <- a.settleEnded(context.WithoutCancel(ctx), in, ends) }()
	err := a.VCenter.AwaitOff(ctx, waits, func(ref policy.Ref, r vcenter.WaitResult) {
		ends <- ended{ActTarget: open[ref], gone: r.Gone}
		delete(open, ref)
	})
	close(ends)
	out.Outcomes = <-done
	if err != nil && ctx.Err() == nil {
		return AwaitResult{}, step.Typed(err)
	}
	if ctx.Err() != nil && !step.Cancelled(ctx) && len(open) > 0 {
		return AwaitResult{}, handOver(ctx)
	}
	for _, t := range in.Pending {
		if _, still := open[t.Ref]; still {
			out.Pending = append(out.Pending, t)
		}
	}
	return out, nil
}

// ended is a VM that is off, or gone.
type ended struct {
	ActTarget
	gone bool
}

// settleEnded decides about VMs as they come, those that come together with one look at the evidence.
func (a *Activities) settleEnded(ctx context.Context, in AwaitInput, ends <-chan ended) (out []VMOutcome) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for first := range ends {
		together := []ended{first}
		for len(ends) > 0 {
			together = append(together, <-ends)
		}
		wg.Go(func() {
			for _, o := range a.attributeEnded(ctx, in, together) {
				wg.Go(func() {
					if o.Ours() {
						o = a.annotate(ctx, o, in.Attribute, in.Asked)
					}
					a.logger(ctx).Info("decided", "alarm", in.Alarm, "vm", o.Name, "moref", o.Ref.Value, "outcome", o.Outcome,
						"reason", o.Reason, "annotated", o.Annotated, "attempt", activity.GetInfo(ctx).Attempt)
					mu.Lock()
					defer mu.Unlock()
					out = append(out, o)
				})
			}
		})
	}
	wg.Wait()
	return out
}

// attributeEnded tells who turned the VMs off. We asked their guests to shut down and looked on: they are
// ours unless vCenter's events name somebody who cut the power. A late look-on demands that the events
// name us, and that no later round has taken the VM for its own.
func (a *Activities) attributeEnded(ctx context.Context, in AwaitInput, ends []ended) (out []VMOutcome) {
	var off []ActTarget
	since := time.Now()
	for _, t := range ends {
		if t.gone {
			o := outcome(t.ActTarget, OutcomeSpared)
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
	var found map[policy.Ref]vcenter.Evidence
	err := a.attemptThrough(ctx, func() (err error) {
		found, err = a.evidence(ctx, off, since.Add(-time.Minute))
		return err
	})
	taken := a.takenByOthers(ctx, in, off)
	for _, t := range off {
		o := outcome(t, OutcomeShutDown)
		o.OffAt = time.Now().UTC()
		ev, ok := found[t.Ref]
		switch {
		case ok && ev.User != "":
			o.Outcome, o.Reason = OutcomeAlreadyOff, offBy(ev)
		case taken[t.Ref]:
			o.Outcome, o.Reason = OutcomeAlreadyOff, "a later round turned it off"
		case in.Evidence && err != nil:
			o.Outcome, o.Reason = OutcomeUnattributed, err.Error()
		case in.Evidence && !ok:
			o.Outcome = OutcomeUnattributed
		case in.Evidence && !ev.Ours:
			o.Outcome, o.Reason = OutcomeAlreadyOff, "went off later, not by our guest shutdown"
		}
		out = append(out, o)
	}
	return out
}

// takenByOthers tells which VMs carry the attribute of another round since we asked them to shut down. It
// is for a late look-on: until then no other round works on our targets. It gives such a round a moment
// to annotate, for both see the VM go off at the same time.
func (a *Activities) takenByOthers(ctx context.Context, in AwaitInput, off []ActTarget) map[policy.Ref]bool {
	taken := map[policy.Ref]bool{}
	if !in.Evidence || !step.Sleep(ctx, 2*a.Settings.Timing.Retry) {
		return taken
	}
	var values map[policy.Ref]string
	err := a.attemptThrough(ctx, func() (err error) {
		values, err = a.VCenter.Annotations(ctx, refs(off), preemption.AttributeKey)
		return err
	})
	if err != nil {
		a.logger(ctx).Warn("the attributes of VMs that went off late could not be read", "reason", err)
	}
	for _, t := range off {
		var attr Attribute
		if json.Unmarshal([]byte(values[t.Ref]), &attr) == nil && attr.RoundID != "" {
			taken[t.Ref] = attr.RoundID != in.RoundID && attr.PreemptedAt.After(t.SentAt)
		}
	}
	return taken
}

// handOver is the error of a step that has nothing at stake when its worker stops: another takes over.
func handOver(ctx context.Context) error {
	return temporal.NewApplicationErrorWithOptions("the worker stops: "+context.Cause(ctx).Error(), "HandOver",
		temporal.ApplicationErrorOptions{NextRetryDelay: 100 * time.Millisecond})
}
