package vcenter

import (
	"context"
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// CurrentAlarm is the current state of an alarm on an entity, and what else vCenter says about it.
type CurrentAlarm struct {
	// Gone: this vCenter has no such entity, or does not show it to us.
	Gone bool
	// Known: the alarm is declared on the entity; otherwise State is empty.
	Known bool
	State AlarmState
	// Yellow and Red are the usage, in percent, above which the alarm turns that colour; zero if the alarm is not
	// a plain one on the usage of hosts or clusters.
	Yellow, Red policy.Goal
}

// Threshold returns the usage above which the alarm has the colour.
func (s CurrentAlarm) Threshold(colour string) policy.Goal {
	if colour == string(types.ManagedEntityStatusYellow) {
		return s.Yellow
	}
	return s.Red
}

// CurrentAlarm reads the state of an alarm on an entity. The alarm is known by its reference and, unless it is empty, its
// name; without a reference by its name alone. One call, one more for an alarm that is known by its name alone, and one
// more, once, for the counter of an alarm on usage.
func (g *Gateway) CurrentAlarm(ctx context.Context, alarm vsphere.Ref, name string, entity vsphere.Ref) (CurrentAlarm, error) {
	c := call{op: "read the alarm states of", object: g.names.describe(entity)}
	var alarms []vsphere.Ref
	if !alarm.Zero() {
		alarms = append(alarms, alarm)
	}
	inv, states, err := g.declared(ctx, c, alarms, entity)
	if err == nil && alarm.Zero() && len(states) > 0 {
		for _, s := range states {
			alarms = append(alarms, fromMoRef(s.Alarm))
		}
		inv, states, err = g.declared(ctx, c, unique(alarms), entity)
	}
	_, exists := inv[entity]
	switch {
	case KindOf(err) == NotFound, err == nil && !exists:
		return CurrentAlarm{Gone: true}, nil
	case err != nil:
		return CurrentAlarm{}, err
	}
	state, ok := g.stateNamed(inv, states, alarm, name, entity)
	if !ok {
		return CurrentAlarm{}, nil
	}
	yellow, red, err := g.thresholds(ctx, inv[state.Alarm])
	return CurrentAlarm{Known: true, State: state, Yellow: yellow, Red: red}, err
}

// stateNamed finds the state of the entity that is of the alarm, and of its name unless that is empty.
func (g *Gateway) stateNamed(inv inventory, states []types.AlarmState, alarm vsphere.Ref, name string, entity vsphere.Ref) (AlarmState, bool) {
	for _, s := range states {
		if fromMoRef(s.Entity) != entity || !alarm.Zero() && fromMoRef(s.Alarm) != alarm {
			continue
		}
		if state, ok := g.alarmState(inv, s); ok && (name == "" || unescape(name) == unescape(state.Name)) {
			return state, true
		}
	}
	return AlarmState{}, false
}

// declared reads the alarm states of an entity, with some alarms and all above the entity.
func (g *Gateway) declared(ctx context.Context, c call, alarms []vsphere.Ref, entity vsphere.Ref) (inventory, []types.AlarmState, error) {
	around := alarmSpec(alarms, []vsphere.Ref{entity})
	around.PropSet[0].PathSet = append(around.PropSet[0].PathSet, "info.expression")
	objects, err := g.retrieve(ctx, c, stateSpec(toMoRef(entity), declaredStates), around)
	if err != nil {
		return nil, nil, err
	}
	inv := index(objects)
	states, err := g.states(c, inv[entity], declaredStates)
	return inv, states, err
}

// acknowledged returns who acknowledged an alarm; "" if nobody did.
func acknowledged(s types.AlarmState) string {
	if s.Acknowledged == nil || !*s.Acknowledged {
		return ""
	}
	by, at := "somebody", ""
	if s.AcknowledgedByUser != "" {
		by = s.AcknowledgedByUser
	}
	if s.AcknowledgedTime != nil {
		at = " at " + s.AcknowledgedTime.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("the alarm was acknowledged by %s%s", by, at)
}

// silenced returns why an alarm on an entity must not be acted on; "" if it may.
func (inv inventory) silenced(s types.AlarmState) string {
	if by := acknowledged(s); by != "" {
		return by
	}
	ref := fromMoRef(s.Entity)
	for range len(inv) + 1 { // no further than there are objects
		o, ok := inv[ref]
		if !ok {
			break
		}
		if enabled, told := o.props["alarmActionsEnabled"].(bool); told && !enabled {
			return fmt.Sprintf("alarm actions are disabled on %s %q", ref.Type, o.text("name"))
		}
		if ref = o.refTo("parent"); ref.Zero() || o.ref.Type == vsphere.TypeVM && !o.refTo("runtime.host").Zero() {
			ref = o.refTo("runtime.host")
		}
	}
	return ""
}

// thresholds reads the usage at which an alarm turns yellow and red.
func (g *Gateway) thresholds(ctx context.Context, alarm object) (yellow, red policy.Goal, err error) {
	for _, m := range metrics(alarm.props["info.expression"]) {
		counter, err := g.counter(ctx, m.Metric.CounterId)
		if err != nil {
			return policy.Goal{}, policy.Goal{}, err
		}
		switch counter {
		case counterCPU:
			yellow.CPU, red.CPU = percent(m.Yellow), percent(m.Red)
		case counterMemory:
			yellow.Memory, red.Memory = percent(m.Yellow), percent(m.Red)
		default:
			return policy.Goal{}, policy.Goal{}, nil
		}
	}
	return yellow, red, nil
}

// percent of vCenter's hundredths; 0 if the alarm has no such threshold.
func percent(hundredths int32) int {
	p := int(hundredths) / 100
	if p < 1 || p > 100 {
		return 0
	}
	return p
}

// metrics returns the conditions of an alarm that turns when any of them holds; none if one of them is of another
// kind than "usage of a host or cluster is above".
func metrics(expression any) []*types.MetricAlarmExpression {
	switch e := expression.(type) {
	case *types.MetricAlarmExpression:
		return metrics(*e)
	case types.MetricAlarmExpression:
		if e.Operator != types.MetricAlarmOperatorIsAbove || e.Metric.Instance != "" ||
			e.Type != vsphere.TypeHost && e.Type != vsphere.TypeCluster {
			return nil
		}
		return []*types.MetricAlarmExpression{&e}
	case *types.OrAlarmExpression:
		return metrics(*e)
	case types.OrAlarmExpression:
		return all(e.Expression)
	case *types.AndAlarmExpression:
		return metrics(*e)
	case types.AndAlarmExpression:
		if len(e.Expression) == 1 {
			return all(e.Expression)
		}
	}
	return nil
}

func all(expressions []types.BaseAlarmExpression) (found []*types.MetricAlarmExpression) {
	seen := map[int32]bool{}
	for _, e := range expressions {
		one := metrics(e)
		if len(one) != 1 || seen[one[0].Metric.CounterId] {
			return nil
		}
		seen[one[0].Metric.CounterId] = true
		found = append(found, one[0])
	}
	return found
}

// The counters that say how much of a host or cluster is used.
const (
	counterCPU    = "cpu.usage"
	counterMemory = "mem.usage"
)

// counter names a performance counter. vCenter assigns the numbers.
func (g *Gateway) counter(ctx context.Context, id int32) (string, error) {
	if name, ok := g.counters.Load(id); ok {
		return name.(string), nil
	}
	name := ""
	err := g.soap(ctx, call{op: "look up", object: fmt.Sprintf("performance counter %d", id)}, func(ctx context.Context, s *soapSession) error {
		if s.client.ServiceContent.PerfManager == nil {
			return nil
		}
		res, err := methods.QueryPerfCounter(ctx, s.client, &types.QueryPerfCounter{This: *s.client.ServiceContent.PerfManager, CounterId: []int32{id}})
		if err != nil {
			return err
		}
		for _, c := range res.Returnval {
			if c.GroupInfo == nil || c.NameInfo == nil {
				continue
			}
			name = c.GroupInfo.GetElementDescription().Key + "." + c.NameInfo.GetElementDescription().Key
		}
		return nil
	})
	if err == nil || !KindOf(err).Outage() {
		g.counters.Store(id, name) // what we may not read stays unknown
		return name, nil
	}
	return "", err
}
