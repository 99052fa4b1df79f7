package round

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// announce tells the guests, and those who get the replies.
func (r *round) announce(open []*notified) {
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
			w.told, w.ready, w.note = false, true, preemptapi.NoNotice(reason)
			if w.doubtful = res.Doubtful[w.Ref.String()]; w.doubtful {
				w.note = "perhaps: vCenter's answer was lost, and it is taken back: " + reason
			}
		case w.told:
			w.note = "given"
		}
	}
	r.sendNotice(open, last)
	r.tellNotice(open, last)
}

// tellGuests writes a notice into those guests that can be told, or clears it, and returns who was not told.
// What takes a notice back waits for vCenter.
func (r *round) tellGuests(guests []*notified, n *Notice, fresh bool) NoticeResult {
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
		ctx = r.in.Timing.WithOptions(r.ctx, time.Minute, fmt.Sprintf("%s: %d VMs", what, len(in.Targets)))
	}
	if err := workflow.ExecuteActivity(ctx, a.GiveNotice, in).Get(ctx, &res); err != nil {
		res = NoticeResult{Untold: map[string]string{}, Doubtful: map[string]bool{}}
		doubtful := workflow.GetVersion(r.ctx, "doubtful-notices", workflow.DefaultVersion, 1) > workflow.DefaultVersion
		for _, t := range in.Targets {
			res.Untold[t.Ref.String()], res.Doubtful[t.Ref.String()] = preempt.Cause(err), doubtful
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

// maxOneByOne is how many guests are told of their extension one by one.
const maxOneByOne = 50

// versionTogether marks the rounds that tell many guests together that they have more time.
const versionTogether = "many-extensions-together"

// tellExtended tells guests that they have more time. Many guests are told together if their deadlines are the same.
func (r *round) tellExtended(all []*notified) {
	notice := func(deadline time.Time) *Notice {
		return &Notice{State: noticeExtended, Action: r.treatment().Action, Deadline: deadline.UTC(), Reason: r.why(), Decision: r.result.RoundID}
	}
	if len(all) <= maxOneByOne || workflow.GetVersion(r.ctx, versionTogether, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		for _, w := range all {
			r.note(fmt.Sprintf("%s asked for more time: acted upon at %s", w.Name, w.deadline.UTC().Format(time.RFC3339)))
			r.tellGuests([]*notified{w}, notice(w.deadline), true)
		}
		return
	}
	r.note(fmt.Sprintf("%d guests asked for more time", len(all)))
	slices.SortStableFunc(all, func(a, b *notified) int { return a.deadline.Compare(b.deadline) })
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].deadline.Sub(all[0].deadline) < time.Second {
			n++
		}
		r.tellGuests(all[:n], notice(all[0].deadline), true)
		all = all[n:]
	}
}

func (r *round) spareNotified(all []*notified, reason policy.Explanation) {
	r.spareAll(targetsOf(all), reason)
}

// tellSpared tells the guests of spared VMs that nothing happens after all. The notices of the others are cleared at
// the end.
func (r *round) tellSpared(all []*notified) {
	var spared, settled []*notified
	for _, w := range all {
		if r.outcomeOf(w.Ref).Outcome != action.Spared {
			r.toClear = append(r.toClear, w)
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
func (r *round) noteNotices(all []*notified) {
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
	all := r.toClear
	r.toClear = nil
	var off, on []*notified
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
func (r *round) sendNotice(open []*notified, deadline time.Time) {
	if r.in.Demand.ReplyTo == "" {
		return
	}
	in := preempt.ReplyInput{
		Target: r.in.Demand.ReplyTo, ID: fmt.Sprintf("%s-notice-%d", r.result.RoundID, r.notices), Time: workflow.Now(r.ctx),
		Attribute: r.attribute(), Type: preemption.NoticeEventType, Deadline: deadline.UTC(), Action: r.treatment().Action,
	}
	in.Attribute.Preempted = false
	for _, w := range open {
		in.VMs = append(in.VMs, w.Ref)
	}
	for _, w := range open {
		in.Name(w.Ref, w.Name)
	}
	var a *preempt.Replies
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: max(deadline.Sub(workflow.Now(r.ctx)), time.Second),
		Summary: "announce to " + preempt.Clip(shown.Redact(r.in.Demand.ReplyTo)),
	})
	sent := workflow.ExecuteActivity(ctx, a.SendPreemptedEvent, in)
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		if err := sent.Get(ctx, nil); err != nil {
			r.result.ReplyError = "the notice: " + preempt.Cause(err)
		}
	})
}
