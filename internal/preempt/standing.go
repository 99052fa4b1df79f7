package preempt

import (
	"context"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// over tells why an alarm's request is out of date, "" where it is not: it was long under way, and vCenter
// says that the alarm has fallen since, on this entity and on every other of the scope. An alarm that
// vCenter does not know is believed.
func (a *Activities) over(ctx context.Context, d Demand) (string, error) {
	if d.Change == nil || d.Person || d.DryRun || time.Since(d.Change.Time) < a.Settings.Timing.AlarmAge {
		return "", nil
	}
	al, err := alarm.FromCloudEvent(d.Event)
	if err != nil { // a change that came without an event of its own
		return "", nil
	}
	state, found, err := a.VCenter.AlarmStatus(ctx, reference(al.Ref), al.Name, reference(al.Entity))
	if err != nil || !found || state.Colour != alarm.Green || !state.Time.After(d.Change.Time) {
		return "", err
	}
	up, err := a.VCenter.TriggeredAlarms(ctx)
	if err != nil {
		return "", err
	}
	for _, other := range up {
		if other.Alarm == state.Alarm && inScope(other.JSON, d.Scope) {
			return "", nil
		}
	}
	return fmt.Sprintf("vCenter says that alarm %s is green since %s", al.Name, state.Time.UTC().Format(time.RFC3339)), nil
}

func reference(o alarm.Object) policy.Ref { return policy.Ref{Type: o.Type, Value: o.Value} }

// inScope tells whether the entity of an alarm's state belongs to the scope; one that cannot be read counts.
func inScope(state []byte, scope policy.Ref) bool {
	ev, err := alarm.Decode(alarm.Message{Type: alarm.ClassAlarm, Data: state})
	if err != nil || scope.Zero() {
		return true
	}
	al := ev.Alarm
	return reference(al.Cluster) == scope || reference(al.Host) == scope || reference(al.Entity) == scope
}
