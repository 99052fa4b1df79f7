package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// AcknowledgeAlarm marks the alarm that is yellow or red on the entity as acknowledged by a user. The acknowledgement
// ends when the alarm next changes its colour.
func (v *VCenter) AcknowledgeAlarm(name string, entity types.ManagedObjectReference, user string) error {
	alarm := v.Alarm(name)
	found := false
	err := v.mustEntity(entity, "acknowledge an alarm of", func(ctx *simulator.Context, e mo.Entity) {
		acknowledge := func(states []types.AlarmState) []types.AlarmState {
			states = slices.Clone(states)
			for i := range states {
				if s := &states[i]; s.Alarm == alarm && s.Entity == entity {
					now, yes := v.now(), true
					s.Acknowledged, s.AcknowledgedByUser, s.AcknowledgedTime = &yes, user, &now
					found = true
				}
			}
			return states
		}
		ctx.Update(e, []types.PropertyChange{
			{Name: "declaredAlarmState", Val: acknowledge(e.Entity().DeclaredAlarmState)},
			{Name: "triggeredAlarmState", Val: acknowledge(e.Entity().TriggeredAlarmState)},
		})
	})
	if err == nil && !found {
		err = fmt.Errorf("acknowledge alarm %q on %s: it has no state there; post it first", name, entity.Value)
	}
	return err
}

// SetAlarmActions enables or disables the actions of all alarms on the entity and what is below it.
func (v *VCenter) SetAlarmActions(entity types.ManagedObjectReference, enabled bool) error {
	return v.mustEntity(entity, "set the alarm actions of", func(ctx *simulator.Context, e mo.Entity) {
		ctx.Update(e, []types.PropertyChange{{Name: "alarmActionsEnabled", Val: enabled}})
	})
}

// RenameEntity gives a cluster, host or folder another name. Its reference stays.
func (v *VCenter) RenameEntity(entity types.ManagedObjectReference, name string) error {
	return v.mustEntity(entity, "rename", func(ctx *simulator.Context, e mo.Entity) {
		ctx.Update(e, []types.PropertyChange{{Name: "name", Val: name}})
	})
}

// RemoveEntity takes a host, or a cluster with its hosts, out of the inventory, as when it is disconnected and
// removed. VMs that ran there stay in the model. Its alarms post no green.
func (v *VCenter) RemoveEntity(entity types.ManagedObjectReference) error {
	ctx := v.context("")
	switch e := ctx.Map.Get(entity).(type) {
	case *simulator.ClusterComputeResource:
		for _, host := range e.Host {
			ctx.Map.Remove(ctx, host)
		}
	case *simulator.HostSystem:
	default:
		return fmt.Errorf("remove %s: this vCenter has no such host or cluster", entity.Value)
	}
	v.forgetAlarms(ctx, entity)
	ctx.Map.Remove(ctx, entity)
	return nil
}

// forgetAlarms takes the states of what is removed off all above it.
func (v *VCenter) forgetAlarms(ctx *simulator.Context, entity types.ManagedObjectReference) {
	e, ok := ctx.Map.Get(entity).(mo.Entity)
	for ok && e.Entity().Parent != nil {
		if e, ok = ctx.Map.Get(*e.Entity().Parent).(mo.Entity); !ok {
			return
		}
		ctx.WithLock(e, func() {
			states := slices.DeleteFunc(slices.Clone(e.Entity().TriggeredAlarmState), func(s types.AlarmState) bool { return s.Entity == entity })
			ctx.Update(e, []types.PropertyChange{{Name: "triggeredAlarmState", Val: states}})
		})
	}
}

// The counters of vCenter that alarms on usage look at.
const (
	CounterCPU    = 2  // cpu.usage.average
	CounterMemory = 24 // mem.usage.average
)

// SetAlarmThresholds defines the alarm as one on the usage of hosts, with its thresholds in percent.
func (v *VCenter) SetAlarmThresholds(name string, counter int32, yellow, red int32) error {
	return v.setThresholds(name, "HostSystem", counter, yellow, red)
}

// setThresholds defines the alarm as one on the usage of entities of a type, with its thresholds in percent.
func (v *VCenter) setThresholds(name, entities string, counter int32, yellow, red int32) error {
	ctx := v.context("")
	alarm, ok := ctx.Map.Get(v.Alarm(name)).(*simulator.Alarm)
	if !ok {
		return fmt.Errorf("set the thresholds of alarm %q: it is none of the simulator's", name)
	}
	ctx.WithLock(alarm, func() {
		alarm.Info.Expression = &types.OrAlarmExpression{Expression: []types.BaseAlarmExpression{&types.MetricAlarmExpression{
			Operator: types.MetricAlarmOperatorIsAbove, Type: entities, Metric: types.PerfMetricId{CounterId: counter},
			Yellow: 100 * yellow, Red: 100 * red,
		}}}
	})
	return nil
}

func (v *VCenter) mustEntity(ref types.ManagedObjectReference, op string, f func(*simulator.Context, mo.Entity)) error {
	ctx := v.context("")
	e, ok := ctx.Map.Get(ref).(mo.Entity)
	if !ok {
		return fmt.Errorf("%s %s: this vCenter has no such object; take it from Inventory", op, ref.Value)
	}
	ctx.WithLock(e, func() { f(ctx, e) })
	return nil
}

// now is the time by vCenter's clock.
func (v *VCenter) now() time.Time { return time.Now().Add(time.Duration(v.clock.Load())) }
