package simulation

import (
	"math"
	"reflect"
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	maxCollectors = 32    // of a session
	maxPage       = 1000  // events in one answer
	keptEvents    = 50000 // where vCenter keeps those of 30 days
)

// history makes the simulator's event history like vCenter's: longer than 1000 events, and with collectors that
// belong to their session, end with it and lose no event to a burst.
type history struct {
	tap *simulator.EventHistoryCollector // hears of every event; used under the event manager's lock

	mu         sync.Mutex // guards what follows; a leaf
	events     []types.BaseEvent
	dropped    int // before events[0]
	more       int // how many it keeps beyond keptEvents
	collectors map[types.ManagedObjectReference]*eventCollector
	restart    bool
	keyOffset  int32 // by which the keys of posted events are smaller than the simulator's
}

// startHistory listens to the simulator's events, beginning with the newest 1000 there are.
func (v *VCenter) startHistory() {
	ctx := v.context("")
	m := ctx.Map.EventManager()
	m.MaxCollector = math.MaxInt32 // the simulator counts over all sessions; here each has maxCollectors
	body := m.CreateCollectorForEvents(ctx, &types.CreateCollectorForEvents{This: m.Self}).(*methods.CreateCollectorForEventsBody)
	v.history.tap = ctx.Session.Get(body.Res.Returnval).(*simulator.EventHistoryCollector)
	v.history.collectors = map[types.ManagedObjectReference]*eventCollector{}
}

// record takes in what the simulator posted since the last time; the caller holds the event manager's lock.
func (h *history) record(ctx *simulator.Context) {
	for h.tap != nil {
		body := h.tap.ReadNextEvents(ctx, &types.ReadNextEvents{MaxCount: maxPage}).(*methods.ReadNextEventsBody)
		if len(body.Res.Returnval) == 0 {
			return
		}
		h.mu.Lock()
		h.events = append(h.events, body.Res.Returnval...)
		if more := len(h.events) - keptEvents - h.more; more > keptEvents/10 {
			h.events, h.dropped = slices.Clone(h.events[more:]), h.dropped+more
		}
		h.mu.Unlock()
	}
}

func (v *VCenter) recordEvents() {
	ctx := v.context("")
	ctx.WithLock(ctx.Map.EventManager(), func() { v.history.record(ctx) })
}

// renumber gives a posted event the key it has after RestartEventKeys.
func (h *history) renumber(event *types.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.restart {
		h.restart, h.keyOffset = false, event.Key-1
	}
	event.Key -= h.keyOffset
	event.ChainId = event.Key
}

// RestartEventKeys lets the keys of the events to come begin at 1 again, as in a vCenter that was restored. The
// history before stays.
func (v *VCenter) RestartEventKeys() {
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	v.history.restart = true
}

// PurgeEvents empties the history, as when vCenter's retention time is over.
func (v *VCenter) PurgeEvents() {
	v.recordEvents()
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	v.history.dropped, v.history.events = v.history.dropped+len(v.history.events), nil
}

// StickCollectors lets every event collector there is answer no more events until it is rewound, as vCenter's may
// when it is far behind.
func (v *VCenter) StickCollectors() {
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	for _, c := range v.history.collectors {
		c.stuck = true
	}
}

// EventCollectors is how many event collectors the sessions that live have open.
func (v *VCenter) EventCollectors() (n int) {
	ctx := v.context("")
	ctx.WithLock(ctx.Map.EventManager(), func() { v.endCollectors(ctx) })
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	return len(v.history.collectors)
}

// endCollectors destroys the collectors whose session has ended; the caller holds the event manager's lock.
func (v *VCenter) endCollectors(ctx *simulator.Context) {
	live := map[string]bool{}
	if manager, ok := ctx.Session.Get(ctx.Map.SessionManager().Self).(*simulator.SessionManager); ok {
		for _, s := range manager.SessionList {
			live[s.Key] = true
		}
	}
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	for ref, c := range v.history.collectors {
		if !live[c.session] {
			delete(v.history.collectors, ref)
			c.EventHistoryCollector.DestroyCollector(ctx, &types.DestroyCollector{This: ref})
		}
	}
}

// eventManager makes the collectors of one request in place of the simulator's.
type eventManager struct {
	Self     types.ManagedObjectReference
	vcenter  *VCenter
	registry *simulator.Registry // of the session
}

// Reference makes it an object of the registry.
func (m *eventManager) Reference() types.ManagedObjectReference { return m.Self }

// CreateCollectorForEvents makes a collector that reads from our history. The event manager's lock is held.
func (m *eventManager) CreateCollectorForEvents(ctx *simulator.Context, req *types.CreateCollectorForEvents) soap.HasFault {
	v := m.vcenter
	ctx.Session.Registry = m.registry
	v.endCollectors(ctx)
	v.history.record(ctx)
	if v.history.count(ctx.Session.Key) >= maxCollectors {
		return &methods.CreateCollectorForEventsBody{Fault_: simulator.Fault("Too many event collectors to create", new(types.InvalidState))}
	}
	res := ctx.Map.EventManager().CreateCollectorForEvents(ctx, req)
	body, ok := res.(*methods.CreateCollectorForEventsBody)
	if !ok || body.Res == nil {
		return res
	}
	ref := body.Res.Returnval
	c := &eventCollector{
		EventHistoryCollector: ctx.Session.Get(ref).(*simulator.EventHistoryCollector),
		history:               &v.history, session: ctx.Session.Key, filter: req.Filter,
	}
	m.registry.Put(c)
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	v.history.collectors[ref] = c
	return body
}

func (h *history) count(session string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.collectors {
		if c.session == session {
			n++
		}
	}
	return n
}

// eventCollector is a collector that reads forward from our history; all else is the simulator's.
type eventCollector struct {
	*simulator.EventHistoryCollector

	history *history
	session string
	filter  types.EventFilterSpec

	next  int // place in the history; this and what follows is guarded by the history
	stuck bool
}

// ReadNextEvents answers the page after the last one.
func (c *eventCollector) ReadNextEvents(ctx *simulator.Context, req *types.ReadNextEvents) soap.HasFault {
	if req.MaxCount <= 0 || req.MaxCount > maxPage {
		return &methods.ReadNextEventsBody{Fault_: simulator.Fault("", &types.InvalidArgument{InvalidProperty: "maxCount"})}
	}
	if c.filter.Entity != nil || c.filter.EventChainId != 0 {
		return c.EventHistoryCollector.ReadNextEvents(ctx, req) // only the simulator knows what belongs to what
	}
	res := new(types.ReadNextEventsResponse)
	h := c.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for !c.stuck && len(res.Returnval) < int(req.MaxCount) {
		c.next = max(c.next, h.dropped)
		if c.next == h.dropped+len(h.events) {
			break
		}
		if event := h.events[c.next-h.dropped]; c.matches(event) {
			res.Returnval = append(res.Returnval, event)
		}
		c.next++
	}
	return &methods.ReadNextEventsBody{Res: res}
}

// RewindCollector begins again with the oldest event.
func (c *eventCollector) RewindCollector(ctx *simulator.Context, req *types.RewindCollector) soap.HasFault {
	c.history.mu.Lock()
	c.next, c.stuck = 0, false
	c.history.mu.Unlock()
	return c.EventHistoryCollector.RewindCollector(ctx, req)
}

// DestroyCollector ends the collector.
func (c *eventCollector) DestroyCollector(ctx *simulator.Context, req *types.DestroyCollector) soap.HasFault {
	c.history.mu.Lock()
	delete(c.history.collectors, req.This)
	c.history.mu.Unlock()
	return c.EventHistoryCollector.DestroyCollector(ctx, req)
}

// matches applies the filter's times and classes, of which a base class stands for all that are made from it.
func (c *eventCollector) matches(event types.BaseEvent) bool {
	if t := c.filter.Time; t != nil {
		created := event.GetEvent().CreatedTime
		if (t.BeginTime != nil && created.Before(*t.BeginTime)) || (t.EndTime != nil && created.After(*t.EndTime)) {
			return false
		}
	}
	if len(c.filter.EventTypeId) == 0 {
		return true
	}
	if e, ok := event.(*types.EventEx); ok {
		return slices.Contains(c.filter.EventTypeId, e.EventTypeId)
	}
	class := reflect.TypeOf(event).Elem()
	wanted := func(name string) bool { return slices.Contains(c.filter.EventTypeId, name) }
	base, ok := class.FieldByNameFunc(wanted)
	return wanted(class.Name()) || (ok && base.Anonymous)
}
