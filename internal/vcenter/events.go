package vcenter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// StreamEvent is one event of vCenter's history.
type StreamEvent struct {
	Key   int64     // of the event in vCenter; a vCenter set up anew begins again
	Class string    // such as AlarmStatusChangedEvent; of an EventEx its type id, such as com.vmware.vc.ha.VmRestartedByHAEvent
	Time  time.Time // createdTime by vCenter's clock, UTC
	JSON  []byte    // the event with vCenter's keys (createdTime); nil if it cannot be written in JSON
}

const (
	eventOverlap = 5 * time.Second // read again by a new collector, because events may come late and in the same second
	eventRenewal = 5 * time.Minute // after which a collector without events is replaced
	maxSeen      = 20 * eventPage  // identities kept; more within eventOverlap could be returned twice
)

// errReaderClosed says that Next came after Close or after the end of the reader's context.
var errReaderClosed = errors.New("the reader is closed; open another")

// EventReader follows the events of some classes. It is safe for concurrent use, one call at a time.
type EventReader struct {
	g       *Gateway
	call    call
	classes []string
	since   time.Time
	stop    func() bool // stop watching the context

	mu       sync.Mutex
	closed   bool
	history  *history // nil: to be made
	expected bool     // making it is no recovery: it is the first, or replaces one without events
	reopened int
	reached  time.Time // the latest event returned
	seen     seenEvents
	told     *told // how vCenter tells of news; nil: to be made
}

// Events makes a reader of the events of these classes (none: all) since then, inclusive, oldest first,
// by vCenter's clock: take since from ServerTime or an earlier event. It makes no call. The reader holds
// one of the 32 event collectors of our session until Close, or until ctx ends.
func (g *Gateway) Events(ctx context.Context, since time.Time, classes []string) *EventReader {
	r := &EventReader{
		g:       g,
		call:    call{op: "read", object: strings.TrimSpace(strings.Join(classes, ", ") + " events")},
		classes: slices.Clone(classes), since: since.UTC(), reached: since.UTC(), expected: true,
	}
	r.stop = context.AfterFunc(ctx, func() { r.close(ctx) })
	return r
}

// Next returns the events that this reader has not returned yet, up to one page of 1000, oldest
// first. It does not wait for events. One call, one more for a new collector. After a lost
// session, collector or vCenter it continues without loss and without repetition. While vCenter
// cannot be reached, Next returns its error and may be called again.
func (r *EventReader) Next(ctx context.Context) ([]StreamEvent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		open := r.history != nil
		page, err := r.read(ctx)
		if open && ctx.Err() == nil && KindOf(err) == Unavailable && !errors.Is(err, errCallTimeout) {
			continue // with a new collector: this one, its session or its connection is gone
		}
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			r.renew(ctx)
			return nil, nil
		}
		if fresh := r.fresh(page); len(fresh) > 0 {
			return fresh, nil
		}
	}
}

// Reopened counts how often the reader had to recover with a new collector. The reader misses nothing that is
// in vCenter's history. Events from while vCenter was down may not be in it, so compare
// TriggeredAlarms when the number has grown.
func (r *EventReader) Reopened() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reopened
}

// Close destroys the collector in vCenter, in the background and also when ctx has ended. It waits for a
// Next under way.
func (r *EventReader) Close(ctx context.Context) {
	r.stop()
	r.close(ctx)
}

func (r *EventReader) close(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.discard(ctx)
}

// read reads a page from the collector, and makes a collector if there is none.
func (r *EventReader) read(ctx context.Context) ([]types.BaseEvent, error) {
	if r.closed {
		return nil, &Error{Op: r.call.op, Object: r.call.object, Kind: Unavailable, Err: errReaderClosed}
	}
	if r.history == nil {
		h, err := r.g.openHistory(ctx, r.call, r.classes, r.begin())
		if err != nil {
			return nil, err
		}
		if !r.expected {
			r.reopened++
		}
		r.history, r.expected = h, false
	}
	page, err := r.history.next(ctx)
	if err != nil {
		r.discard(ctx)
	}
	return page, err
}

func (r *EventReader) discard(ctx context.Context) {
	r.untold(ctx)
	if r.history != nil {
		r.history.destroy(ctx)
		r.history = nil
	}
}

// renew replaces a collector that has had no events for long, because one that is far behind may never answer
// again.
func (r *EventReader) renew(ctx context.Context) {
	if time.Since(r.history.opened) > eventRenewal {
		r.discard(ctx)
		r.expected = true
	}
}

// begin is the time at which a new collector starts: a whole second, because vCenter may not store fractions.
func (r *EventReader) begin() time.Time {
	begin := r.since
	if back := r.reached.Add(-eventOverlap); back.After(begin) {
		begin = back
	}
	return begin.Truncate(time.Second)
}

// fresh returns the events of a page that were not returned before.
func (r *EventReader) fresh(page []types.BaseEvent) (events []StreamEvent) {
	slices.SortFunc(page, older)
	for _, event := range page {
		at := event.GetEvent().CreatedTime.UTC()
		if r.early(at) || !r.seen.add(idOf(event)) {
			continue
		}
		if at.After(r.reached) {
			r.reached = at
		}
		events = append(events, r.g.streamEvent(event))
	}
	r.seen.forget(r.begin().UnixNano())
	return events
}

// early reports whether an event was before since. With whole seconds it may have been after it.
func (r *EventReader) early(at time.Time) bool {
	return at.Before(r.since) && !at.Equal(r.since.Truncate(time.Second))
}

// seenEvents remembers the events that a new collector would return again.
type seenEvents struct {
	ids   map[eventID]bool
	order []eventID
}

// add adds an event; false means that it is known already.
func (s *seenEvents) add(id eventID) bool {
	if s.ids[id] {
		return false
	}
	if s.ids == nil {
		s.ids = make(map[eventID]bool)
	}
	s.ids[id] = true
	s.order = append(s.order, id)
	return true
}

// forget drops the events before that time, and the oldest if there are too many.
func (s *seenEvents) forget(before int64) {
	n := 0
	for n < len(s.order) && (s.order[n].at < before || len(s.order)-n > maxSeen) {
		delete(s.ids, s.order[n])
		n++
	}
	s.order = s.order[n:]
}

func (g *Gateway) streamEvent(event types.BaseEvent) StreamEvent {
	e := event.GetEvent()
	return StreamEvent{Key: int64(e.Key), Class: classOf(event), Time: e.CreatedTime.UTC(), JSON: g.marshal(event)}
}

// classOf is the class of the event for filters.
func classOf(event types.BaseEvent) string {
	switch e := event.(type) {
	case *types.EventEx:
		return e.EventTypeId
	case *types.ExtendedEvent:
		return e.EventTypeId
	}
	return className(event)
}

// marshal writes the event in JSON. An event that cannot be written, as with a year of five digits, must not
// delay those after it.
func (g *Gateway) marshal(event types.BaseEvent) []byte {
	text, err := json.Marshal(event)
	if fault := faultOf(event); fault != nil && err == nil {
		text, err = withFault(text, fault)
	}
	if err != nil {
		e := event.GetEvent()
		g.log.Warn("an event cannot be written in JSON; its content is left out", "event", fmt.Sprintf("%s %d", className(event), e.Key), "reason", err)
		return nil
	}
	return text
}
