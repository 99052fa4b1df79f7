package simulation

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// AlarmChange is one transition of an alarm on an entity.
type AlarmChange struct {
	Name   string                       // of the alarm
	Entity types.ManagedObjectReference // in alarm: a host, a VM, a cluster or a datastore
	From   string                       // green, yellow, red or gray
	To     string
	// Cluster is the event's ComputeResource; the zero value takes the entity's own cluster, if it has one.
	Cluster types.ManagedObjectReference
	// Source is where the alarm is defined; the zero value takes the cluster, else the root folder.
	Source types.ManagedObjectReference
	// Silent changes the state and posts no event, as vCenter does within an alarm's frequency window.
	Silent bool
}

// PostAlarm posts the change as vCenter does: an AlarmStatusChangedEvent in the history (its key and time are in the
// event returned), and the state in declaredAlarmState of the entity and, while yellow or red, in triggeredAlarmState
// of the entity and all above it.
func (v *VCenter) PostAlarm(ctx context.Context, c AlarmChange) (types.AlarmStatusChangedEvent, error) {
	if err := ctx.Err(); err != nil {
		return types.AlarmStatusChangedEvent{}, fmt.Errorf("post alarm %q on %s: %w", c.Name, c.Entity.Value, err)
	}
	sim := v.context("")
	entity, ok := sim.Map.Get(c.Entity).(mo.Entity)
	if !ok {
		return types.AlarmStatusChangedEvent{}, fmt.Errorf("post alarm %q: this vCenter has no %s %q; take the entity from Inventory", c.Name, c.Entity.Type, c.Entity.Value)
	}
	if c.Name == "" || !isColour(c.From) || !isColour(c.To) {
		return types.AlarmStatusChangedEvent{}, fmt.Errorf("post alarm %q on %s from %q to %q: it needs a name, and colours among green, yellow, red, gray", c.Name, c.Entity.Value, c.From, c.To)
	}
	event, err := v.alarmEvent(sim, c)
	if err != nil {
		return types.AlarmStatusChangedEvent{}, err
	}
	var posted types.AlarmStatusChangedEvent
	sim.WithLock(entity, func() {
		if c.Silent {
			event.CreatedTime = v.now()
		} else {
			v.post(sim, event)
		}
		posted = *event
		v.setAlarmState(sim, entity, event)
	})
	v.raiseToParents(sim, entity, &posted)
	return posted, nil
}

func isColour(s string) bool {
	return slices.Contains([]string{"green", "yellow", "red", "gray"}, s)
}

// alarmEvent fills the event as a real vCenter does: Vm, Host and Ds only where the entity has one.
func (v *VCenter) alarmEvent(ctx *simulator.Context, c AlarmChange) (*types.AlarmStatusChangedEvent, error) {
	event := &types.AlarmStatusChangedEvent{From: c.From, To: c.To}
	event.Datacenter = v.datacenterArgument(ctx)
	cluster := c.Cluster
	switch entity := ctx.Map.Get(c.Entity).(type) {
	case *simulator.VirtualMachine:
		ctx.WithLock(entity, func() { event.Event = v.vmEvent(ctx, entity).Event })
		event.Ds = nil
	case *simulator.HostSystem:
		event.Host = hostArgument(ctx, c.Entity)
		event.ComputeResource = clusterArgument(ctx, parentOf(ctx, c.Entity))
	case *simulator.ClusterComputeResource:
		event.ComputeResource = clusterArgument(ctx, c.Entity)
	case *simulator.Datastore:
		event.Ds = datastoreArgument(ctx, c.Entity)
	default:
		return nil, fmt.Errorf("post alarm %q: an alarm on a %s is not simulated; use a host, VM, cluster or datastore", c.Name, c.Entity.Type)
	}
	if cluster != (types.ManagedObjectReference{}) {
		if event.ComputeResource = clusterArgument(ctx, cluster); event.ComputeResource == nil {
			return nil, fmt.Errorf("post alarm %q: this vCenter has no cluster %q; take it from Inventory", c.Name, cluster.Value)
		}
	}
	source := c.Source
	if source == (types.ManagedObjectReference{}) {
		source = v.service.Context.Map.Get(serviceInstance).(*simulator.ServiceInstance).Content.RootFolder
		if event.ComputeResource != nil {
			source = event.ComputeResource.ComputeResource
		}
	}
	event.Alarm = types.AlarmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: c.Name}, Alarm: v.alarm(c.Name, source)}
	event.Source = entityArgument(ctx, source)
	event.Entity = entityArgument(ctx, c.Entity)
	event.FullFormattedMessage = fmt.Sprintf("Alarm '%s' on %s changed from %s to %s", c.Name, event.Entity.Name, title(c.From), title(c.To))
	return event, nil
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func entityArgument(ctx *simulator.Context, ref types.ManagedObjectReference) types.ManagedEntityEventArgument {
	argument := types.ManagedEntityEventArgument{Entity: ref}
	if e, ok := ctx.Map.Get(ref).(mo.Entity); ok {
		argument.Name = e.Entity().Name
	}
	return argument
}

var serviceInstance = types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}

// Alarm is the reference of the alarm of that name, the same at every call and in every run. The alarm itself is
// made when first asked for, so that its name can be read through the API; it is defined on the root folder, or where
// PostAlarm found it defined first.
func (v *VCenter) Alarm(name string) types.ManagedObjectReference {
	return v.alarm(name, v.service.Context.Map.Get(serviceInstance).(*simulator.ServiceInstance).Content.RootFolder)
}

func (v *VCenter) alarm(name string, source types.ManagedObjectReference) types.ManagedObjectReference {
	v.mu.Lock()
	ref, ok := v.alarms[name]
	if !ok {
		ref = v.freeAlarm(name)
		v.alarms[name] = ref
	}
	v.mu.Unlock()
	if !ok {
		v.defineAlarm(ref, name, source)
	}
	return ref
}

// freeAlarm derives the reference from the name; the caller holds v.mu.
func (v *VCenter) freeAlarm(name string) types.ManagedObjectReference {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	for n := h.Sum32() % 9000; ; n = (n + 1) % 9000 {
		ref := types.ManagedObjectReference{Type: "Alarm", Value: fmt.Sprintf("alarm-%d", 1000+n)}
		if !contains(v.alarms, ref) {
			return ref
		}
	}
}

func contains(m map[string]types.ManagedObjectReference, ref types.ManagedObjectReference) bool {
	for _, other := range m {
		if other == ref {
			return true
		}
	}
	return false
}

func (v *VCenter) defineAlarm(ref types.ManagedObjectReference, name string, source types.ManagedObjectReference) {
	ctx := v.context("")
	alarm := &simulator.Alarm{Alarm: mo.Alarm{Info: types.AlarmInfo{
		AlarmSpec:        types.AlarmSpec{Name: name, Enabled: true, Description: name, Expression: &types.OrAlarmExpression{}},
		Alarm:            ref,
		Entity:           source,
		LastModifiedTime: time.Now(),
	}}}
	alarm.Self = ref
	ctx.Map.Put(alarm)
	m := ctx.Map.AlarmManager()
	ctx.WithLock(m, func() { m.GetAlarmResponse.Returnval = append(slices.Clone(m.GetAlarmResponse.Returnval), ref) })
}

// setAlarmState records the change on the entity in alarm; the caller holds its lock.
func (v *VCenter) setAlarmState(ctx *simulator.Context, entity mo.Entity, event *types.AlarmStatusChangedEvent) {
	e := entity.Entity()
	ctx.Update(entity, []types.PropertyChange{
		{Name: "declaredAlarmState", Val: withAlarm(e.DeclaredAlarmState, event, true)},
		{Name: "triggeredAlarmState", Val: withAlarm(e.TriggeredAlarmState, event, false)},
	})
}

// raiseToParents repeats the state in the triggeredAlarmState of all above the entity.
func (v *VCenter) raiseToParents(ctx *simulator.Context, entity mo.Entity, event *types.AlarmStatusChangedEvent) {
	for parent := entity.Entity().Parent; parent != nil; {
		above, ok := ctx.Map.Get(*parent).(mo.Entity)
		if !ok {
			return
		}
		ctx.WithLock(above, func() {
			e := above.Entity()
			ctx.Update(above, []types.PropertyChange{{Name: "triggeredAlarmState", Val: withAlarm(e.TriggeredAlarmState, event, false)}})
		})
		parent = above.Entity().Parent
	}
}

// withAlarm is a copy of states with the event's: yellow and red always, green and gray only if all are kept.
func withAlarm(states []types.AlarmState, event *types.AlarmStatusChangedEvent, all bool) []types.AlarmState {
	key := strings.TrimPrefix(event.Alarm.Alarm.Value, "alarm-") + "." + event.Entity.Entity.Value
	states = slices.DeleteFunc(slices.Clone(states), func(s types.AlarmState) bool { return s.Key == key })
	if !all && event.To != "yellow" && event.To != "red" {
		return states
	}
	acknowledged := false
	return append(states, types.AlarmState{
		Key: key, Entity: event.Entity.Entity, Alarm: event.Alarm.Alarm, EventKey: event.Key, Time: event.CreatedTime,
		OverallStatus: types.ManagedEntityStatus(event.To), Acknowledged: &acknowledged,
	})
}
