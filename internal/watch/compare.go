package watch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// compareDue reports whether states are to be compared: at the start, after a gap, on a slow timer, and where more events
// are still to be read, for among them may be the fall of an alarm that has just risen.
func (f *follower) compareDue() bool {
	return f.more || !f.compared || f.reader.Reopened() != f.reopened || time.Since(f.checkpoint.Compared) >= f.timing.Compare
}

// compare takes the alarms' states for the truth: of the fresh events it hands over what agrees with them,
// and it makes up what the history does not hold. What rose and fell while nobody read starts nothing.
func (f *follower) compare(ctx context.Context, fresh []event) error {
	states, unseen, err := f.VCenter.TriggeredAlarms(ctx)
	if err != nil {
		return err
	}
	hidden := f.noteHidden(unseen)
	up, raised := f.upNow(states)
	f.dropAside(up)
	fresh = f.withoutHandedOver(slices.DeleteFunc(fresh, func(e event) bool {
		change, ok := e.Event.Change() // over already, or its successor is among the states
		return ok && change.Up() && up[instanceOf(change)].To != change.To
	}))
	first := f.handOver(ctx, fresh, false)
	missed := f.missedRises(raised, f.notHandled(fresh))
	falls, err := f.missedFalls(ctx, up, hidden)
	if err != nil {
		return err
	}
	if err := errors.Join(first, f.handOver(ctx, append(missed, falls...), true)); err != nil {
		return err
	}
	f.checkpoint.Compared, f.compared, f.reopened = time.Now().UTC(), true, f.reader.Reopened()
	return nil
}

// noteHidden returns the alarms that are up and that vCenter does not show: nobody can say that one has fallen. It logs
// when there are more of them.
func (f *follower) noteHidden(unseen []vcenter.AlarmState) map[instance]bool {
	hidden := make(map[instance]bool, len(unseen))
	for _, s := range unseen {
		hidden[instance{s.Alarm.Value, s.Entity.String()}] = true
	}
	if len(unseen) > f.hidden {
		f.log.Warn("vCenter has yellow or red alarms that it does not show: rules cannot act upon them", "alarms", len(unseen),
			"remedy", "give "+f.VCenter.User()+" the role Read-only on vCenter's root, with propagation")
	}
	f.hidden = len(unseen)
	return hidden
}

// upNow decodes the states of the alarms that are up.
func (f *follower) upNow(states []vcenter.AlarmState) (up map[instance]alarm.Alarm, raised []event) {
	up = map[instance]alarm.Alarm{}
	for _, s := range states {
		e, err := f.eventOf(string(alarm.ClassAlarm), s.JSON)
		if err != nil {
			f.log.Warn("the state of an alarm cannot be read", "alarm", s.Name, "entity", s.Entity.String(), "reason", err)
			continue
		}
		up[instanceOf(e.Event.Alarm)] = e.Event.Alarm
		raised = append(raised, e)
	}
	return up, raised
}

// notHandled are the alarms of which an event is still to be handed over.
func (f *follower) notHandled(fresh []event) map[instance]bool {
	waits := map[instance]bool{}
	for _, e := range fresh {
		if change, ok := e.Event.Change(); ok && len(e.marks) > 0 && !f.handled.known[e.marks[0]] {
			waits[instanceOf(change)] = true
		}
	}
	return waits
}

// missedRises are the alarms that are up and were not handed over, but for those whose event waits.
func (f *follower) missedRises(raised []event, waits map[instance]bool) (missed []event) {
	for _, e := range raised {
		if !waits[instanceOf(e.Event.Alarm)] && f.missedRise(&e) {
			missed = append(missed, e)
		}
	}
	return missed
}

// missedRise reports whether the state of an alarm that is up was not handed over, and completes it.
func (f *follower) missedRise(e *event) bool {
	change := &e.Event.Alarm
	if _, ok := f.Engine.Match(e.Event); !ok || f.idle[instanceOf(*change)] == change.To || f.isAside(*e) {
		return false
	}
	change.From = alarm.Green
	if level := f.level(*change); level != nil {
		if level.Colour == change.To {
			return false
		}
		change.From = level.Colour
	}
	return true
}

// missedFalls are the falls of the alarms that were handed over as up and are up no more.
func (f *follower) missedFalls(ctx context.Context, up map[instance]alarm.Alarm, hidden map[instance]bool) (falls []event, err error) {
	for _, level := range f.checkpoint.Levels {
		of := instance{level.Alarm.Value, object(level.Entity).Ref()}
		if _, ok := up[of]; ok || hidden[of] {
			continue
		}
		fall, fell, err := f.fallOf(ctx, level)
		if err != nil {
			return nil, err
		}
		if fell {
			falls = append(falls, fall)
		}
	}
	return falls, nil
}

// fallOf makes up the fall of an alarm that was handed over as up and is up no more.
func (f *follower) fallOf(ctx context.Context, level watchapi.Level) (fall event, fell bool, err error) {
	entity := vsphere.Ref{Type: level.Entity.Type, Value: level.Entity.Value}
	state, found, err := f.VCenter.AlarmStatus(ctx, vsphere.Ref{Type: level.Alarm.Type, Value: level.Alarm.Value}, level.Alarm.Name, entity)
	if err != nil {
		return event{}, false, err
	}
	if !found { // the alarm or the entity is gone
		state = vcenter.AlarmState{Colour: alarm.Green}
		if state.Time, err = f.VCenter.ServerTime(ctx); err != nil {
			return event{}, false, err
		}
	}
	if state.Colour == level.Colour || alarm.Rank(state.Colour) >= alarm.Rank(alarm.Yellow) {
		return event{}, false, nil // as known, or up again this moment: its event or the next comparison tells
	}
	if !state.Time.After(level.Time) {
		state.Time = level.Time.Add(time.Millisecond)
	}
	fall, err = newEvent(trigger.Incoming{Event: alarm.Event{Class: alarm.ClassAlarm, Alarm: alarm.Alarm{
		Name: level.Alarm.Name, Ref: object(level.Alarm), Entity: object(level.Entity), Cluster: object(level.Scope), Host: object(level.Host),
		From: level.Colour, To: state.Colour, VCenter: f.Source, Time: state.Time.UTC(),
	}}})
	return fall, err == nil, err
}

// maxLevels bounds the alarms remembered in a checkpoint; the oldest are forgotten first. A rule on so many
// entities at once is still acted upon, but the fall of a forgotten one is known by its event alone.
const maxLevels = 500

// level returns what was last handed over of an alarm on an entity, nil where it is not up.
func (f *follower) level(a alarm.Alarm) *watchapi.Level {
	for i := range f.checkpoint.Levels {
		if l := &f.checkpoint.Levels[i]; l.Alarm.Value == a.Ref.Value && object(l.Entity).Ref() == a.Entity.Ref() {
			return l
		}
	}
	return nil
}

// remember keeps what was handed over of an alarm, as long as it is up or unknown.
func (f *follower) remember(e event, caught bool) {
	change, ok := e.Event.Change()
	if !ok {
		return
	}
	f.forget(change)
	if change.To == alarm.Green {
		return
	}
	f.checkpoint.Levels = append(f.checkpoint.Levels, watchapi.Level{
		Alarm: named(change.Ref, change.Name), Entity: named(change.Entity, change.Entity.Name), Scope: named(change.Cluster, change.Cluster.Name),
		Host: named(change.Host, change.Host.Name), Colour: change.To, Time: change.Time.UTC(), Caught: caught,
	})
	f.checkpoint.Levels = f.checkpoint.Levels[max(0, len(f.checkpoint.Levels)-maxLevels):]
}

// forget drops what was last handed over of an alarm on an entity.
func (f *follower) forget(a alarm.Alarm) {
	f.checkpoint.Levels = slices.DeleteFunc(f.checkpoint.Levels, func(l watchapi.Level) bool {
		return l.Alarm.Value == a.Ref.Value && object(l.Entity).Ref() == a.Entity.Ref()
	})
}

func named(o alarm.Object, name string) watchapi.Object {
	return watchapi.Object{Type: o.Type, Value: o.Value, Name: name}
}

func object(o watchapi.Object) alarm.Object {
	return alarm.Object{Type: o.Type, Value: o.Value, Name: o.Name}
}
