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
)

// handOver gives the events to the rules, oldest first; caught says that the comparison of states made
// them up. Events of different queues go side by side, those of one queue one after the other. The
// checkpoint moves on with them, so that whoever goes on after an interruption repeats nothing.
func (f *follower) handOver(ctx context.Context, events []event, caught bool) error {
	for _, e := range events {
		for _, m := range e.marks {
			f.pending[m] = true
		}
	}
	var w waiting
	accepted := f.accepted
	events = slices.Clone(events) // its room is used again
	for len(events) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var batch []event
		batch, events = sideBySide(events)
		f.handOverBatch(ctx, batch, caught, &w)
		f.advance()
		f.record()
		if len(w.queues) >= atOnce && w.outage() {
			return w.err() // the rest would fare no better
		}
		events = w.behind(events)
	}
	f.noteFailures(&w, accepted)
	if !f.setAsideDue(ctx, &w) {
		return w.err()
	}
	for _, e := range w.events {
		f.setAside(e, w.queues[e.about.Queue])
		f.done(e)
	}
	f.advance()
	f.record()
	return nil
}

// handOverBatch gives the events to the rules side by side. Those that Temporal did not take wait, but for those that
// are aside already.
func (f *follower) handOverBatch(ctx context.Context, batch []event, caught bool, w *waiting) {
	for i, err := range f.send(ctx, batch, caught) {
		e := batch[i]
		switch {
		case err == nil:
			w.taken = true
			f.accepted++
		case f.aside[e.about.Subject] != nil:
			f.setAside(e, err)
		default:
			w.add(e, err)
			continue
		}
		f.done(e)
	}
}

// done says that this poll has nothing more to do with the event.
func (f *follower) done(e event) {
	for _, m := range e.marks {
		delete(f.pending, m)
	}
}

// atOnce bounds how many events are given to the rules at once.
const atOnce = 16

// ahead bounds how many events are looked at for those that go side by side, so that a flood takes no longer for each.
const ahead = 16 * atOnce

// sideBySide takes the first events of different queues that may be handed over at once; those that follow in the same
// queues stay, in their order. It reuses the room of events.
func sideBySide(events []event) (batch, rest []event) {
	queues := map[string]bool{}
	var passed []event
	n := 0
	for ; n < min(len(events), ahead) && len(batch) < atOnce; n++ {
		e := events[n]
		if queues[e.about.Queue] {
			passed = append(passed, e)
			continue
		}
		batch = append(batch, e)
		queues[e.about.Queue] = true
	}
	rest = events[n-len(passed):]
	copy(rest, passed)
	return batch, rest
}

// withoutHandedOver leaves out what was handed over already, by an earlier poll or by the comparison of states. What
// follows a later change of the same alarm was not: after a fall, the colour that was handed over is a new rise.
func (f *follower) withoutHandedOver(events []event) []event {
	changed := map[instance]bool{}
	return slices.DeleteFunc(events, func(e event) bool {
		change, ok := e.Event.Change()
		if !ok || changed[instanceOf(change)] {
			return false
		}
		if f.handedOver(e) {
			return true
		}
		level := f.level(change)
		changed[instanceOf(change)] = level != nil && change.Time.After(level.Time)
		return false
	})
}

// handedOver reports whether an alarm was handed over with this colour.
func (f *follower) handedOver(e event) bool {
	change, ok := e.Event.Change()
	if !ok {
		return false
	}
	level := f.level(change)
	if level == nil || level.Colour != change.To {
		return false
	}
	return level.Time.Equal(change.Time) || level.Caught && change.Time.Sub(level.Time).Abs() < time.Minute
}

// overtaken reports whether the comparison of states found the alarm up soon after this change.
func (f *follower) overtaken(change alarm.Alarm) bool {
	level := f.level(change)
	if level == nil || !level.Caught {
		return false
	}
	before := level.Time.Sub(change.Time)
	return before > 0 && before < time.Minute // further back, vCenter's clock was set back
}

// outcome is what became of an event.
type outcome struct {
	res trigger.Result
	err error
}

// send hands events over side by side and remembers what became of each. It is not cut short, for then it
// would not be known whether Temporal has an event; the engine bounds how long each may take. An event that
// can never be acted upon is logged; the errors are of those which Temporal did not take, to be given again.
func (f *follower) send(ctx context.Context, events []event, caught bool) []error {
	all := make([]outcome, len(events))
	var wg sync.WaitGroup
	for i, e := range events {
		wg.Go(func() { all[i].res, all[i].err = f.Engine.Handle(context.WithoutCancel(ctx), e.Incoming) })
	}
	wg.Wait()
	errs := make([]error, len(events))
	for i, e := range events {
		f.count(e, all[i])
		if err := all[i].err; err != nil && !errors.Is(err, trigger.ErrRefused) {
			errs[i] = err
			continue
		}
		f.account(e, all[i], caught)
		f.markHandled(e.marks)
		f.clearAside(e)
	}
	return errs
}

// count moves the figures.
func (f *follower) count(e event, o outcome) {
	result := string(o.res.Verdict)
	switch {
	case errors.Is(o.err, trigger.ErrRefused):
		result = "refused"
	case errors.As(o.err, new(*trigger.BacklogError)):
		result = "backlog"
	case o.err != nil:
		result = "unavailable"
	}
	f.counted(e, result)
	if o.err == nil && o.res.Verdict == trigger.Sent {
		f.metrics.Timer("preemption_watch_event_lag").Record(time.Since(e.about.Time))
	}
}

func (f *follower) counted(e event, result string) {
	f.metrics.WithTags(map[string]string{"type": string(e.Event.Class), "result": result}).Counter("preemption_watch_events").Inc(1)
}

// account writes into the checkpoint what became of one event.
func (f *follower) account(e event, o outcome, caught bool) {
	note := watchapi.Note{
		At: time.Now().UTC(), Class: string(e.Event.Class), Rule: o.res.Rule, WorkflowID: o.res.WorkflowID, What: o.res.What, Reason: o.res.Reason,
		Time: e.about.Time.UTC(), Entity: e.about.Entity.Ref(), To: e.about.To,
	}
	change, ok := e.Event.Change()
	if ok {
		note.Alarm = change.Name
	}
	f.noteIdle(e, o)
	switch {
	case o.err != nil:
		f.checkpoint.Refused++
		note.Reason = clip(o.err.Error())
		f.checkpoint.LastRefused = &note
		f.log.Warn("an event matches a rule and cannot be acted upon", "alarm", note.Alarm, "entity", note.Entity, "to", note.To, "reason", o.err)
	case o.res.Verdict == trigger.Sent:
		f.checkpoint.Sent++
		if caught {
			f.checkpoint.Caught++
		}
		f.checkpoint.LastSent = &note
		f.remember(e, caught)
		f.log.Info("event handed over", "alarm", note.Alarm, "entity", note.Entity, "to", note.To, "rule", note.Rule,
			"started", note.WorkflowID, "what", note.What, "caught", caught)
	case o.res.Rule != "" && ok && !change.Up(): // the rule ignores falls: it need not be told of this one again
		f.forget(change)
	}
	f.checkpoint.Last = &note
}

// noteIdle remembers about which alarms that are up the rules do nothing, so that they are not given again at
// every comparison of states.
func (f *follower) noteIdle(e event, o outcome) {
	change, ok := e.Event.Change()
	if !ok {
		return
	}
	delete(f.idle, instanceOf(change))
	if o.res.Verdict != trigger.Sent && o.res.Rule != "" && change.Up() {
		f.idle[instanceOf(change)] = change.To
	}
}
