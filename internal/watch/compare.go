package watch

import (
	"context"
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch/contract"
)

// maxLevels bounds the alarms remembered in a checkpoint; the oldest are forgotten first. A rule on so many
// entities at once is still acted upon, but the fall of a forgotten one is known by its event alone.
const maxLevels = 500

// compare takes the alarms' states for the truth: of the fresh events it hands over what agrees with them,
// and it makes up what the history does not hold. What rose and fell while nobody looked starts nothing.
func (f *follower) compare(ctx context.Context, fresh []news) error {
	states, err := f.VCenter.TriggeredAlarms(ctx)
	if err != nil {
		return err
	}
	up := map[[2]string]alarm.Alarm{}
	var risen []news
	for _, s := range states {
		in, err := f.incoming(alarm.ClassAlarm, s.JSON)
		if err != nil {
			f.log.Warn("the state of an alarm cannot be read", "alarm", s.Name, "entity", s.Entity.String(), "reason", err)
			continue
		}
		up[identity(in.Event.Alarm)] = in.Event.Alarm
		risen = append(risen, news{Incoming: in})
	}
	fresh = slices.DeleteFunc(fresh, func(n news) bool {
		al := n.Event.Alarm // over already, or its successor is among the states
		return n.Event.Class == alarm.ClassAlarm && al.Up() && up[identity(al)].To != al.To
	})
	if err := f.handOver(ctx, f.unknown(fresh), false); err != nil {
		return err
	}
	var missed []news
	for _, n := range risen {
		if f.missed(&n.Incoming) {
			missed = append(missed, n)
		}
	}
	for _, level := range f.point.Levels {
		if _, ok := up[[2]string{level.Alarm.Value, object(level.Entity).Ref()}]; ok {
			continue
		}
		in, fell, err := f.fallOf(ctx, level)
		if err != nil {
			return err
		}
		if fell {
			missed = append(missed, news{Incoming: in})
		}
	}
	if err := f.handOver(ctx, missed, true); err != nil {
		return err
	}
	f.point.Compared, f.settled, f.reopened = time.Now().UTC(), true, f.reader.Reopened()
	return nil
}

// missed tells whether the state of an alarm that is up was not handed over, and completes it.
func (f *follower) missed(in *trigger.Incoming) bool {
	al := &in.Event.Alarm
	if _, ok := f.Engine.Match(in.Event); !ok || f.idle[identity(*al)] == al.To {
		return false
	}
	al.From = alarm.Green
	if level := f.level(*al); level != nil {
		if level.Colour == al.To {
			return false
		}
		al.From = level.Colour
	}
	return true
}

// fallOf makes up the fall of an alarm that was handed over as up and is up no more.
func (f *follower) fallOf(ctx context.Context, level contract.Level) (in trigger.Incoming, fell bool, err error) {
	entity := policy.Ref{Type: level.Entity.Type, Value: level.Entity.Value}
	state, found, err := f.VCenter.AlarmStatus(ctx, policy.Ref{Type: level.Alarm.Type, Value: level.Alarm.Value}, level.Alarm.Name, entity)
	if err != nil {
		return in, false, err
	}
	if !found { // the alarm or the entity is gone
		state = vcenter.AlarmState{Colour: alarm.Green}
		if state.Time, err = f.VCenter.ServerTime(ctx); err != nil {
			return in, false, err
		}
	}
	if state.Colour == level.Colour || alarm.Rank(state.Colour) >= alarm.Rank(alarm.Yellow) {
		return in, false, nil // as known, or up again this moment: its event or the next comparison tells
	}
	if !state.Time.After(level.Time) {
		state.Time = level.Time.Add(time.Millisecond)
	}
	in.Event = alarm.Event{Class: alarm.ClassAlarm, Alarm: alarm.Alarm{
		Name: level.Alarm.Name, Ref: object(level.Alarm), Entity: object(level.Entity), Cluster: object(level.Scope), Host: object(level.Host),
		From: level.Colour, To: state.Colour, VCenter: f.Source, Time: state.Time.UTC(),
	}}
	return in, true, nil
}

// level returns what was last handed over of an alarm on an entity, nil where it is not up.
func (f *follower) level(al alarm.Alarm) *contract.Level {
	for i := range f.point.Levels {
		if l := &f.point.Levels[i]; l.Alarm.Value == al.Ref.Value && object(l.Entity).Ref() == al.Entity.Ref() {
			return l
		}
	}
	return nil
}

// remember keeps what was handed over of an alarm, as long as it is up or unknown.
func (f *follower) remember(e alarm.Event, caught bool) {
	f.forget(e)
	al := e.Alarm
	if e.Class != alarm.ClassAlarm || al.To == alarm.Green {
		return
	}
	f.point.Levels = append(f.point.Levels, contract.Level{
		Alarm: named(al.Ref, al.Name), Entity: named(al.Entity, al.Entity.Name), Scope: named(al.Cluster, al.Cluster.Name),
		Host: named(al.Host, al.Host.Name), Colour: al.To, Time: al.Time.UTC(), Caught: caught,
	})
	f.point.Levels = f.point.Levels[max(0, len(f.point.Levels)-maxLevels):]
}

// forget drops what was last handed over of an alarm on an entity.
func (f *follower) forget(e alarm.Event) {
	f.point.Levels = slices.DeleteFunc(f.point.Levels, func(l contract.Level) bool {
		return l.Alarm.Value == e.Alarm.Ref.Value && object(l.Entity).Ref() == e.Alarm.Entity.Ref()
	})
}

func named(o alarm.Object, name string) contract.Object {
	return contract.Object{Type: o.Type, Value: o.Value, Name: name}
}

func object(o contract.Object) alarm.Object {
	return alarm.Object{Type: o.Type, Value: o.Value, Name: o.Name}
}
