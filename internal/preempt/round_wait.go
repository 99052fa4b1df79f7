package preempt

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// awaitGuests waits for the guests that were asked to shut down, until all are off, the grace period is
// over, a raise asks for more, or the round is withdrawn; then it deals with those that are still on.
func (r *round) awaitGuests() {
	if len(r.pending) == 0 {
		return
	}
	r.setState(RoundWaiting)
	for len(r.pending) > 0 {
		if left := r.deadline().Sub(workflow.Now(r.ctx)); left > 0 {
			r.look(left)
			continue
		}
		rest := r.younger()
		r.afterGrace()
		if r.pending = rest; len(rest) > 0 {
			r.setState(RoundWaiting)
		}
	}
}

// younger takes those out of the pending VMs whose own grace period is not over: after a notice, guests are
// asked one after the other, as each is ready.
func (r *round) younger() (rest []ActTarget) {
	t := r.treatment()
	if r.notices == 0 || r.withdrawn || t.Action != policy.ActionShutdownGuest {
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
	if t.Action != policy.ActionShutdownGuest && !r.withdrawn {
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

// look watches the pending VMs for a while, or until it is cut short.
func (r *round) look(d time.Duration) {
	ctx, cancel := workflow.WithCancel(r.ctx)
	r.interrupt = cancel
	timer, stopTimer := workflow.WithCancel(r.ctx)
	workflow.Go(timer, func(ctx workflow.Context) {
		if workflow.NewTimer(ctx, d).Get(ctx, nil) == nil {
			cancel()
		}
	})
	r.watch(ctx, AwaitInput{
		RoundID: r.result.RoundID, Alarm: r.result.Alarm, Pending: r.pending, Attribute: r.attribute(), Asked: r.result.StartedAt,
	}, d, "wait for guests to shut down")
	stopTimer()
	r.interrupt = nil
}

// watch runs AwaitVMs and takes over what it saw.
func (r *round) watch(ctx workflow.Context, in AwaitInput, d time.Duration, summary string) {
	var a *Activities
	var res AwaitResult
	ctx = r.options(ctx, d+time.Minute, fmt.Sprintf("%s: %d VMs", summary, len(in.Pending)))
	err := workflow.ExecuteActivity(ctx, a.AwaitVMs, in).Get(ctx, &res)
	if err != nil {
		r.unsure = true
		if !temporal.IsCanceledError(err) {
			workflow.GetLogger(r.ctx).Warn("the wait for guests failed; they are looked at again", "error", err)
			_ = workflow.Sleep(ctx, min(d, 5*r.in.Timing.Retry)) // cut short with the wait itself
		}
		return
	}
	r.unsure = false
	r.pending = res.Pending
	for _, o := range res.Outcomes {
		r.add(o)
	}
}

// afterGrace deals with the VMs that are still on: forced where the policy says so, otherwise spared.
func (r *round) afterGrace() {
	t := r.treatment()
	force := !r.withdrawn && (t.ThenForce || t.Action != policy.ActionShutdownGuest)
	in := r.actInput(r.pending)
	in.Action = policy.ActionPowerOff
	r.pending = nil
	if force {
		r.setState(RoundActing)
		r.evict(in, fmt.Sprintf("force off: %d VMs", len(in.Targets)))
		return
	}
	reason := ReasonIgnored
	if r.withdrawn {
		reason = ReasonShutWithdrawn
	}
	still := in.Targets
	if r.unsure {
		in.Settle, in.StillOn = true, reason
		r.evict(in, "look who is still on")
		still = nil
		for _, t := range in.Targets {
			if o := r.outcomeOf(t.Ref); o.Outcome == OutcomeSpared && o.Reason == reason {
				still = append(still, t)
			}
		}
	} else {
		for _, t := range still {
			o := outcome(t, OutcomeSpared)
			o.Reason = reason
			r.add(o)
		}
	}
	r.late = append(r.late, still...)
}

func (r *round) outcomeOf(ref policy.Ref) VMOutcome {
	for _, o := range r.result.Targets {
		if o.Ref == ref {
			return o
		}
	}
	return VMOutcome{}
}

// lateWatch looks on for guests that ignored their shutdown: one that goes off after all by our shutdown
// is annotated and reported.
func (r *round) lateWatch() (changed bool) {
	d := r.in.Demand.Policy.LateWatch.D()
	if len(r.late) == 0 || d <= 0 {
		return false
	}
	r.setState(RoundWatching)
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
	r.watch(ctx, in, d, "look on for guests that ignored their shutdown")
	stopTimer()
	if r.unsure { // no worker was there to tell
		settle := r.actInput(r.late)
		settle.Settle, settle.StillOn = true, ReasonIgnored
		r.evict(settle, "look who is still on")
	}
	return len(r.result.Preempted()) != before
}
