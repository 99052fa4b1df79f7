package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// news is an event for the rules.
type news struct {
	trigger.Incoming
	marks []watchapi.Mark // of the event and of those that it makes obsolete; none where the comparison of states made it up
}

// handOver gives the events to the rules, oldest first; caught tells that the comparison of states made
// them up. Events of different scopes go side by side, those of one scope one after the other. The
// checkpoint moves on with them, so that whoever goes on after an interruption repeats nothing.
func (f *follower) handOver(ctx context.Context, events []news, caught bool) error {
	for _, n := range events {
		for _, m := range n.marks {
			f.todo[m] = true
		}
	}
	var held held
	took := f.took
	for len(events) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var batch []news
		batch, events = sideBySide(events)
		for i, err := range f.give(ctx, batch, caught) {
			switch {
			case err == nil:
				held.taken = true
				f.took++
			case f.aside[asideKey(batch[i].Event)] != nil:
				f.setAside(batch[i], err)
			default:
				held.add(batch[i], err)
				continue
			}
			f.done(batch[i])
		}
		f.moveOn()
		f.record()
		if len(held.scopes) >= atOnce && held.outage() {
			return held.err() // the rest would fare no better
		}
		events = held.behind(events)
	}
	f.failed(&held, took)
	if !f.single(ctx, &held) {
		return held.err()
	}
	for _, n := range held.events {
		f.setAside(n, held.scopes[scopeOf(n.Event)])
		f.done(n)
	}
	f.moveOn()
	f.record()
	return nil
}

func (f *follower) done(n news) {
	for _, m := range n.marks {
		delete(f.todo, m)
	}
}

// sideBySide takes the first events of different scopes that may be given at once; those that follow in the same
// scopes stay, in their order.
func sideBySide(events []news) (batch, rest []news) {
	scopes := map[string]bool{}
	for _, n := range events {
		scope := scopeOf(n.Event)
		if len(batch) < atOnce && !scopes[scope] {
			batch = append(batch, n)
		} else {
			rest = append(rest, n)
		}
		scopes[scope] = true
	}
	return batch, rest
}

// moveOn moves the checkpoint behind the events before the first that is still to be handed over.
func (f *follower) moveOn() {
	n := 0
	for n < len(f.behind) && !f.todo[markOf(f.behind[n])] {
		n++
	}
	f.reached(f.behind[:n])
	f.behind = f.behind[n:]
}

// atOnce bounds how many events are given at once.
const atOnce = 16

func scopeOf(e alarm.Event) string {
	if e.Class == alarm.ClassAlarm {
		return e.Alarm.Name + "@" + e.Alarm.Scope().Ref()
	}
	return e.Power.VM.Ref()
}

// unknown leaves out what was handed over already, by an earlier look or by the comparison of states.
func (f *follower) unknown(events []news) []news {
	return slices.DeleteFunc(events, func(n news) bool { return f.known(n.Event) })
}

func (f *follower) known(e alarm.Event) bool {
	if e.Class != alarm.ClassAlarm {
		return false
	}
	level := f.level(e.Alarm)
	if level == nil || level.Colour != e.Alarm.To {
		return false
	}
	return level.Time.Equal(e.Alarm.Time) || level.Caught && e.Alarm.Time.Sub(level.Time).Abs() < time.Minute
}

// given is what became of an event.
type given struct {
	res trigger.Result
	err error
}

// give hands events over side by side and remembers what became of each. It is not cut short, for then it
// would not be known whether Temporal has an event; the engine bounds how long each may take. An event that
// can never be acted upon is logged; the errors are of those which Temporal did not take, to be given again.
func (f *follower) give(ctx context.Context, events []news, caught bool) []error {
	all := make([]given, len(events))
	var wg sync.WaitGroup
	for i, n := range events {
		wg.Go(func() { all[i].res, all[i].err = f.Engine.Handle(context.WithoutCancel(ctx), n.Incoming) })
	}
	wg.Wait()
	errs := make([]error, len(events))
	for i, n := range events {
		f.count(n.Event, all[i])
		if err := all[i].err; err != nil && !errors.Is(err, trigger.ErrRefused) {
			errs[i] = err
			continue
		}
		f.account(n.Event, all[i], caught)
		f.mark(n.marks)
		f.resume(n.Event)
	}
	return errs
}

// count moves the figures.
func (f *follower) count(e alarm.Event, g given) {
	result, at := string(g.res.Verdict), e.Power.Time
	switch {
	case errors.Is(g.err, trigger.ErrRefused):
		result = "refused"
	case errors.As(g.err, new(*trigger.BacklogError)):
		result = "backlog"
	case g.err != nil:
		result = "unavailable"
	}
	if e.Class == alarm.ClassAlarm {
		at = e.Alarm.Time
	}
	f.metrics.WithTags(map[string]string{"type": e.Class, "result": result}).Counter("preemption_watch_events").Inc(1)
	if g.err == nil && g.res.Verdict == trigger.Sent {
		f.metrics.Timer("preemption_watch_event_lag").Record(time.Since(at))
	}
}

// account remembers what became of one event.
func (f *follower) account(e alarm.Event, g given, caught bool) {
	note := watchapi.Note{
		At: time.Now().UTC(), Class: e.Class, Rule: g.res.Rule, WorkflowID: g.res.WorkflowID, What: g.res.What, Reason: g.res.Reason,
		Time: e.Power.Time.UTC(), Entity: e.Power.VM.Ref(),
	}
	if al := e.Alarm; e.Class == alarm.ClassAlarm {
		note.Time, note.Alarm, note.Entity, note.To = al.Time.UTC(), al.Name, al.Entity.Ref(), al.To
	}
	f.heed(e, g)
	switch {
	case g.err != nil:
		f.point.Refused++
		note.Reason = clip(g.err.Error())
		f.point.LastRefused = &note
		f.log.Warn("an event matches a rule and cannot be acted upon", "alarm", note.Alarm, "entity", note.Entity, "to", note.To, "reason", g.err)
	case g.res.Verdict == trigger.Sent:
		f.point.Sent++
		if caught {
			f.point.Caught++
		}
		f.point.LastSent = &note
		f.remember(e, caught)
		f.log.Info("event handed over", "alarm", note.Alarm, "entity", note.Entity, "to", note.To, "rule", note.Rule,
			"started", note.WorkflowID, "what", note.What, "caught", caught)
	case g.res.Rule != "" && !e.Alarm.Up(): // the rule heeds no falls: it need not be told of this one again
		f.forget(e)
	}
	f.point.Last = &note
}

// heed remembers of which alarms that are up the rules make nothing, so that they are not given again at
// every comparison of states.
func (f *follower) heed(e alarm.Event, g given) {
	if e.Class != alarm.ClassAlarm {
		return
	}
	delete(f.idle, identity(e.Alarm))
	if g.res.Verdict != trigger.Sent && g.res.Rule != "" && e.Alarm.Up() {
		f.idle[identity(e.Alarm)] = e.Alarm.To
	}
}

// maxSeen bounds the marks in a checkpoint. Where more happened within the overlap, whoever goes on reads
// again from the oldest mark that is kept.
const maxSeen = 500

// dealt are the events that this attempt knows as dealt with: those of the checkpoint it began with, and its own.
type dealt struct {
	marks []watchapi.Mark
	known map[watchapi.Mark]bool
}

func newDealt(marks []watchapi.Mark) *dealt {
	d := &dealt{known: map[watchapi.Mark]bool{}}
	for _, m := range marks {
		d.add(m)
	}
	return d
}

// add takes a mark in; false means that it was in already.
func (d *dealt) add(m watchapi.Mark) bool {
	if d.known[m] {
		return false
	}
	d.known[m] = true
	d.marks = append(d.marks, m)
	return true
}

// forget drops what happened before that time.
func (d *dealt) forget(before time.Time) {
	d.marks = slices.DeleteFunc(d.marks, func(m watchapi.Mark) bool {
		old := m.Time.Before(before)
		if old {
			delete(d.known, m)
		}
		return old
	})
}

// newest returns the newest marks, as many as a checkpoint holds, the oldest of them first.
func (d *dealt) newest() []watchapi.Mark {
	marks := slices.Clone(d.marks)
	slices.SortStableFunc(marks, func(a, b watchapi.Mark) int { return a.Time.Compare(b.Time) })
	return marks[max(0, len(marks)-maxSeen):]
}

// since is from where to read on after a checkpoint: a little before what was reached, unless more happened
// in that little than the checkpoint holds marks of.
func since(c watchapi.Checkpoint) time.Time {
	from := c.Reached.Add(-overlap)
	if len(c.Seen) >= maxSeen && c.Seen[0].Time.After(from) {
		from = c.Seen[0].Time
	}
	if from.After(c.Reached) {
		return c.Reached
	}
	return from
}

// mark remembers and counts events as dealt with, each once.
func (f *follower) mark(marks []watchapi.Mark) {
	for _, m := range marks {
		if f.dealt.add(m) {
			f.point.Events++
		}
	}
}

// reached moves the checkpoint behind the events.
func (f *follower) reached(events []vcenter.StreamEvent) {
	present := time.Now().Add(f.offset + overlap) // what is stamped later was so before vCenter's clock was set back
	for _, e := range events {
		f.mark([]watchapi.Mark{markOf(e)})
		if e.Time.After(f.point.Reached) && !e.Time.After(present) {
			f.point.Reached = e.Time
		}
	}
}

func markOf(e vcenter.StreamEvent) watchapi.Mark { return watchapi.Mark{Key: e.Key, Time: e.Time} }
