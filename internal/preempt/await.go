package preempt

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// AwaitInput asks to look on until guests that were asked to shut down are off.
type AwaitInput struct {
	RoundID   string      `json:"roundID"`
	Pending   []ActTarget `json:"pending"`
	Attribute Attribute   `json:"attribute"`
	// Evidence demands that vCenter's events show our guest shutdown to be the cause: for a late look-on,
	// when others may have acted in between.
	Evidence bool `json:"evidence,omitempty"`
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
	own := context.WithoutCancel(ctx)
	var out AwaitResult
	open := map[policy.Ref]ActTarget{}
	waits := make([]vcenter.Wait, 0, len(in.Pending))
	for _, t := range in.Pending {
		open[t.Ref] = t
		waits = append(waits, vcenter.Wait{VM: t.Ref})
	}
	done := make(chan VMOutcome, len(in.Pending))
	started := 0
	err := a.VCenter.AwaitOff(ctx, waits, func(ref policy.Ref, r vcenter.WaitResult) {
		t := open[ref]
		delete(open, ref)
		started++
		go func() { done <- a.wentOff(own, in, t, r) }()
	})
	for range started {
		out.Outcomes = append(out.Outcomes, <-done)
	}
	if err != nil && ctx.Err() == nil {
		return AwaitResult{}, typed(err)
	}
	if ctx.Err() != nil && !cancelled(ctx) && len(open) > 0 {
		return AwaitResult{}, handOver(ctx)
	}
	for _, t := range in.Pending {
		if _, still := open[t.Ref]; still {
			out.Pending = append(out.Pending, t)
		}
	}
	return out, nil
}

// wentOff settles one VM that is off, or gone.
func (a *Activities) wentOff(ctx context.Context, in AwaitInput, t ActTarget, r vcenter.WaitResult) VMOutcome {
	if r.Gone {
		o := outcome(t, OutcomeSpared)
		o.Reason = string(policy.Gone)
		return o
	}
	o := outcome(t, OutcomeShutDown)
	o.OffAt = time.Now().UTC()
	if in.Evidence {
		found, err := a.VCenter.PowerOffEvidence(ctx, []policy.Ref{t.Ref}, t.SentAt.Add(-time.Minute))
		ev, ok := found[t.Ref]
		if err != nil || !ok || !ev.Ours || ev.User != "" {
			o.Outcome, o.Reason = OutcomeAlreadyOff, "went off later, not by our guest shutdown"
			return o
		}
	}
	o = a.annotate(ctx, o, in.Attribute)
	a.logger(ctx).Info("decided", "vm", o.Name, "moref", o.Ref.Value, "outcome", o.Outcome, "annotated", o.Annotated,
		"attempt", activity.GetInfo(ctx).Attempt)
	return o
}
