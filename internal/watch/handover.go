package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch/contract"
)

// news is an event for the rules.
type news struct {
	trigger.Incoming
	marks []contract.Mark // of the event and of those that it makes obsolete; none where the comparison of states made it up
}

// handOver gives the events to the rules, oldest first; caught tells that the comparison of states made
// them up. Events of different scopes go side by side, those of one scope one after the other. The
// checkpoint moves on with them, so that whoever goes on after an interruption repeats nothing.
func (f *follower) handOver(ctx context.Context, events []news, caught bool) error {
	todo := map[contract.Mark]bool{}
	for _, n := range events {
		for _, m := range n.marks {
			todo[m] = true
		}
	}
	for len(events) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, scopes := 0, map[string]bool{}
		for n < len(events) && n < sideBySide && !scopes[scopeOf(events[n].Event)] {
			scopes[scopeOf(events[n].Event)] = true
			n++
		}
		if err := f.give(ctx, events[:n], caught); err != nil {
			return err
		}
		for _, given := range events[:n] {
			for _, m := range given.marks {
				delete(todo, m)
			}
		}
		f.moveOn(todo)
		f.record()
		events = events[n:]
	}
	return nil
}

// moveOn moves the checkpoint behind the events before the first that is still to be handed over.
func (f *follower) moveOn(todo map[contract.Mark]bool) {
	n := 0
	for n < len(f.behind) && !todo[markOf(f.behind[n])] {
		n++
	}
	f.reached(f.behind[:n])
	f.behind = f.behind[n:]
}

// sideBySide bounds how many events are given at once.
const sideBySide = 16

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
// can never be acted upon is logged; an error means that those which Temporal did not take are to be given again.
func (f *follower) give(ctx context.Context, events []news, caught bool) error {
	all := make([]given, len(events))
	var wg sync.WaitGroup
	for i, n := range events {
		wg.Go(func() { all[i].res, all[i].err = f.Engine.Handle(context.WithoutCancel(ctx), n.Incoming) })
	}
	wg.Wait()
	var errs []error
	for i, n := range events {
		f.count(n.Event, all[i])
		if err := all[i].err; err != nil && !errors.Is(err, trigger.ErrRefused) {
			errs = append(errs, err)
			continue
		}
		f.account(n.Event, all[i], caught)
		f.mark(n.marks)
	}
	return errors.Join(errs...)
}

// count moves the figures.
func (f *follower) count(e alarm.Event, g given) {
	result, at := string(g.res.Verdict), e.Power.Time
	switch {
	case errors.Is(g.err, trigger.ErrRefused):
		result = "refused"
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
	note := contract.Note{
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
	marks []contract.Mark
	known map[contract.Mark]bool
}

func newDealt(marks []contract.Mark) *dealt {
	d := &dealt{known: map[contract.Mark]bool{}}
	for _, m := range marks {
		d.add(m)
	}
	return d
}

// add takes a mark in; false means that it was in already.
func (d *dealt) add(m contract.Mark) bool {
	if d.known[m] {
		return false
	}
	d.known[m] = true
	d.marks = append(d.marks, m)
	return true
}

// forget drops what happened before that time.
func (d *dealt) forget(before time.Time) {
	d.marks = slices.DeleteFunc(d.marks, func(m contract.Mark) bool {
		old := m.Time.Before(before)
		if old {
			delete(d.known, m)
		}
		return old
	})
}

// newest returns the newest marks, as many as a checkpoint holds, the oldest of them first.
func (d *dealt) newest() []contract.Mark {
	marks := slices.Clone(d.marks)
	slices.SortStableFunc(marks, func(a, b contract.Mark) int { return a.Time.Compare(b.Time) })
	return marks[max(0, len(marks)-maxSeen):]
}

// since is from where to read on after a checkpoint: a little before what was reached, unless more happened
// in that little than the checkpoint holds marks of.
func since(c contract.Checkpoint) time.Time {
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
func (f *follower) mark(marks []contract.Mark) {
	for _, m := range marks {
		if f.dealt.add(m) {
			f.point.Events++
		}
	}
}

// reached moves the checkpoint behind the events.
func (f *follower) reached(events []vcenter.StreamEvent) {
	for _, e := range events {
		f.mark([]contract.Mark{markOf(e)})
		if e.Time.After(f.point.Reached) {
			f.point.Reached = e.Time
		}
	}
}

func markOf(e vcenter.StreamEvent) contract.Mark { return contract.Mark{Key: e.Key, Time: e.Time} }
