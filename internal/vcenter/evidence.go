package vcenter

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

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

// clockSkew is allowed between the caller's clock and vCenter's.
const clockSkew = 5 * time.Second

// PowerOffEvidence tells of each VM how it last went off since then. VMs without such an event, or
// powered on again after it, are absent. Four calls whatever the number of VMs, one more per 1000
// power events of the whole vCenter in that time. Prefer a since that came from ServerTime.
func (g *Gateway) PowerOffEvidence(ctx context.Context, refs []policy.Ref, since time.Time) (map[policy.Ref]Evidence, error) {
	if len(refs) == 0 {
		return map[policy.Ref]Evidence{}, nil
	}
	events, err := g.readEvents(ctx, "power events", evidenceEvents, since.Add(-clockSkew))
	if err != nil {
		return nil, err
	}
	wanted := setOf(refs)
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

// readEvents reads the events of these classes of the whole vCenter since then, oldest first.
func (g *Gateway) readEvents(ctx context.Context, what string, classes []string, since time.Time) ([]types.BaseEvent, error) {
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
		events = append(events, page...)
	}
	slices.SortFunc(events, older)
	return slices.CompactFunc(events, func(a, b types.BaseEvent) bool { return idOf(a) == idOf(b) }), nil
}
