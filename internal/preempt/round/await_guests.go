package round

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// awaitGuests waits for the guests that were asked to shut down, until all are off, the grace period is
// over, a raise asks for more, or the round is withdrawn; then it deals with those that are still on.
func (r *round) awaitGuests() {
	if len(r.pending) == 0 {
		return
	}
	r.setState(preemptapi.RoundWaiting)
	for len(r.pending) > 0 {
		if left := r.deadline().Sub(workflow.Now(r.ctx)); left > 0 {
			r.watchPending(left)
			continue
		}
		rest := r.stillInGrace()
		r.afterGrace()
		if r.pending = rest; len(rest) > 0 {
			r.setState(preemptapi.RoundWaiting)
		}
	}
}

// stillInGrace takes those out of the pending VMs whose own grace period is not over: after a notice, guests are
// asked one after the other, as each is ready.
func (r *round) stillInGrace() (rest []ActTarget) {
	t := r.treatment()
	if r.notices == 0 || r.withdrawn || t.Action.AtOnce() {
		return nil
	}
	now := workflow.Now(r.ctx)
	r.pending = slices.DeleteFunc(slices.Clone(r.pending), func(p ActTarget) bool {
		young := p.SentAt.Add(t.GracePeriod.D()).After(now)
		if young {
			rest = append(rest, p)
		}
		return young
	})
	return rest
}

// deadline is when waiting ends: at the end of the grace period of what the criticality means now, and
// soon after a withdrawal.
func (r *round) deadline() time.Time {
	t := r.treatment()
	if t.Action.AtOnce() && !r.withdrawn {
		return time.Time{} // raised: no more waiting
	}
	end := r.pending[0].SentAt.Add(t.GracePeriod.D())
	if r.withdrawn {
		if soon := r.withdrawnAt.Add(r.in.Demand.Policy.WithdrawWait.D()); soon.Before(end) {
			return soon
		}
	}
	return end
}

// watchPending watches the pending VMs for a while, or until it is cut short.
func (r *round) watchPending(d time.Duration) {
	ctx, cancel := workflow.WithCancel(r.ctx)
	r.interrupt = cancel
	timer, stopTimer := workflow.WithCancel(r.ctx)
	workflow.Go(timer, func(ctx workflow.Context) {
		if workflow.NewTimer(ctx, d).Get(ctx, nil) == nil {
			cancel()
		}
	})
	r.awaitVMs(ctx, AwaitInput{
		RoundID: r.result.RoundID, Alarm: r.result.Alarm, Pending: r.pending, Attribute: r.attribute(), Asked: r.result.StartedAt,
		Ask: !r.withdrawn,
	}, d, "wait for guests to shut down")
	stopTimer()
	r.interrupt = nil
}

// awaitVMs runs AwaitVMs and records the outcomes. Many guests are watched in parts, side by side.
func (r *round) awaitVMs(ctx workflow.Context, in AwaitInput, d time.Duration, summary string) {
	var a *Activities
	ctx = r.in.Timing.WithOptions(ctx, d+time.Minute, fmt.Sprintf("%s: %d VMs", summary, len(in.Pending)))
	parts := r.parts(in.Pending)
	rest := make([][]ActTarget, len(parts))
	var failed error
	unseen := false
	ends := workflow.NewSelector(ctx)
	for i, part := range parts {
		in.Pending = part
		ends.AddFuture(workflow.ExecuteActivity(ctx, a.AwaitVMs, in), func(f workflow.Future) {
			var res AwaitResult
			if err := f.Get(ctx, &res); err != nil {
				rest[i], failed = part, errors.Join(failed, err)
				return
			}
			unseen = unseen || res.Unseen
			rest[i] = res.Pending
			r.add(res.Outcomes...)
		})
		r.startApart(ctx, len(parts))
	}
	for range parts {
		ends.Select(ctx)
	}
	r.unsure = failed != nil || unseen
	r.pending = slices.Concat(rest...)
	if failed != nil && !temporal.IsCanceledError(failed) {
		workflow.GetLogger(r.ctx).Warn("the wait for guests failed; they are looked at again", "error", failed)
		_ = workflow.Sleep(ctx, min(d, 5*r.in.Timing.Retry)) // cut short with the wait itself
	}
}

// afterGrace powers off the VMs that are still on if the policy forces, and spares them if not.
func (r *round) afterGrace() {
	t := r.treatment()
	force := !r.withdrawn && t.Forces()
	in := r.actInput(r.pending)
	in.Action = action.PowerOff
	r.pending = nil
	if force {
		r.setState(preemptapi.RoundActing)
		r.evict(in, fmt.Sprintf("force off: %d VMs", len(in.Targets)))
		return
	}
	reason := preemptapi.ReasonIgnored
	if r.withdrawn {
		reason = preemptapi.ReasonShutWithdrawn
	}
	still := in.Targets
	if r.unsure {
		still = r.lookWhoIsOn(in, reason)
		if t := r.treatment(); len(still) > 0 && !r.withdrawn && r.letsLookUpsEnd() && t.Forces() {
			r.pending, r.unsure = still, false // raised while it was looked
			r.afterGrace()
			return
		}
	} else {
		r.spareStillOn(still, reason)
	}
	for _, t := range still {
		if !t.Unasked { // a guest that was never asked is not watched
			r.late = append(r.late, t)
		}
	}
}

// lookWhoIsOn has vCenter asked what became of VMs, and returns those that are still on. They are spared for the reason.
func (r *round) lookWhoIsOn(in ActInput, reason string) (still []ActTarget) {
	in.OnlyLook, in.StillOn = true, reason
	r.evict(in, "look who is still on")
	for _, t := range in.Targets {
		if o := r.outcomeOf(t.Ref); o.Outcome == action.Spared && o.Reason == reason {
			still = append(still, t)
		}
	}
	return still
}

// spareStillOn records that VMs are still on.
func (r *round) spareStillOn(still []ActTarget, reason string) {
	list := make([]preemptapi.VMOutcome, 0, len(still))
	for _, t := range still {
		o := outcome(t, action.Spared)
		o.Reason = reason
		if t.Unasked && !r.withdrawn {
			o.Reason = preemptapi.ReasonNoTools
		}
		list = append(list, o)
	}
	r.add(list...)
}

// letsLookUpsEnd reports whether a look-up of what became of VMs may end by itself: its answer is needed whatever
// changes meanwhile. In rounds of an earlier version it is cut short.
func (r *round) letsLookUpsEnd() bool {
	return workflow.GetVersion(r.ctx, "look-to-the-end", workflow.DefaultVersion, 1) > workflow.DefaultVersion
}

// lateWatch watches guests that ignored their shutdown: one that goes off after all by our shutdown
// is annotated and reported.
func (r *round) lateWatch() (changed bool) {
	d := r.in.Demand.Policy.LateWatch.D()
	if len(r.late) == 0 || d <= 0 {
		return false
	}
	r.setState(preemptapi.RoundWatching)
	r.pending = r.late
	before := len(r.result.Preempted())
	ctx, cancel := workflow.WithCancel(r.ctx)
	timer, stopTimer := workflow.WithCancel(r.ctx)
	workflow.Go(timer, func(ctx workflow.Context) {
		if workflow.NewTimer(ctx, d).Get(ctx, nil) == nil {
			cancel()
		}
	})
	in := AwaitInput{
		RoundID: r.result.RoundID, Alarm: r.result.Alarm, Pending: r.late, Attribute: r.attribute(), Evidence: true, Asked: r.result.StartedAt,
	}
	r.awaitVMs(ctx, in, d, "look on for guests that ignored their shutdown")
	stopTimer()
	if r.unsure { // no worker was there to tell
		settle := r.actInput(r.late)
		settle.OnlyLook, settle.StillOn, settle.Late = true, preemptapi.ReasonIgnored, true
		r.evict(settle, "look who is still on")
	}
	return len(r.result.Preempted()) != before
}
