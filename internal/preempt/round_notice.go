package preempt

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// warned is a target whose notice runs.
type warned struct {
	policy.Target
	since    time.Time
	deadline time.Time
	extended bool
	told     bool // it knows of it
	doubtful bool // it may know of it: vCenter's answer was lost
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
	r.setState(preemptapi.RoundNotified)
	r.announce(open)
	for len(open) > 0 && !r.withdrawn {
		due := r.due(open)
		if len(due) == 0 {
			r.listenToGuests(open)
			continue
		}
		taken := make(map[*warned]bool, len(due))
		for _, w := range due {
			taken[w] = true
		}
		open = slices.DeleteFunc(open, func(w *warned) bool { return taken[w] })
		if r.in.Demand.NoticeOnly {
			r.settleWarned(due, preemptapi.ReasonRehearsed)
			continue
		}
		r.forgetBeforeSuspend(due)
		again := r.act(PlanResult{Targets: targetsOf(due), PlannedAt: workflow.Now(r.ctx)})
		stale = stale || again
		if len(open) > 0 && !r.withdrawn {
			r.setState(preemptapi.RoundNotified)
		}
	}
	r.settleWarned(open, preemptapi.ReasonWithdrawn)
	r.tellSpared(all)
	r.result.Deadline = time.Time{}
	return stale && !r.withdrawn
}

// forgetBeforeSuspend clears the notices of VMs that take no change once they are preempted, as suspended ones.
func (r *round) forgetBeforeSuspend(due []*warned) {
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
	res := r.tellGuests(open, &Notice{
		State: noticePending, Action: r.treatment().Action, Deadline: last.UTC(), Reason: r.why(),
		Decision: r.result.RoundID, Extend: r.noticeTime().String(),
	}, true)
	for _, w := range open {
		switch reason, failed := res.Untold[w.Ref.String()]; {
		case failed:
			w.told, w.ready, w.note = false, true, "none: "+reason
			if w.doubtful = res.Doubtful[w.Ref.String()]; w.doubtful {
				w.note = "perhaps: vCenter's answer was lost, and it is taken back: " + reason
			}
		case w.told:
			w.note = "given"
		}
	}
	r.sendNotice(open, last)
}

// tellGuests writes a notice into those guests that can be told, or clears it, and returns who was not told.
// What takes a notice back waits for vCenter.
func (r *round) tellGuests(guests []*warned, n *Notice, fresh bool) NoticeResult {
	in := NoticeInput{Notice: n, Fresh: fresh, Wait: n == nil || n.State == noticeWithdrawn}
	for _, w := range guests {
		if w.told || w.doubtful {
			in.Targets = append(in.Targets, NoticeTarget{Ref: w.Ref, Name: w.Name, ToolsRunning: w.ToolsRunning})
		}
	}
	if len(in.Targets) == 0 {
		return NoticeResult{}
	}
	what := "clear the notices"
	if n != nil {
		what = "give notice (" + n.State + ")"
	}
	if !r.inParts(len(in.Targets)) {
		return r.giveNotice(in, what)
	}
	all := NoticeResult{Untold: map[string]string{}, Doubtful: map[string]bool{}}
	for part := range slices.Chunk(in.Targets, maxPart) {
		some := in
		some.Targets = part
		res := r.giveNotice(some, what)
		maps.Copy(all.Untold, res.Untold)     //workflowcheck:ignore
		maps.Copy(all.Doubtful, res.Doubtful) //workflowcheck:ignore
	}
	return all
}

// giveNotice runs GiveNotice, and returns who was not told.
func (r *round) giveNotice(in NoticeInput, what string) NoticeResult {
	var a *Activities
	var res NoticeResult
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, ScheduleToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: r.in.Timing.Heartbeat,
		Summary: fmt.Sprintf("%s: %d VMs", what, len(in.Targets)),
	})
	if in.Wait {
		ctx = r.options(r.ctx, time.Minute, fmt.Sprintf("%s: %d VMs", what, len(in.Targets)))
	}
	if err := workflow.ExecuteActivity(ctx, a.GiveNotice, in).Get(ctx, &res); err != nil {
		res = NoticeResult{Untold: map[string]string{}, Doubtful: map[string]bool{}}
		doubtful := workflow.GetVersion(r.ctx, "doubtful-notices", workflow.DefaultVersion, 1) > workflow.DefaultVersion
		for _, t := range in.Targets {
			res.Untold[t.Ref.String()], res.Doubtful[t.Ref.String()] = cause(err), doubtful
		}
	}
	return res
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
	in.Gather = gather(len(in.Targets), left)
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

// heard takes the guests' answers: ready ones are due, and one extension each is granted, of at most the
// length of the notice.
func (r *round) heard(open []*warned, replies []GuestReply) {
	of := make(map[vsphere.Ref]*warned, len(open))
	for _, w := range open {
		of[w.Ref] = w
	}
	var extended []*warned
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

// maxOneByOne is how many guests are told of their extension one by one.
const maxOneByOne = 50

// versionTogether marks the rounds that tell many guests together that they have more time.
const versionTogether = "many-extensions-together"

// tellExtended tells guests that they have more time: many of them those together that have as much.
func (r *round) tellExtended(all []*warned) {
	notice := func(deadline time.Time) *Notice {
		return &Notice{State: noticeExtended, Action: r.treatment().Action, Deadline: deadline.UTC(), Reason: r.why(), Decision: r.result.RoundID}
	}
	if len(all) <= maxOneByOne || workflow.GetVersion(r.ctx, versionTogether, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		for _, w := range all {
			r.note(fmt.Sprintf("%s asked for more time: acted upon at %s", w.Name, w.deadline.UTC().Format(time.RFC3339)))
			r.tellGuests([]*warned{w}, notice(w.deadline), true)
		}
		return
	}
	r.note(fmt.Sprintf("%d guests asked for more time", len(all)))
	slices.SortStableFunc(all, func(a, b *warned) int { return a.deadline.Compare(b.deadline) })
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].deadline.Sub(all[0].deadline) < time.Second {
			n++
		}
		r.tellGuests(all[:n], notice(all[0].deadline), true)
		all = all[n:]
	}
}

func (r *round) settleWarned(all []*warned, reason string) { r.settleAll(targetsOf(all), reason) }

// tellSpared tells the guests of those that are spared that nothing happens after all. The others' notices
// are cleared when all is over.
func (r *round) tellSpared(all []*warned) {
	var spared, settled []*warned
	for _, w := range all {
		if r.outcomeOf(w.Ref).Outcome != action.Spared {
			r.noticed = append(r.noticed, w)
			continue
		}
		if w.told || w.doubtful {
			w.note += ", withdrawn"
			spared = append(spared, w)
		}
		settled = append(settled, w)
	}
	r.noteNotices(settled)
	r.tellGuests(spared, &Notice{
		State: noticeWithdrawn, Action: "none", Deadline: workflow.Now(r.ctx).UTC(), Reason: "the VM is spared", Decision: r.result.RoundID,
	}, true)
}

// noteNotices writes into the targets' outcomes what became of their notices.
func (r *round) noteNotices(all []*warned) {
	for _, w := range all {
		if o, ok := r.targets.decided[w.Ref]; ok {
			o.Notice = w.note
			r.targets.decided[w.Ref] = o
		}
	}
	r.relist()
}

// clearNotices ends the notices of those that were acted upon: none must be there at a later power-on.
func (r *round) clearNotices() {
	all := r.noticed
	r.noticed = nil
	var off, on []*warned
	for _, w := range all {
		switch o := r.outcomeOf(w.Ref); {
		case o.Ref.Zero(): // left to a new plan, or decided there
		case o.Outcome == action.Spared:
			on = append(on, w)
		default:
			off = append(off, w)
		}
	}
	r.noteNotices(all)
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
		Summary: "announce to " + clip(shown.Redact(r.in.Demand.ReplyTo)),
	})
	sent := workflow.ExecuteActivity(ctx, a.SendPreemptedEvent, in)
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		if err := sent.Get(ctx, nil); err != nil {
			r.result.ReplyError = "the notice: " + cause(err)
		}
	})
}
