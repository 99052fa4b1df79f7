package vcenter

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Evidence is vCenter's record of how a VM was turned off. Without Event there is no such record yet: we have only
// asked the VM to shut down.
type Evidence struct {
	Time  time.Time // of the event, by vCenter's clock
	Event string    // class: VmPoweredOffEvent or VmSuspendedEvent
	User  string    // who did it, according to vCenter; "" for the guest itself
	// Ours: our session's user turned the VM off, or the guest did so after our request to shut down. A
	// request alone never sets it.
	Ours       bool
	Asked      time.Time // when we last asked for it in that life of the VM, by vCenter's clock; zero: no event says so
	Before     time.Time // when the VM was turned off the time before; zero: not since then
	ChainOrKey int32     // chain id of the event, its key if it has none
}

// evidenceEvents are the events of a VM that is turned off and on again.
var evidenceEvents = []string{
	"VmGuestShutdownEvent", "VmStoppingEvent", "VmSuspendingEvent",
	"VmPoweredOffEvent", "VmSuspendedEvent",
	"VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmResumingEvent",
}

// clockSkew is allowed between the caller's clock and vCenter's.
const clockSkew = 5 * time.Second

// PowerOffEvidence returns for each VM how it was last turned off since then. VMs without such an event, or
// powered on again after it, are absent, unless we asked them to shut down. Four calls whatever the number of VMs, one more per
// 1000 power events of the whole vCenter in that time. Prefer a since that came from ServerTime. Events may come seconds
// after the change of the state, see AwaitEvidence.
func (g *Gateway) PowerOffEvidence(ctx context.Context, refs []vsphere.Ref, since time.Time) (map[vsphere.Ref]Evidence, error) {
	if len(refs) == 0 {
		return map[vsphere.Ref]Evidence{}, nil
	}
	trails, err := g.trails(ctx, refs, since)
	if err != nil {
		return nil, err
	}
	found := make(map[vsphere.Ref]Evidence, len(trails))
	for ref, t := range trails {
		if t.evidence.Event != "" || !t.evidence.Asked.IsZero() {
			found[ref] = t.evidence
		}
	}
	return found, nil
}

// PoweredOnAgain returns who last powered on each VM after we had turned it off since then. VMs for which vCenter has
// no such event are absent. It costs as much as PowerOffEvidence.
func (g *Gateway) PoweredOnAgain(ctx context.Context, refs []vsphere.Ref, since time.Time) (map[vsphere.Ref]Touch, error) {
	trails, err := g.trails(ctx, refs, since)
	if err != nil {
		return nil, err
	}
	found := make(map[vsphere.Ref]Touch)
	for ref, t := range trails {
		if t.back.Event != "" {
			found[ref] = t.back
		}
	}
	return found, nil
}

// trails reads the VMs' power events since then.
func (g *Gateway) trails(ctx context.Context, refs []vsphere.Ref, since time.Time) (map[vsphere.Ref]*trail, error) {
	wanted := setOf(refs)
	keep := func(event types.BaseEvent) bool { return wanted[vmOfEvent(event)] }
	events, err := g.readEvents(ctx, "power events", evidenceEvents, since.Add(-clockSkew), keep)
	if err != nil {
		return nil, err
	}
	trails := make(map[vsphere.Ref]*trail)
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
	return trails, nil
}

// trail follows one VM's events in their order.
type trail struct {
	us       string
	evidence Evidence
	back     Touch // its last power-on after we had turned it off; zero: we had not
}

func (t *trail) add(event types.BaseEvent) {
	e := event.GetEvent()
	ours := t.us != "" && account(e.UserName) == t.us
	at := e.CreatedTime.UTC()
	switch event.(type) {
	case *types.VmPoweredOnEvent, *types.DrsVmPoweredOnEvent, *types.VmResumingEvent:
		before := t.evidence.Before
		if t.evidence.Event != "" {
			before, t.back = t.evidence.Time, Touch{}
		}
		if t.evidence.Ours {
			t.back = Touch{Time: at, Event: className(event), User: e.UserName, Ours: ours}
		}
		t.evidence = Evidence{Before: before}
	case *types.VmGuestShutdownEvent, *types.VmStoppingEvent, *types.VmSuspendingEvent:
		if ours {
			t.asked(at)
		}
	case *types.VmPoweredOffEvent, *types.VmSuspendedEvent:
		t.evidence.Time, t.evidence.Event, t.evidence.User = at, className(event), e.UserName
		t.evidence.Ours = ours || (e.UserName == "" && !t.evidence.Asked.IsZero())
		t.evidence.ChainOrKey = cmp.Or(e.ChainId, e.Key)
	}
}

// asked records our request. A request with a time just after the power-off was before it: the host's clock wrote one
// time, vCenter's the other, and a VM that is off cannot be asked.
func (t *trail) asked(at time.Time) {
	t.evidence.Asked = at
	if t.evidence.Event != "" && t.evidence.User == "" && at.Sub(t.evidence.Time) <= defaultEventLag {
		t.evidence.Ours = true
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

// readEvents reads the wanted events of these classes since then, oldest first. It reads the events of the whole vCenter
// page by page and keeps only the wanted ones, without fields that are not used, because a busy vCenter has
// hundreds of thousands of events in a day, of several KB each.
func (g *Gateway) readEvents(ctx context.Context, what string, classes []string, since time.Time, keep func(types.BaseEvent) bool) ([]types.BaseEvent, error) {
	h, err := g.openHistory(ctx, call{op: "read", object: what}, classes, since)
	if err != nil {
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
		for _, event := range page {
			if keep(event) {
				events = append(events, slim(event))
			}
		}
	}
	slices.SortFunc(events, older)
	return slices.CompactFunc(events, func(a, b types.BaseEvent) bool { return idOf(a) == idOf(b) }), nil
}

// slim is the event without its long texts.
func slim(event types.BaseEvent) types.BaseEvent {
	e := event.GetEvent()
	e.FullFormattedMessage, e.Datacenter, e.ComputeResource, e.Host, e.Ds, e.Net, e.Dvs = "", nil, nil, nil, nil, nil, nil
	if r, ok := event.(*types.VmReconfiguredEvent); ok {
		return &types.VmReconfiguredEvent{VmEvent: r.VmEvent}
	}
	return event
}
