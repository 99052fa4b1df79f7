package preempt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// warned is a target whose notice runs.
type warned struct {
	policy.Target
	since    time.Time
	deadline time.Time
	extended bool
	told     bool // it knows of it
	ready    bool
	note     string // what became of the notice
}

// warn gives the targets their notice and acts on each when its time has come: at its deadline, when its
// guest says that it is ready, at once where the guest cannot be told, or sooner when the alarm rises. A
// withdrawal spares those not yet acted upon and tells their guests so. It returns true when some were left
// untouched for a new plan.
func (r *round) warn(plan PlanResult) (stale bool) {
	d := r.noticeTime()
	if d <= 0 || len(plan.Targets) == 0 {
		return r.act(plan)
	}
	now := workflow.Now(r.ctx)
	var open []*warned
	for _, t := range plan.Targets {
		open = append(open, &warned{Target: t, since: now, deadline: now.Add(d), told: t.ToolsRunning, ready: !t.ToolsRunning, note: "none: no running tools"})
	}
	all := slices.Clone(open)
	r.notices++
	r.setState(RoundNotified)
	r.announce(open)
	for len(open) > 0 && !r.withdrawn {
		due := r.due(open)
		if len(due) == 0 {
			r.listenToGuests(open)
			continue
		}
		open = slices.DeleteFunc(open, func(w *warned) bool { return slices.Contains(due, w) })
		if r.in.Demand.NoticeOnly {
			r.settleWarned(due, ReasonRehearsed)
			continue
		}
		r.forgetBeforeSuspend(due)
		again := r.act(PlanResult{Targets: targetsOf(due), PlannedAt: workflow.Now(r.ctx)})
		stale = stale || again
		if len(open) > 0 && !r.withdrawn {
			r.setState(RoundNotified)
		}
	}
	r.settleWarned(open, ReasonWithdrawn)
	r.tellSpared(all)
	r.result.Deadline = time.Time{}
	return stale && !r.withdrawn
}

// forgetBeforeSuspend clears the notices of VMs that are about to be suspended: a suspended VM takes no change.
func (r *round) forgetBeforeSuspend(due []*warned) {
	if r.treatment().Action != policy.ActionSuspend {
		return
	}
	r.tellGuests(due, nil, true)
	for _, w := range due {
		w.told = false
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

func targetsOf(all []*warned) (out []policy.Target) {
	for _, w := range all {
		out = append(out, w.Target)
	}
	return out
}

// announce tells the guests, and those who get the replies.
func (r *round) announce(open []*warned) {
	var last time.Time
	for _, w := range open {
		if w.deadline.After(last) {
			last = w.deadline
		}
	}
	r.result.Deadline = last.UTC()
	untold := r.tellGuests(open, &Notice{
		State: noticePending, Action: r.treatment().Action, Deadline: last.UTC(), Reason: r.why(),
		Decision: r.result.RoundID, Extend: r.noticeTime().String(),
	}, true)
	for _, w := range open {
		switch reason, failed := untold[w.Ref.String()]; {
		case failed:
			w.told, w.ready, w.note = false, true, "none: "+reason
		case w.told:
			w.note = "given"
		}
	}
	r.sendNotice(open, last)
}

// tellGuests writes a notice into those guests that can be told, or clears it, and returns who was not told.
func (r *round) tellGuests(all []*warned, n *Notice, fresh bool) map[string]string {
	in := NoticeInput{Notice: n, Fresh: fresh}
	for _, w := range all {
		if w.told {
			in.Targets = append(in.Targets, NoticeTarget{Ref: w.Ref, Name: w.Name, ToolsRunning: w.ToolsRunning})
		}
	}
	if len(in.Targets) == 0 {
		return nil
	}
	what := "clear the notices"
	if n != nil {
		what = "give notice (" + n.State + ")"
	}
	var a *Activities
	var res NoticeResult
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, ScheduleToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: r.in.Timing.Heartbeat,
		Summary: fmt.Sprintf("%s: %d VMs", what, len(in.Targets)),
	})
	if err := workflow.ExecuteActivity(ctx, a.GiveNotice, in).Get(ctx, &res); err != nil {
		res.Untold = map[string]string{}
		for _, t := range in.Targets {
			res.Untold[t.Ref.String()] = cause(err)
		}
	}
	return res.Untold
}

// why is the reason that a guest is told.
func (r *round) why() string {
	d := r.in.Demand
	if d.Change == nil {
		return fmt.Sprintf("%s preemption was asked for", r.criticality)
	}
	return fmt.Sprintf("alarm %s is %s on %s", d.Change.Alarm, d.Change.To, strings.TrimSpace(r.result.ScopeName+" "+d.Change.Entity))
}

// due returns those whose time has come.
func (r *round) due(open []*warned) (due []*warned) {
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
func (r *round) listenToGuests(open []*warned) {
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
	defer r.watchMeanwhile(left)()
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
	ctx = r.options(ctx, left+time.Minute, fmt.Sprintf("listen to %d guests until %s", len(in.Targets), first.UTC().Format(time.RFC3339)))
	if err := workflow.ExecuteActivity(ctx, a.AwaitReplies, in).Get(ctx, &replies); err != nil {
		if !temporal.IsCanceledError(err) {
			_ = workflow.Sleep(r.ctx, min(left, r.in.Timing.Retry))
		}
		return
	}
	r.heard(open, replies)
}

// watchMeanwhile looks on for guests that were asked to shut down while others still have their notice, so
// that each is annotated as soon as it is off, until the function it returns is called.
func (r *round) watchMeanwhile(d time.Duration) (stop func()) {
	if len(r.pending) == 0 {
		return func() {}
	}
	ctx, cancel := workflow.WithCancel(r.ctx)
	over := false
	workflow.Go(ctx, func(ctx workflow.Context) {
		r.watch(ctx, AwaitInput{
			RoundID: r.result.RoundID, Alarm: r.result.Alarm, Pending: r.pending, Attribute: r.attribute(), Asked: r.result.StartedAt,
		}, d, "wait for guests to shut down")
		over = true
	})
	return func() {
		cancel()
		_ = workflow.Await(r.ctx, func() bool { return over }) // r.ctx is never cancelled
	}
}

// heard takes the guests' answers: ready ones are due, and one extension each is granted, of at most the
// length of the notice.
func (r *round) heard(open []*warned, replies []GuestReply) {
	for _, reply := range replies {
		for _, w := range open {
			if w.Ref != reply.Ref || w.extended {
				continue
			}
			if reply.Ready {
				w.ready, w.note = true, "acknowledged"
				continue
			}
			more := min(reply.Extend.D(), r.noticeTime())
			w.extended, w.deadline, w.note = true, w.deadline.Add(more), "extended by "+more.String()
			r.note(fmt.Sprintf("%s asked for more time: acted upon at %s", w.Name, w.deadline.UTC().Format(time.RFC3339)))
			if w.deadline.After(r.result.Deadline) {
				r.result.Deadline = w.deadline.UTC()
			}
			r.tellGuests([]*warned{w}, &Notice{
				State: noticeExtended, Action: r.treatment().Action, Deadline: w.deadline.UTC(), Reason: r.why(), Decision: r.result.RoundID,
			}, true)
		}
	}
}

func (r *round) settleWarned(all []*warned, reason string) { r.settleAll(targetsOf(all), reason) }

// tellSpared tells the guests of those that are spared that nothing happens after all. The others' notices
// are cleared when all is over.
func (r *round) tellSpared(all []*warned) {
	var spared []*warned
	for _, w := range all {
		if r.outcomeOf(w.Ref).Outcome != OutcomeSpared {
			r.noticed = append(r.noticed, w)
			continue
		}
		if w.told {
			w.note += ", withdrawn"
			spared = append(spared, w)
		}
		r.noteNotice(w)
	}
	r.tellGuests(spared, &Notice{
		State: noticeWithdrawn, Action: "none", Deadline: workflow.Now(r.ctx).UTC(), Reason: "the VM is spared", Decision: r.result.RoundID,
	}, true)
}

// noteNotice writes into a target's outcome what became of its notice.
func (r *round) noteNotice(w *warned) {
	for i := range r.result.Targets {
		if r.result.Targets[i].Ref == w.Ref {
			r.result.Targets[i].Notice = w.note
		}
	}
}

// clearNotices ends the notices of those that were acted upon: none must be there at a later power-on.
func (r *round) clearNotices() {
	all := r.noticed
	r.noticed = nil
	var off, on []*warned
	for _, w := range all {
		switch o := r.outcomeOf(w.Ref); {
		case o.Ref.Zero(): // left to a new plan, or decided there
		case o.Outcome == OutcomeSpared:
			on = append(on, w)
		default:
			off = append(off, w)
		}
		r.noteNotice(w)
	}
	r.tellGuests(off, nil, true)
	r.tellGuests(on, &Notice{
		State: noticeWithdrawn, Action: "none", Deadline: workflow.Now(r.ctx).UTC(), Reason: "the VM is spared", Decision: r.result.RoundID,
	}, true)
}

// sendNotice sends the CloudEvent of the notice where replies are wanted: best effort, and nothing waits
// for it.
func (r *round) sendNotice(open []*warned, deadline time.Time) {
	if r.in.Demand.ReplyTo == "" {
		return
	}
	in := ReplyInput{
		Target: r.in.Demand.ReplyTo, ID: fmt.Sprintf("%s-notice-%d", r.result.RoundID, r.notices), Time: workflow.Now(r.ctx),
		Attribute: r.attribute(), Type: preemption.NoticeEventType, Deadline: deadline.UTC(), Action: r.treatment().Action,
	}
	in.Attribute.Preempted = false
	for _, w := range open {
		in.VMs = append(in.VMs, w.Ref)
	}
	var a *Activities
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: max(deadline.Sub(workflow.Now(r.ctx)), time.Second),
		Summary: "announce to " + clip(r.in.Demand.ReplyTo),
	})
	sent := workflow.ExecuteActivity(ctx, a.SendPreemptedEvent, in)
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		if err := sent.Get(ctx, nil); err != nil {
			r.result.ReplyError = "the notice: " + cause(err)
		}
	})
}
