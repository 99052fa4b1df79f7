// Package alarm decodes a vSphere alarm event, in whatever dress it arrives, into one Alarm value. It
// imports no other package of this project and acts on nothing.
package alarm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The colours of an alarm, as vSphere names them.
const (
	Gray   = "gray"
	Green  = "green"
	Yellow = "yellow"
	Red    = "red"
)

// MaxBytes bounds an event: nothing larger is read.
const MaxBytes = 1 << 20

// ErrNotAlarm tells that an event is not an AlarmStatusChangedEvent at all.
var ErrNotAlarm = errors.New("not an AlarmStatusChangedEvent")

// Object is a vSphere object as an event names it.
type Object struct {
	Type  string
	Value string
	Name  string
}

// Zero tells whether the object is absent.
func (o Object) Zero() bool { return o.Value == "" }

// Ref returns the object as Type:Value, or "" when absent.
func (o Object) Ref() string {
	if o.Zero() {
		return ""
	}
	return o.Type + ":" + o.Value
}

// Alarm is one change of one alarm's state on one entity.
type Alarm struct {
	Name      string
	Ref       Object // the alarm itself
	Entity    Object // the object in alarm
	Source    Object // where the alarm is defined
	Cluster   Object // the compute resource
	Host      Object
	VM        Object
	Datastore Object
	From, To  string
	VCenter   string // the event's source
	EventKey  int64  // 0: unknown
	Time      time.Time
}

// Rising tells whether the alarm turned yellow or red from something milder.
func (a Alarm) Rising() bool { return rank(a.To) > rank(a.From) && rank(a.To) >= rank(Yellow) }

// Up tells whether the alarm now stands at yellow or red.
func (a Alarm) Up() bool { return rank(a.To) >= rank(Yellow) }

// Rank orders colours: red 3, yellow 2, green 1, gray and unknown 0.
func Rank(colour string) int { return rank(colour) }

func rank(colour string) int {
	switch colour {
	case Green:
		return 1
	case Yellow:
		return 2
	case Red:
		return 3
	}
	return 0
}

// Key identifies the change for deduplication: vCenter and event key, or "" where the event has no key.
func (a Alarm) Key() string {
	if a.EventKey <= 0 {
		return ""
	}
	return fmt.Sprintf("%s#%d", a.VCenter, a.EventKey)
}

// Scope is the contended object: the cluster, or the host where there is no cluster; zero for neither.
func (a Alarm) Scope() Object {
	if !a.Cluster.Zero() {
		return a.Cluster
	}
	if a.Entity.Type == "ClusterComputeResource" || a.Entity.Type == "HostSystem" {
		return a.Entity
	}
	return a.Host
}

type envelope struct {
	Type       string          `json:"type"`
	Subject    string          `json:"subject"`
	Source     string          `json:"source"`
	EventClass string          `json:"eventclass"`
	Data       json.RawMessage `json:"data"`
}

// isAlarm tells by subject, class or type whether the envelope claims to hold an alarm event.
func (e envelope) isAlarm() bool {
	const class = "AlarmStatusChangedEvent"
	return e.Subject == class || e.EventClass == class || strings.Contains(e.Type, class)
}

// FromCloudEvent decodes a structured CloudEvent in JSON. It returns ErrNotAlarm for another event, and
// a precise error for one that claims to be an alarm event and is not.
func FromCloudEvent(raw []byte) (Alarm, error) {
	if len(raw) > MaxBytes {
		return Alarm{}, fmt.Errorf("event of %d bytes: at most %d are read", len(raw), MaxBytes)
	}
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return Alarm{}, fmt.Errorf("decode CloudEvent: %w", err)
	}
	if !e.isAlarm() {
		return Alarm{}, ErrNotAlarm
	}
	var d data
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return Alarm{}, fmt.Errorf("decode AlarmStatusChangedEvent: %w", err)
	}
	a := d.alarm()
	a.VCenter = e.Source
	return a, a.validate()
}

func (a Alarm) validate() error {
	if a.Name == "" {
		return errors.New("the AlarmStatusChangedEvent names no alarm (field Alarm.Name)")
	}
	if a.Entity.Zero() {
		return fmt.Errorf("the AlarmStatusChangedEvent of alarm %q names no entity (field Entity.Entity)", a.Name)
	}
	for field, colour := range map[string]string{"From": a.From, "To": a.To} {
		switch colour {
		case Gray, Green, Yellow, Red:
		default:
			return fmt.Errorf("the AlarmStatusChangedEvent of alarm %q has %s %q: want gray, green, yellow or red", a.Name, field, colour)
		}
	}
	return nil
}
