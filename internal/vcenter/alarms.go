package vcenter

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// AlarmState is the state of an alarm on an entity.
type AlarmState struct {
	Alarm    vsphere.Ref
	Name     string // of the alarm, as vCenter writes it in events
	Entity   vsphere.Ref
	Colour   string    // green, yellow, red or gray
	Time     time.Time // since when, by vCenter's clock, UTC
	EventKey int64     // of the event that triggered it; 0 unless the alarm is one on events
	// Silenced says in words why the alarm must not be acted on: a person has acknowledged it, or alarm actions
	// are disabled on the entity or above it. Empty: it may be acted on.
	Silenced string
	// JSON is the state in the form of StreamEvent.JSON: an AlarmStatusChangedEvent from gray, which is
	// unknown, to Colour.
	JSON []byte
}

// TriggeredAlarms lists every alarm that is yellow or red now, anywhere in this vCenter, the oldest
// first. Those whose alarm or entity vCenter does not show, because it no longer exists or because our user may not see
// it, are unseen: they have no name and no JSON. One call, and a second if there are any; more only if vCenter
// answers in pages.
func (g *Gateway) TriggeredAlarms(ctx context.Context) (states, unseen []AlarmState, err error) {
	c := call{op: "list", object: "triggered alarms"}
	triggered, err := g.triggered(ctx, c)
	if err != nil || len(triggered) == 0 {
		return nil, nil, err
	}
	var alarms, entities []vsphere.Ref
	for _, s := range triggered {
		alarms, entities = append(alarms, fromMoRef(s.Alarm)), append(entities, fromMoRef(s.Entity))
	}
	objects, err := g.retrieve(ctx, c, alarmSpec(unique(alarms), unique(entities)))
	if err != nil {
		return nil, nil, err
	}
	inv := index(objects)
	states = make([]AlarmState, 0, len(triggered))
	for _, s := range triggered {
		state, ok := g.alarmState(inv, s)
		if !ok {
			unseen = append(unseen, state)
			continue
		}
		states = append(states, state)
	}
	slices.SortFunc(states, func(a, b AlarmState) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Entity.Value, b.Entity.Value), cmp.Compare(a.Alarm.Value, b.Alarm.Value))
	})
	return states, unseen, nil
}

const (
	triggeredStates = "triggeredAlarmState"
	declaredStates  = "declaredAlarmState"
)

// triggered reads the yellow and red alarms below the root folder.
func (g *Gateway) triggered(ctx context.Context, c call) ([]types.AlarmState, error) {
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		return []types.PropertyFilterSpec{stateSpec(s.client.ServiceContent.RootFolder, triggeredStates)}, nil
	})
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, &Error{
			Op: c.op, Object: c.object, Kind: NoPermission, Err: errRootHidden,
			Remedy: "give " + g.User() + " the privilege System.View on the vCenter itself",
		}
	}
	states, err := g.states(c, objects[0], triggeredStates)
	return slices.DeleteFunc(states, func(s types.AlarmState) bool {
		return s.OverallStatus != types.ManagedEntityStatusYellow && s.OverallStatus != types.ManagedEntityStatusRed
	}), err
}

var errRootHidden = errors.New("vCenter does not show its root folder")

// AlarmStatus returns the current state of one alarm on one entity. The name must match too, unless it is empty:
// another vCenter may have another alarm of that reference. found is false if vCenter declares no such
// alarm on the entity, or has no such alarm or entity. One call.
func (g *Gateway) AlarmStatus(ctx context.Context, alarm vsphere.Ref, name string, entity vsphere.Ref) (state AlarmState, found bool, err error) {
	if alarm.Zero() || entity.Zero() {
		return AlarmState{}, false, nil
	}
	c := call{op: "read the alarm states of", object: g.names.describe(entity)}
	objects, err := g.retrieve(ctx, c,
		stateSpec(toMoRef(entity), declaredStates), alarmSpec([]vsphere.Ref{alarm}, []vsphere.Ref{entity}))
	if KindOf(err) == NotFound { // it was removed while it was read
		return AlarmState{}, false, nil
	}
	if err != nil {
		return AlarmState{}, false, err
	}
	inv := index(objects)
	states, err := g.states(c, inv[entity], declaredStates)
	if err != nil {
		return AlarmState{}, false, err
	}
	for _, s := range states {
		if fromMoRef(s.Alarm) != alarm || fromMoRef(s.Entity) != entity {
			continue
		}
		state, found = g.alarmState(inv, s)
		if found && (name == "" || unescape(name) == unescape(state.Name)) {
			return state, true, nil
		}
	}
	return AlarmState{}, false, nil
}

// stateSpec asks for the alarm states of one object.
func stateSpec(ref types.ManagedObjectReference, path string) types.PropertyFilterSpec {
	return types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: ref.Type, PathSet: []string{path}}},
		ObjectSet: []types.ObjectSpec{{Obj: ref}},
	}
}

// states reads alarm states of an object. If we may not see them, that is an error, because it looks like no alarm.
func (g *Gateway) states(c call, o object, path string) ([]types.AlarmState, error) {
	if err := o.denied[path]; err != nil {
		return nil, g.failure(c, err)
	}
	switch v := o.props[path].(type) {
	case types.ArrayOfAlarmState:
		return v.AlarmState, nil
	case *types.ArrayOfAlarmState:
		return v.AlarmState, nil
	}
	return nil, nil
}

// alarmSpec asks for the names of alarms, of where they are defined, and of entities and all above them.
func alarmSpec(alarms, entities []vsphere.Ref) types.PropertyFilterSpec {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{
		{Type: "Alarm", PathSet: []string{"info.name", "info.entity"}},
		{Type: vsphere.TypeVM, PathSet: []string{"name", "parent", "runtime.host", "alarmActionsEnabled"}},
		{Type: "ManagedEntity", PathSet: []string{"name", "parent", "alarmActionsEnabled"}},
	}}
	for _, ref := range alarms {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref), SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: "Alarm", Path: "info.entity"},
		}})
	}
	for _, ref := range entities {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref), SelectSet: upwards()})
	}
	return spec
}

// index combines what one retrieval says about an object in several places.
func index(objects []object) inventory {
	inv := make(inventory, len(objects))
	for _, o := range objects {
		known, ok := inv[o.ref]
		if !ok {
			inv[o.ref] = o
			continue
		}
		maps.Copy(known.props, o.props)
		if known.denied == nil {
			known.denied = map[string]error{}
		}
		maps.Copy(known.denied, o.denied)
		inv[o.ref] = known
	}
	return inv
}

// alarmState completes a state; ok is false if vCenter does not show its alarm or entity.
func (g *Gateway) alarmState(inv inventory, s types.AlarmState) (state AlarmState, ok bool) {
	state = AlarmState{
		Alarm: fromMoRef(s.Alarm), Entity: fromMoRef(s.Entity),
		Colour: string(s.OverallStatus), Time: s.Time.UTC(), EventKey: int64(s.EventKey),
	}
	alarm, known := inv[state.Alarm]
	if _, exists := inv[state.Entity]; !known || !exists {
		return state, false
	}
	state.Name, state.Silenced = alarm.text("info.name"), inv.silenced(s)
	event := &types.AlarmStatusChangedEvent{
		From: string(types.ManagedEntityStatusGray), To: state.Colour,
		AlarmEvent: types.AlarmEvent{Event: inv.place(state.Entity)},
		Source:     inv.argument(alarm.refTo("info.entity")),
		Entity:     inv.argument(state.Entity),
	}
	event.Key, event.ChainId, event.CreatedTime = s.EventKey, s.EventKey, state.Time
	event.Alarm = types.AlarmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: state.Name}, Alarm: s.Alarm}
	state.JSON = g.marshal(event)
	return state, true
}

// place returns the location of the entity for an event, as far as it is known.
func (inv inventory) place(entity vsphere.Ref) (e types.Event) {
	within := entity
	switch name := inv.name(entity); entity.Type {
	case vsphere.TypeVM:
		e.Vm = &types.VmEventArgument{EntityEventArgument: name, Vm: toMoRef(entity)}
		within = inv[entity].refTo("runtime.host")
	case vsphere.TypeDatastore:
		e.Ds = &types.DatastoreEventArgument{EntityEventArgument: name, Datastore: toMoRef(entity)}
	}
	if within.Type == vsphere.TypeHost {
		e.Host = &types.HostEventArgument{EntityEventArgument: inv.name(within), Host: toMoRef(within)}
	}
	if ref := inv.above(within, vsphere.TypeCluster, vsphere.TypeCompute); !ref.Zero() {
		e.ComputeResource = &types.ComputeResourceEventArgument{EntityEventArgument: inv.name(ref), ComputeResource: toMoRef(ref)}
	}
	if ref := inv.above(entity, "Datacenter"); !ref.Zero() {
		e.Datacenter = &types.DatacenterEventArgument{EntityEventArgument: inv.name(ref), Datacenter: toMoRef(ref)}
	}
	return e
}

// above climbs from an object to the next one of these types, which may be itself; zero if there is none.
func (inv inventory) above(ref vsphere.Ref, kinds ...string) vsphere.Ref {
	for range len(inv) + 1 { // no further than there are objects
		if ref.Zero() || slices.Contains(kinds, ref.Type) {
			return ref
		}
		ref = inv[ref].refTo("parent")
	}
	return vsphere.Ref{}
}

func (inv inventory) name(ref vsphere.Ref) types.EntityEventArgument {
	return types.EntityEventArgument{Name: inv[ref].text("name")}
}

func (inv inventory) argument(ref vsphere.Ref) types.ManagedEntityEventArgument {
	return types.ManagedEntityEventArgument{EntityEventArgument: inv.name(ref), Entity: toMoRef(ref)}
}
