package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// keptEvent is a causing event as far as it is kept, or why it cannot be.
func keptEvent(raw json.RawMessage) (json.RawMessage, error) {
	kept := alarm.Trim(raw)
	if len(kept) > 4*alarm.MaxKept {
		return nil, fmt.Errorf("the event's attributes make %d bytes: at most %d are taken", len(kept), 4*alarm.MaxKept)
	}
	return kept, nil
}

// readEvent validates the event and takes scope, level and ids from it.
func readEvent(d *preemptapi.Demand, out *Decoded, w wireRequest) error {
	e, err := preemption.ParseEvent(w.Event)
	if err != nil {
		return err
	}
	d.EventID = e.ID()
	d.RequestID = e.Source() + "|" + e.ID()
	al, err := alarm.FromCloudEvent(w.Event)
	switch {
	case errors.Is(err, alarm.ErrNotAlarm):
		d.Person = true
		return nil
	case err != nil:
		return err
	}
	d.Change = changeOf(al)
	if key := al.Key(); key != "" { // with the time, for the keys of a vCenter set up anew begin again
		d.RequestID = key + "@" + al.Time.UTC().Format(time.RFC3339)
	}
	switch scope := al.Scope(); d.Policy.Scope {
	case policy.ScopeAll:
		d.Change.Scope = ""
	case policy.ScopeHost:
		host := al.Host
		if al.Entity.Type == vsphere.TypeHost {
			host = al.Entity
		}
		if host.Zero() {
			return fmt.Errorf("policy %q works by host, and the event of alarm %q names none", d.PolicyName, al.Name)
		}
		setScope(d, host)
	default:
		if scope.Zero() {
			return fmt.Errorf("the event of alarm %q names neither a cluster nor a host to work on", al.Name)
		}
		setScope(d, scope)
	}
	if !al.Up() {
		d.Person = true // somebody asks although the alarm is not up
	}
	if !d.Person {
		out.Change, out.From = d.Change, al.From
	}
	return nil
}

func setScope(d *preemptapi.Demand, o alarm.Object) {
	d.Scope, d.ScopeName = vsphere.Ref{Type: o.Type, Value: o.Value}, o.Name
	d.Change.Scope = d.Scope.String()
}

func changeOf(al alarm.Alarm) *preemptapi.Change {
	return &preemptapi.Change{Alarm: al.Name, Entity: al.Entity.Ref(), To: al.To, Time: al.Time.UTC(), EventKey: al.EventKey}
}

// setID gives the demand its id: the client's, the event's, or one made of the request itself.
func setID(d *preemptapi.Demand, w wireRequest) error {
	if w.ID != "" {
		d.RequestID = "id|" + w.ID
	}
	if d.Change == nil {
		d.Person = true
	}
	return nil
}
