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

// maxLevels bounds the alarms remembered in a checkpoint; the oldest are forgotten first. A rule on so many
// entities at once is still acted upon, but the fall of a forgotten one is known by its event alone.
const maxLevels = 500

// compare takes the alarms' states for the truth: of the fresh events it hands over what agrees with them,
// and it makes up what the history does not hold. What rose and fell while nobody looked starts nothing.
func (f *follower) compare(ctx context.Context, fresh []news) error {
	states, unseen, err := f.VCenter.TriggeredAlarms(ctx)
	if err != nil {
		return err
	}
	hidden := f.notSeen(unseen)
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
	f.over(up)
	fresh = slices.DeleteFunc(fresh, func(n news) bool {
		al := n.Event.Alarm // over already, or its successor is among the states
		return n.Event.Class == alarm.ClassAlarm && al.Up() && up[identity(al)].To != al.To
	})
	fresh = f.unknown(fresh)
	first := f.handOver(ctx, fresh, false)
	held := map[[2]string]bool{} // of which an event is still to be handed over
	for _, n := range fresh {
		if len(n.marks) > 0 && !f.dealt.known[n.marks[0]] {
			held[identity(n.Event.Alarm)] = true
		}
	}
	var missed []news
	for _, n := range risen {
		if !held[identity(n.Event.Alarm)] && f.missed(&n.Incoming) {
			missed = append(missed, n)
		}
	}
	for _, level := range f.point.Levels {
		id := [2]string{level.Alarm.Value, object(level.Entity).Ref()}
		if _, ok := up[id]; ok || hidden[id] {
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
	if err := errors.Join(first, f.handOver(ctx, missed, true)); err != nil {
		return err
	}
	f.point.Compared, f.settled, f.reopened = time.Now().UTC(), true, f.reader.Reopened()
	return nil
}

// notSeen are the alarms that are up and that vCenter does not show: nobody can say that one has fallen. The log tells
// when there are more of them.
func (f *follower) notSeen(unseen []vcenter.AlarmState) map[[2]string]bool {
	hidden := make(map[[2]string]bool, len(unseen))
	for _, s := range unseen {
		hidden[[2]string{s.Alarm.Value, s.Entity.String()}] = true
	}
	if len(unseen) > f.unseen {
		f.log.Warn("vCenter has yellow or red alarms that it does not show: rules cannot act upon them", "alarms", len(unseen),
			"remedy", "give "+f.VCenter.User()+" the role Read-only on vCenter's root, with propagation")
	}
	f.unseen = len(unseen)
	return hidden
}

// missed tells whether the state of an alarm that is up was not handed over, and completes it.
func (f *follower) missed(in *trigger.Incoming) bool {
	al := &in.Event.Alarm
	if _, ok := f.Engine.Match(in.Event); !ok || f.idle[identity(*al)] == al.To || f.waits(in.Event) {
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
func (f *follower) fallOf(ctx context.Context, level watchapi.Level) (in trigger.Incoming, fell bool, err error) {
	entity := vsphere.Ref{Type: level.Entity.Type, Value: level.Entity.Value}
	state, found, err := f.VCenter.AlarmStatus(ctx, vsphere.Ref{Type: level.Alarm.Type, Value: level.Alarm.Value}, level.Alarm.Name, entity)
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
func (f *follower) level(al alarm.Alarm) *watchapi.Level {
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
	f.point.Levels = append(f.point.Levels, watchapi.Level{
		Alarm: named(al.Ref, al.Name), Entity: named(al.Entity, al.Entity.Name), Scope: named(al.Cluster, al.Cluster.Name),
		Host: named(al.Host, al.Host.Name), Colour: al.To, Time: al.Time.UTC(), Caught: caught,
	})
	f.point.Levels = f.point.Levels[max(0, len(f.point.Levels)-maxLevels):]
}

// forget drops what was last handed over of an alarm on an entity.
func (f *follower) forget(e alarm.Event) {
	f.point.Levels = slices.DeleteFunc(f.point.Levels, func(l watchapi.Level) bool {
		return l.Alarm.Value == e.Alarm.Ref.Value && object(l.Entity).Ref() == e.Alarm.Entity.Ref()
	})
}

func named(o alarm.Object, name string) watchapi.Object {
	return watchapi.Object{Type: o.Type, Value: o.Value, Name: name}
}

func object(o watchapi.Object) alarm.Object {
	return alarm.Object{Type: o.Type, Value: o.Value, Name: o.Name}
}
