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

// aside is an event that could not be handed over although others could. It holds up nobody: the checkpoint moves on,
// and it is given again by itself, at growing intervals. After a change of workers an alarm comes again by the
// comparison of states.
type aside struct {
	news
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
	maxTold    = 20 // in the checkpoint
)

// In how many looks an event is tried before it is set aside: what is no alarm is not found again by the comparison of
// states, after a change of workers.
const (
	patience     = 3
	longPatience = 30
)

// held are the events that Temporal did not take in one go, and those that wait behind them in the same scopes.
type held struct {
	events []news
	scopes map[string]error // why each of their scopes is held
	taken  bool             // Temporal took other events
}

func (h *held) add(n news, err error) {
	if h.scopes == nil {
		h.scopes = map[string]error{}
	}
	h.events, h.scopes[scopeOf(n.Event)] = append(h.events, n), err
}

// behind keeps of the events those whose scopes are not held.
func (h *held) behind(events []news) []news {
	return slices.DeleteFunc(events, func(n news) bool {
		_, waits := h.scopes[scopeOf(n.Event)]
		if waits {
			h.events = append(h.events, n)
		}
		return waits
	})
}

// own reports whether too much waits at each one's own workflow.
func (h *held) own() bool {
	for _, err := range h.scopes {
		if !errors.As(err, new(*trigger.BacklogError)) {
			return false
		}
	}
	return true
}

// outage reports whether nothing shows that Temporal takes any event.
func (h *held) outage() bool { return !h.taken && !h.own() }

func (h *held) err() error {
	errs := make([]error, 0, len(h.scopes))
	for _, err := range h.scopes {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// single reports whether what could not be handed over is to be set aside: it failed in several looks in a row, while
// Temporal took others, or answered with an error that tells of no outage. Until then the checkpoint waits for it, and
// the other events go on all the same.
func (f *follower) single(ctx context.Context, h *held) bool {
	if len(h.events) == 0 {
		return true
	}
	if h.outage() && f.away(ctx, h) {
		return false
	}
	enough := true
	for _, n := range h.events {
		key, most := asideKey(n.Event), patience
		if n.Event.Class != alarm.ClassAlarm {
			most = longPatience
		}
		f.tried[key].looks++
		enough = enough && f.tried[key].looks >= most
	}
	return enough
}

// failure is what is known of an event that was not taken yet.
type failure struct {
	looks int // in which it failed
	took  int // how many events Temporal had taken before the first of them
}

// failed remembers that events of a look that began when Temporal had taken so many were not taken.
func (f *follower) failed(h *held, took int) {
	if f.tried == nil {
		f.tried = map[string]*failure{}
	}
	for _, n := range h.events {
		if key := asideKey(n.Event); f.tried[key] == nil {
			f.tried[key] = &failure{took: took}
		}
	}
}

// away reports whether an outage may be why nothing was taken: the errors say so, and Temporal has taken nothing else
// since the events first failed, or does not answer now.
func (f *follower) away(ctx context.Context, h *held) bool {
	outage := false
	for _, err := range h.scopes {
		outage = outage || trigger.Away(err)
	}
	if !outage {
		return false
	}
	for _, n := range h.events {
		if f.took == f.tried[asideKey(n.Event)].took {
			return true
		}
	}
	return !f.Engine.Answers(ctx)
}

// setAside keeps an event to be given again by itself; a newer change of the same alarm takes the place of an older one.
func (f *follower) setAside(n news, err error) {
	key := asideKey(n.Event)
	a := f.aside[key]
	if a == nil {
		if len(f.aside) >= maxAside {
			f.log.Error("an event cannot be handed over and is given up, as too many were set aside", "event", key, "reason", err)
			f.mark(n.marks)
			return
		}
		a = &aside{since: time.Now().UTC()}
		if f.aside == nil {
			f.aside = map[string]*aside{}
		}
		f.aside[key] = a
		f.log.Warn("an event cannot be handed over: it is set aside and given again, and the watch goes on", "event", key, "reason", err)
	}
	delete(f.tried, key)
	a.news, a.err = n, err
	a.tries++
	a.next = time.Now().Add(min(asideFirst<<min(a.tries-1, 5), asideMost))
	f.metrics.WithTags(map[string]string{"type": n.Event.Class, "result": "set_aside"}).Counter("preemption_watch_events").Inc(1)
	f.mark(n.marks)
	f.tellAside()
}

// resume forgets that an event was set aside: it, or a newer one of the same alarm, was handed over.
func (f *follower) resume(e alarm.Event) {
	key := asideKey(e)
	delete(f.tried, key)
	if a := f.aside[key]; a != nil {
		f.log.Info("an event that was set aside is dealt with", "event", key, "tries", a.tries)
		delete(f.aside, key)
		f.tellAside()
	}
}

// again returns what was set aside and is due, and which the events do not make obsolete.
func (f *follower) again(fresh []news) (due []news) {
	for key, a := range f.aside {
		newer := slices.ContainsFunc(fresh, func(n news) bool { return asideKey(n.Event) == key })
		if !newer && !time.Now().Before(a.next) {
			due = append(due, news{Incoming: a.Incoming})
		}
	}
	slices.SortFunc(due, func(a, b news) int { return strings.Compare(asideKey(a.Event), asideKey(b.Event)) })
	return due
}

// over forgets what was set aside of alarms that vCenter's states show otherwise.
func (f *follower) over(up map[[2]string]alarm.Alarm) {
	for key, a := range f.aside {
		if al := a.Event.Alarm; a.Event.Class == alarm.ClassAlarm && al.Up() && up[identity(al)].To != al.To {
			f.log.Info("an event that was set aside is over", "event", key)
			delete(f.aside, key)
		}
	}
	f.tellAside()
}

// waits reports whether this state of an alarm was set aside.
func (f *follower) waits(e alarm.Event) bool {
	a := f.aside[asideKey(e)]
	return a != nil && a.Event.Alarm.To == e.Alarm.To
}

// tellAside shows in the checkpoint what is set aside.
func (f *follower) tellAside() {
	keys := make([]string, 0, len(f.aside))
	for key := range f.aside {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	f.point.Aside, f.point.AsideCount = nil, len(keys)
	for _, key := range keys[:min(len(keys), maxTold)] {
		a := f.aside[key]
		f.point.Aside = append(f.point.Aside, watchapi.Aside{Event: clip(key), Reason: clip(a.err.Error()), Tries: a.tries, Since: a.since})
	}
}

func asideKey(e alarm.Event) string {
	if e.Class == alarm.ClassAlarm {
		return e.Alarm.Name + " (" + e.Alarm.Ref.Value + ") on " + e.Alarm.Entity.Ref()
	}
	return e.Class + " of " + e.Power.VM.Ref()
}
