package vcenter

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// Evidence is vCenter's record of how a VM went off.
type Evidence struct {
	Time  time.Time // of the event, by vCenter's clock
	Event string    // class: VmPoweredOffEvent, VmSuspendedEvent; or VmGuestShutdownEvent, VmStoppingEvent when only asked for yet
	User  string    // who did it as vCenter says; "" for the guest itself
	// Ours: the VM went off by our session's user, or by itself after our guest shutdown. Never set by
	// a mere request.
	Ours       bool
	ChainOrKey int32 // chain id of the event, its key if it has none
}

// evidenceEvents are what a VM's way off and back on leaves behind.
var evidenceEvents = []string{
	"VmGuestShutdownEvent", "VmStoppingEvent", "VmSuspendingEvent",
	"VmPoweredOffEvent", "VmSuspendedEvent",
	"VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmResumingEvent",
}

const (
	eventPage = 1000            // vCenter's most
	clockSkew = 5 * time.Second // allowed between the caller's clock and vCenter's
)

// PowerOffEvidence tells of each VM how it last went off since then. VMs without such an event, or
// powered on again after it, are absent. Four calls whatever the number of VMs, one more per 1000
// power events of the whole vCenter in that time. Prefer a since that came from ServerTime.
func (g *Gateway) PowerOffEvidence(ctx context.Context, refs []policy.Ref, since time.Time) (map[policy.Ref]Evidence, error) {
	if len(refs) == 0 {
		return map[policy.Ref]Evidence{}, nil
	}
	events, err := g.powerEvents(ctx, since.Add(-clockSkew))
	if err != nil {
		return nil, err
	}
	wanted := make(map[policy.Ref]bool, len(refs))
	for _, ref := range refs {
		wanted[ref] = true
	}
	trails := make(map[policy.Ref]*trail)
	for _, event := range events {
		e := event.GetEvent()
		if e.Vm == nil || !wanted[fromMoRef(e.Vm.Vm)] {
			continue
		}
		ref := fromMoRef(e.Vm.Vm)
		if trails[ref] == nil {
			trails[ref] = &trail{us: account(g.User())}
		}
		trails[ref].add(event)
	}
	found := make(map[policy.Ref]Evidence, len(trails))
	for ref, t := range trails {
		if t.evidence.Event != "" {
			found[ref] = t.evidence
		}
	}
	return found, nil
}

// trail follows one VM's events in their order.
type trail struct {
	us       string
	asked    bool // we asked for it since the VM was last on
	evidence Evidence
}

func (t *trail) add(event types.BaseEvent) {
	e := event.GetEvent()
	ours := t.us != "" && account(e.UserName) == t.us
	evidence := Evidence{
		Time: e.CreatedTime.UTC(), Event: className(event), User: e.UserName,
		ChainOrKey: cmp.Or(e.ChainId, e.Key),
	}
	switch event.(type) {
	case *types.VmPoweredOnEvent, *types.DrsVmPoweredOnEvent, *types.VmResumingEvent:
		*t = trail{us: t.us}
	case *types.VmGuestShutdownEvent, *types.VmStoppingEvent, *types.VmSuspendingEvent:
		t.asked = t.asked || ours
		t.evidence = evidence
	case *types.VmPoweredOffEvent, *types.VmSuspendedEvent:
		evidence.Ours = ours || (e.UserName == "" && t.asked)
		t.evidence = evidence
	}
}

// account writes DOMAIN\user and user@domain alike.
func account(user string) string {
	user = strings.ToLower(user)
	if name, domain, ok := strings.Cut(user, "@"); ok {
		return domain + `\` + name
	}
	return user
}

func className(event types.BaseEvent) string { return reflect.TypeOf(event).Elem().Name() }

// powerEvents reads the power events of the whole vCenter since then, oldest first.
func (g *Gateway) powerEvents(ctx context.Context, since time.Time) ([]types.BaseEvent, error) {
	c := call{op: "read", object: "power events"}
	h := &history{g: g, call: c}
	if err := h.open(ctx, since); err != nil {
		return nil, err
	}
	defer h.destroy(ctx)
	var events []types.BaseEvent
	for {
		page, err := h.next(ctx)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		events = append(events, page...)
	}
	slices.SortFunc(events, func(a, b types.BaseEvent) int {
		x, y := a.GetEvent(), b.GetEvent()
		return cmp.Or(x.CreatedTime.Compare(y.CreatedTime), cmp.Compare(x.Key, y.Key))
	})
	return slices.CompactFunc(events, func(a, b types.BaseEvent) bool { return a.GetEvent().Key == b.GetEvent().Key }), nil
}

// history is an event history collector. vCenter allows few of them: it must be destroyed.
type history struct {
	g       *Gateway
	call    call
	ref     types.ManagedObjectReference
	session *soapSession
}

func (h *history) open(ctx context.Context, since time.Time) error {
	return h.g.soap(ctx, h.call, func(ctx context.Context, s *soapSession) error {
		res, err := methods.CreateCollectorForEvents(ctx, s.client, &types.CreateCollectorForEvents{
			This: *s.client.ServiceContent.EventManager,
			Filter: types.EventFilterSpec{
				EventTypeId: evidenceEvents,
				Time:        &types.EventFilterSpecByTime{BeginTime: &since},
			},
		})
		if err == nil {
			h.ref, h.session = res.Returnval, s
		}
		return err
	})
}

// next reads the page after the last one, from the oldest event on, where a new collector stands.
func (h *history) next(ctx context.Context) (page []types.BaseEvent, err error) {
	c := h.call
	c.write = true // it moves the collector: a page must not be read past unseen
	err = h.g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		if s != h.session {
			return &Error{Op: c.op, Object: c.object, Kind: Unavailable, Err: errHistoryLost}
		}
		res, err := methods.ReadNextEvents(ctx, s.client, &types.ReadNextEvents{This: h.ref, MaxCount: eventPage})
		if err == nil {
			page = res.Returnval
		}
		return err
	})
	return page, err
}

// destroy gives the collector back in the background, also when the caller was cancelled.
func (h *history) destroy(ctx context.Context) {
	h.g.cleanUp(ctx, h.session, 0, func(ctx context.Context) error {
		_, err := methods.DestroyCollector(ctx, h.session.client, &types.DestroyCollector{This: h.ref})
		return err
	})
}
