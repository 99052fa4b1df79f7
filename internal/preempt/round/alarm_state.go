package round

import (
	"context"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// alarmState is what vCenter says of a request's alarm before a round acts on it.
type alarmState struct {
	outdated  string // why the request is out of date: the alarm has fallen, or its entity is gone
	silenced  string // why nothing is to be done, although the alarm is active
	foreign   string // why the event is taken for one of another vCenter
	threshold policy.Goal
}

// alarmNow asks vCenter for the state of a request's alarm. An alarm that vCenter does not know, or whose state we may not
// read, is believed.
func (a *Activities) alarmNow(ctx context.Context, d preemptapi.Demand) (s alarmState, err error) {
	if d.Change == nil || d.Person || d.DryRun {
		return s, nil
	}
	entity, ok := vsphere.ParseRef(d.Change.Entity)
	if !ok {
		return s, nil
	}
	of := vcenter.AlarmEvent{Name: d.Change.Alarm, Entity: entity, To: d.Change.To, Key: d.Change.EventKey, Time: d.Change.Time}
	if al, err := alarm.FromCloudEvent(d.Event); err == nil {
		of.Source, of.Alarm, of.Name = al.VCenter, preempt.RefOf(al.Ref), al.Name
	}
	if d.Unverified {
		s.foreign, err = a.VCenter.Foreign(ctx, of)
		if err != nil || s.foreign != "" {
			return s, err
		}
	}
	got, err := a.VCenter.CurrentAlarm(ctx, of.Alarm, of.Name, entity)
	if vcenter.KindOf(err) == vcenter.NoPermission {
		a.Log.Warn("the state of an alarm cannot be read, so the alarm is believed", "alarm", of.Name, "entity", d.Change.Entity, "reason", err)
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.threshold = got.Threshold(d.Change.To)
	s.silenced, s.outdated = got.State.Silenced, a.whyOutdated(d.Change, got)
	if s.outdated == "" && s.silenced == "" {
		return s, nil
	}
	return a.activeOnAnotherEntity(ctx, d, of, s)
}

// whyOutdated says why a change is out of date by what vCenter says of its alarm now, or "". An alarm that is green since is
// over. One that was green before it is said to have risen is over, too, where that time means nothing: it lies in the
// future, as after vCenter's clock was set back; or it is long enough past that vCenter's state cannot lag behind it.
func (a *Activities) whyOutdated(c *preemptapi.Change, got vcenter.CurrentAlarm) string {
	if got.Gone {
		return fmt.Sprintf("vCenter has no %s, or does not show it", c.Entity)
	}
	if !got.Known || got.State.Colour != alarm.Green {
		return ""
	}
	age := time.Since(c.Time)
	if !got.State.Time.After(c.Time) && age >= 0 && age < a.Settings.Timing.AlarmAge {
		return ""
	}
	return fmt.Sprintf("vCenter says that alarm %s is green since %s", got.State.Name, got.State.Time.UTC().Format(time.RFC3339))
}

// activeOnAnotherEntity checks whether the alarm is active on another entity of the scope, and not silenced there: then the request is
// acted upon for that.
func (a *Activities) activeOnAnotherEntity(ctx context.Context, d preemptapi.Demand, of vcenter.AlarmEvent, s alarmState) (alarmState, error) {
	up, _, err := a.VCenter.TriggeredAlarms(ctx)
	if err != nil {
		return s, err
	}
	for _, other := range up {
		same := other.Alarm == of.Alarm || of.Alarm.Zero() && other.Name == of.Name
		if !same || other.Entity == of.Entity || !inScope(other.JSON, d.Scope) {
			continue
		}
		s.outdated = ""
		if s.silenced = other.Silenced; s.silenced == "" {
			break
		}
	}
	return s, nil
}

// inScope reports whether the entity of an alarm's state belongs to the scope; one that cannot be read counts.
func inScope(state []byte, scope vsphere.Ref) bool {
	ev, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassAlarm), Data: state})
	if err != nil || scope.Zero() {
		return true
	}
	al := ev.Alarm
	return preempt.RefOf(al.Cluster) == scope || preempt.RefOf(al.Host) == scope || preempt.RefOf(al.Entity) == scope
}
