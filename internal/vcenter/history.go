package vcenter

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// eventPage is the most that vCenter answers at once.
const eventPage = 1000

// errHistoryLost means that the collector ended with its session, in a restart of vCenter, or was
// destroyed by somebody else.
var errHistoryLost = errors.New("vCenter no longer has our event collector")

// history is an event history collector, bound to the session it was made in. vCenter allows a session
// few of them: it must be destroyed.
type history struct {
	g       *Gateway
	call    call
	ref     types.ManagedObjectReference
	session *soapSession
	opened  time.Time
	until   time.Time // zero: no end
}

// openHistory makes a collector positioned before the oldest event of these classes since then. If the caller's
// context ends first, the collector is destroyed. One call.
func (g *Gateway) openHistory(ctx context.Context, c call, classes []string, since time.Time) (*history, error) {
	return g.openHistoryUntil(ctx, c, classes, since, time.Time{})
}

// openHistoryUntil is openHistory for events up to a time; zero: without end.
func (g *Gateway) openHistoryUntil(ctx context.Context, c call, classes []string, since, until time.Time) (*history, error) {
	if err := ctx.Err(); err != nil {
		return nil, interrupted(c, err)
	}
	h := &history{g: g, call: c, until: until.UTC()}
	made := make(chan error)
	started := g.background(func(lifetime context.Context) {
		err := h.open(lifetime, classes, since)
		select {
		case made <- err:
		case <-ctx.Done():
			if err == nil {
				h.destroy(ctx)
			}
		}
	})
	if !started {
		return nil, &Error{Op: c.op, Object: c.object, Kind: Unavailable, Err: errClosed}
	}
	select {
	case err := <-made:
		if err != nil && g.lifetime.Err() != nil {
			err = &Error{Op: c.op, Object: c.object, Kind: Unavailable, Err: errClosed}
		}
		return h, err
	case <-ctx.Done():
		return nil, interrupted(c, ctx.Err())
	}
}

// open creates the collector. If the session has too many collectors, it is replaced by a new session:
// our calls whose answers were lost have made them, so only the end of the session destroys them.
func (h *history) open(ctx context.Context, classes []string, since time.Time) error {
	err := h.create(ctx, classes, since)
	if h.session == nil || !holds[*types.InvalidState](err) {
		return err
	}
	h.g.log.Warn("starting a new session with vCenter: this one may have no more event collectors", "reason", err)
	h.g.retire(ctx, h.session)
	return h.create(ctx, classes, since)
}

func (h *history) create(ctx context.Context, classes []string, since time.Time) error {
	c := h.call
	c.write = true // repeated by the transport it would make two
	since = since.UTC()
	within := &types.EventFilterSpecByTime{BeginTime: &since}
	if !h.until.IsZero() {
		within.EndTime = &h.until
	}
	return h.g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		h.session = s
		res, err := methods.CreateCollectorForEvents(ctx, s.client, &types.CreateCollectorForEvents{
			This: *s.client.ServiceContent.EventManager,
			Filter: types.EventFilterSpec{
				EventTypeId: classes,
				Time:        within,
			},
		})
		if err == nil {
			h.ref, h.opened = res.Returnval, time.Now()
		}
		return err
	})
}

// retire ends a session; the next call logs in anew.
func (g *Gateway) retire(ctx context.Context, session *soapSession) {
	if current, generation, ok := g.soapSlot.peek(); ok && current == session {
		g.soapSlot.drop(generation)
	}
	g.cleanUp(ctx, 0, func(ctx context.Context) error {
		_, err := methods.Logout(ctx, session.client, &types.Logout{This: *session.client.ServiceContent.SessionManager})
		return err
	})
}

// next reads until there are events that this version knows, or no more. Events of other classes, as of a newer vCenter
// or an extension, have no content here and are skipped one by one. See page for errors.
func (h *history) next(ctx context.Context) ([]types.BaseEvent, error) {
	for {
		page, err := h.page(ctx)
		if err != nil || len(page) == 0 {
			return nil, err
		}
		all := len(page)
		page = slices.DeleteFunc(page, func(event types.BaseEvent) bool { return event == nil })
		if skipped := all - len(page); skipped > 0 {
			h.g.log.Warn("events of unknown classes are skipped", "events", skipped, "of", all, "reading", h.call.object)
		}
		if len(page) > 0 {
			return page, nil
		}
	}
}

// page reads the page after the last one. After an error, also the context's, the collector may have
// skipped events: destroy it. The error holds errHistoryLost if the collector no longer exists.
func (h *history) page(ctx context.Context) (page []types.BaseEvent, err error) {
	c := h.call
	c.write = true // repeated by the transport it would skip a page
	lost := &Error{Op: c.op, Object: c.object, Kind: Unavailable, Err: errHistoryLost}
	err = h.g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		if s != h.session {
			return lost
		}
		res, err := methods.ReadNextEvents(ctx, s.client, &types.ReadNextEvents{This: h.ref, MaxCount: eventPage})
		if err == nil {
			page = res.Returnval
		}
		return err
	})
	var gone *types.ManagedObjectNotFound
	if _, ok := fault.As(err, &gone); ok && gone.Obj == h.ref {
		return nil, lost
	}
	return page, err
}

// destroy removes the collector in the background, even if the caller was cancelled or the gateway
// has a new session by now, because the old session may still exist in vCenter.
func (h *history) destroy(ctx context.Context) {
	h.g.cleanUp(ctx, 0, func(ctx context.Context) error {
		_, err := methods.DestroyCollector(withReplay(ctx), h.session.client, &types.DestroyCollector{This: h.ref})
		return err
	})
}

// eventID identifies an event. Keys begin again with a new database of vCenter, and many events share a
// time if it has whole seconds. Both together are unique.
type eventID struct {
	key int32
	at  int64 // nanoseconds
}

func idOf(event types.BaseEvent) eventID {
	e := event.GetEvent()
	return eventID{key: e.Key, at: e.CreatedTime.UnixNano()}
}

// older orders events as they happened.
func older(a, b types.BaseEvent) int {
	x, y := a.GetEvent(), b.GetEvent()
	return cmp.Or(x.CreatedTime.Compare(y.CreatedTime), cmp.Compare(x.Key, y.Key))
}
