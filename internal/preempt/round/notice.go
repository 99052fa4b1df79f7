package round

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// notified is a target whose notice runs.
type notified struct {
	policy.Target
	since    time.Time
	deadline time.Time
	extended bool
	told     bool // it knows of it
	doubtful bool // it may know of it: vCenter's answer was lost
	ready    bool
	note     string // what became of the notice
}

// giveNoticeAndAct gives the targets their notice and acts on each when its time has come: at its deadline, when its
// guest says that it is ready, at once where the guest cannot be told, or sooner when the alarm rises. A
// withdrawal spares those not yet acted upon and tells their guests so. It returns true when some were left
// untouched for a new plan.
func (r *round) giveNoticeAndAct(plan PlanResult) (stale bool) {
	d := r.noticeTime()
	if d <= 0 || len(plan.Targets) == 0 {
		return r.evictPlanned(plan)
	}
	r.result.NoticeTime = clock.Duration(d)
	now := workflow.Now(r.ctx)
	var open []*notified
	for _, t := range plan.Targets {
		open = append(open, &notified{Target: t, since: now, deadline: now.Add(d), told: t.ToolsRunning, ready: !t.ToolsRunning, note: preemptapi.NoNotice("no running tools")})
	}
	all := slices.Clone(open)
	r.notices++
	r.setState(preemptapi.RoundNotified)
	r.announce(open)
	for len(open) > 0 && !r.withdrawn {
		due := r.due(open)
		if len(due) == 0 {
			r.listenToGuests(open)
			continue
		}
		taken := make(map[*notified]bool, len(due))
		for _, w := range due {
			taken[w] = true
		}
		open = slices.DeleteFunc(open, func(w *notified) bool { return taken[w] })
		if r.in.Demand.NoticeOnly {
			r.spareNotified(due, policy.Because(policy.Rehearsed))
			continue
		}
		r.forgetBeforeSuspend(due)
		again := r.evictPlanned(PlanResult{Targets: targetsOf(due), PlannedAt: workflow.Now(r.ctx), Pools: plan.Pools})
		stale = stale || again
		if len(open) > 0 && !r.withdrawn {
			r.setState(preemptapi.RoundNotified)
		}
	}
	r.spareNotified(open, policy.Because(policy.Withdrawn))
	r.tellSpared(all)
	r.result.Deadline = time.Time{}
	return stale && !r.withdrawn
}

// forgetBeforeSuspend clears the notices of VMs that take no change once they are preempted, as suspended ones.
func (r *round) forgetBeforeSuspend(due []*notified) {
	if r.treatment().Action.Changeable() {
		return
	}
	r.tellGuests(due, nil, true)
	for _, w := range due {
		w.told, w.doubtful = false, false
	}
}

// noticeTime is how long before the action guests are told, by what the criticality means now.
func (r *round) noticeTime() time.Duration {
	d := r.treatment().Notice.D()
	if r.in.Demand.NoticeOnly && d <= 0 {
		d = r.in.Demand.Notice.D()
	}
	return d
}

func targetsOf(all []*notified) (out []policy.Target) {
	for _, w := range all {
		out = append(out, w.Target)
	}
	return out
}

// due returns the targets that are to be acted upon now.
func (r *round) due(open []*notified) (due []*notified) {
	now, notice := workflow.Now(r.ctx), r.noticeTime()
	for _, w := range open {
		if short := w.since.Add(notice); short.Before(w.deadline) && !w.extended {
			w.deadline = short // the alarm has risen since
		}
		if w.ready || notice <= 0 || !w.deadline.After(now) {
			due = append(due, w)
		}
	}
	return due
}

// listenToGuests waits until a guest answers, the first deadline comes, or the urgency changes.
func (r *round) listenToGuests(open []*notified) {
	first := open[0].deadline
	in := RepliesInput{RoundID: r.result.RoundID}
	for _, w := range open {
		if w.deadline.Before(first) {
			first = w.deadline
		}
		if w.told && !w.extended {
			in.Targets = append(in.Targets, w.Ref)
		}
	}
	left := first.Sub(workflow.Now(r.ctx))
	in.Gather = gather(len(in.Targets), left)
	defer r.watchPendingMeanwhile(left)()
	ctx, cancel := workflow.WithCancel(r.ctx)
	r.interrupt = cancel
	defer func() { r.interrupt = nil }()
	timer, stopTimer := workflow.WithCancel(r.ctx)
	defer stopTimer()
	if len(in.Targets) == 0 {
		_ = workflow.Sleep(ctx, left) // cut short by a change of urgency
		return
	}
	workflow.Go(timer, func(c workflow.Context) {
		if workflow.NewTimer(c, left).Get(c, nil) == nil {
			cancel()
		}
	})
	var a *Activities
	var replies []GuestReply
	ctx = r.in.Timing.WithOptions(ctx, left+time.Minute, fmt.Sprintf("listen to %d guests until %s", len(in.Targets), first.UTC().Format(time.RFC3339)))
	if err := workflow.ExecuteActivity(ctx, a.AwaitReplies, in).Get(ctx, &replies); err != nil {
		if !temporal.IsCanceledError(err) {
			_ = workflow.Sleep(r.ctx, min(left, r.in.Timing.Retry))
		}
		return
	}
	r.takeReplies(open, replies)
}

// watchPendingMeanwhile watches guests that were asked to shut down while others still have their notice, so
// that each is annotated as soon as it is off, until the function it returns is called.
func (r *round) watchPendingMeanwhile(d time.Duration) (stop func()) {
	if len(r.pending) == 0 {
		return func() {}
	}
	ctx, cancel := workflow.WithCancel(r.ctx)
	over := false
	workflow.Go(ctx, func(ctx workflow.Context) {
		r.awaitVMs(ctx, AwaitInput{
			RoundID: r.result.RoundID, Alarm: r.result.Alarm, Pending: r.pending, Attribute: r.attribute(), Asked: r.result.StartedAt,
			Ask: !r.withdrawn,
		}, d, "wait for guests to shut down")
		over = true
	})
	return func() {
		cancel()
		_ = workflow.Await(r.ctx, func() bool { return over }) // r.ctx is never cancelled
	}
}

// gather is how long to wait for the answers of more guests when the first has come: each answer that is taken costs
// activities for itself and for all that are listened to.
func gather(guests int, left time.Duration) time.Duration {
	if guests <= 100 {
		return 0
	}
	return min(left/20, 15*time.Second)
}

// takeReplies takes the guests' answers: ready ones are due, and one extension each is granted, of at most the
// length of the notice.
func (r *round) takeReplies(open []*notified, replies []GuestReply) {
	of := make(map[vsphere.Ref]*notified, len(open))
	for _, w := range open {
		of[w.Ref] = w
	}
	var extended []*notified
	for _, reply := range replies {
		w := of[reply.Ref]
		switch {
		case w == nil || w.extended:
		case reply.Ready:
			w.ready, w.note = true, "acknowledged"
		default:
			more := min(reply.Extend.D(), r.noticeTime())
			w.extended, w.deadline, w.note = true, w.deadline.Add(more), "extended by "+more.String()
			if w.deadline.After(r.result.Deadline) {
				r.result.Deadline = w.deadline.UTC()
			}
			extended = append(extended, w)
		}
	}
	r.tellExtended(extended)
}
