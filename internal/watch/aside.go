package watch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// aside is an event that was not taken although others were. It holds up no other: the checkpoint moves on,
// and it is given again by itself, at growing intervals. After a change of workers an alarm comes again by the
// comparison of states.
type aside struct {
	event
	err   error
	tries int
	since time.Time
	next  time.Time
}

// How often what was set aside is given again, and how much of it is kept.
const (
	asideFirst = time.Second
	asideMost  = time.Minute
	maxAside   = 500
	maxShown   = 20 // in the checkpoint
)

// In how many polls an event is tried before it is set aside: after a change of workers, the comparison of states finds an
// alarm again, and nothing finds any other event.
const (
	patience     = 3
	longPatience = 30
)

// waiting are the events that Temporal did not take in one poll, and those that wait behind them in the same queues.
type waiting struct {
	events []event
	queues map[string]error // why each of their queues waits
	taken  bool             // Temporal took other events
}

func (w *waiting) add(e event, err error) {
	if w.queues == nil {
		w.queues = map[string]error{}
	}
	w.events, w.queues[e.about.Queue] = append(w.events, e), err
}

// behind keeps of the events those whose queues do not wait.
func (w *waiting) behind(events []event) []event {
	if len(w.queues) == 0 {
		return events
	}
	return slices.DeleteFunc(events, func(e event) bool {
		_, waits := w.queues[e.about.Queue]
		if waits {
			w.events = append(w.events, e)
		}
		return waits
	})
}

// backlogs reports whether each failed because too much waits at its own workflow.
func (w *waiting) backlogs() bool {
	for _, err := range w.queues {
		if !errors.As(err, new(*trigger.BacklogError)) {
			return false
		}
	}
	return true
}

// outage reports whether nothing shows that Temporal takes any event.
func (w *waiting) outage() bool { return !w.taken && !w.backlogs() }

func (w *waiting) err() error {
	errs := make([]error, 0, len(w.queues))
	for _, err := range w.queues {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// setAsideDue reports whether the events that wait are to be set aside: they failed in several polls in a row, while
// Temporal took others, or answered with an error that does not mean an outage. Until then the checkpoint waits for
// them, and other events go on all the same.
func (f *follower) setAsideDue(ctx context.Context, w *waiting) bool {
	if len(w.events) == 0 {
		return true
	}
	if w.outage() && f.mayBeOutage(ctx, w) {
		return false
	}
	due := true
	for _, e := range w.events {
		most := patience
		if _, change := e.Event.Change(); !change {
			most = longPatience
		}
		failure := f.failures[e.about.Subject]
		failure.polls++
		due = due && failure.polls >= most
	}
	return due
}

// failure is what is known of an event that was not taken yet.
type failure struct {
	polls    int // in which it failed
	accepted int // how many events Temporal had taken before the first of them
}

// noteFailures remembers the events that were not taken by a poll that began when Temporal had taken so many.
func (f *follower) noteFailures(w *waiting, accepted int) {
	if f.failures == nil {
		f.failures = map[string]*failure{}
	}
	for _, e := range w.events {
		if f.failures[e.about.Subject] == nil {
			f.failures[e.about.Subject] = &failure{accepted: accepted}
		}
	}
}

// mayBeOutage reports whether an outage may be why nothing was taken: the errors say so, and Temporal has taken nothing
// else since the events first failed, or does not answer now.
func (f *follower) mayBeOutage(ctx context.Context, w *waiting) bool {
	outage := false
	for _, err := range w.queues {
		outage = outage || trigger.Away(err)
	}
	if !outage {
		return false
	}
	for _, e := range w.events {
		if f.accepted == f.failures[e.about.Subject].accepted {
			return true
		}
	}
	return !f.Engine.Answers(ctx)
}

// setAside keeps an event to be given again by itself; a newer change of the same alarm takes the place of an older one.
func (f *follower) setAside(e event, err error) {
	subject := e.about.Subject
	a := f.aside[subject]
	if a == nil {
		if len(f.aside) >= maxAside {
			f.log.Error("an event cannot be handed over and is given up, as too many were set aside", "event", subject, "reason", err)
			f.markHandled(e.marks)
			return
		}
		a = &aside{since: time.Now().UTC()}
		if f.aside == nil {
			f.aside = map[string]*aside{}
		}
		f.aside[subject] = a
		f.log.Warn("an event cannot be handed over: it is set aside and given again, and the watch goes on", "event", subject, "reason", err)
	}
	delete(f.failures, subject)
	a.event, a.err = e, err
	a.tries++
	a.next = time.Now().Add(min(asideFirst<<min(a.tries-1, 5), asideMost))
	f.counted(e, "set_aside")
	f.markHandled(e.marks)
	f.showAside()
}

// clearAside forgets that an event was set aside: it, or a newer one of the same subject, was handed over.
func (f *follower) clearAside(e event) {
	subject := e.about.Subject
	delete(f.failures, subject)
	if a := f.aside[subject]; a != nil {
		f.log.Info("an event that was set aside was handed over", "event", subject, "tries", a.tries)
		delete(f.aside, subject)
		f.showAside()
	}
}

// asideDue returns what was set aside and is to be given again, unless a fresh event makes it obsolete.
func (f *follower) asideDue(fresh []event) (due []event) {
	for subject, a := range f.aside {
		newer := slices.ContainsFunc(fresh, func(e event) bool { return e.about.Subject == subject })
		if !newer && !time.Now().Before(a.next) {
			due = append(due, event{Incoming: a.Incoming, about: a.about})
		}
	}
	slices.SortFunc(due, func(a, b event) int { return strings.Compare(a.about.Subject, b.about.Subject) })
	return due
}

// dropAside forgets what was set aside of alarms that have another state now.
func (f *follower) dropAside(up map[instance]alarm.Alarm) {
	for subject, a := range f.aside {
		if change, ok := a.Event.Change(); ok && change.Up() && up[instanceOf(change)].To != change.To {
			f.log.Info("an event that was set aside is over", "event", subject)
			delete(f.aside, subject)
		}
	}
	f.showAside()
}

// isAside reports whether this state of an alarm was set aside.
func (f *follower) isAside(e event) bool {
	a := f.aside[e.about.Subject]
	return a != nil && a.about.To == e.about.To
}

// showAside writes into the checkpoint what is set aside.
func (f *follower) showAside() {
	subjects := make([]string, 0, len(f.aside))
	for subject := range f.aside {
		subjects = append(subjects, subject)
	}
	slices.Sort(subjects)
	f.checkpoint.Aside, f.checkpoint.AsideCount = nil, len(subjects)
	for _, subject := range subjects[:min(len(subjects), maxShown)] {
		a := f.aside[subject]
		f.checkpoint.Aside = append(f.checkpoint.Aside, watchapi.Aside{Event: clip(subject), Reason: clip(a.err.Error()), Tries: a.tries, Since: a.since})
	}
}
