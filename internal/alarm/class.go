package alarm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Class is a class of vSphere events that rules can act upon, by its name in vSphere. The set is closed: classes has a
// row for each, and a class without a row is an error wherever it is met.
type Class string

// The classes.
const (
	ClassAlarm      Class = "AlarmStatusChangedEvent"
	ClassPoweredOff Class = "VmPoweredOffEvent"
	ClassPoweredOn  Class = "VmPoweredOnEvent"

	ClassPowerOnFailed  Class = "VmFailedToPowerOnEvent"
	ClassNoResources    Class = "NotEnoughResourcesToStartVmEvent"
	ClassFailoverFailed Class = "VmFailoverFailed"
	ClassFailoverShort  Class = "InsufficientFailoverResourcesEvent"
)

// classes says of each class how its events are read. The fields of a row have no names, so that a row that lacks one
// does not compile. TestEachClassIsHandled holds it complete.
var classes = []row{
	{ClassAlarm, "alarm.status.changed", alarmEvents{}},
	{ClassPoweredOff, "vm.powered.off", powerEvents{on: false}},
	{ClassPoweredOn, "vm.powered.on", powerEvents{on: true}},
	{ClassPowerOnFailed, "vm.failed.to.power.on", shortageEvents{}},
	{ClassNoResources, "not.enough.resources.to.start.vm", shortageEvents{}},
	{ClassFailoverFailed, "vm.failover.failed", shortageEvents{}},
	{ClassFailoverShort, "insufficient.failover.resources", shortageEvents{ofCluster: true}},
}

// row is what is known of a class.
type row struct {
	class  Class
	topic  string // its name at the OpenFaaS vcenter-connector and VEBA 0.1-0.2
	family family
}

// family reads the events of one class, or of several that are alike.
type family interface {
	// check says what the payload of an event lacks.
	check(p *payload, m Message, class Class) error
	// event makes the event of a payload that was checked.
	event(p *payload, m Message, class Class) Event
	// about says what the event has in common with events of all classes.
	about(e Event) About
}

// About is what can be said of every event, whatever its class.
type About struct {
	Name     string // of the alarm; the class where there is none
	Words    string // the event in a message: alarm "cpu"
	Subject  string // what changed on which object, for people; events about the same thing have the same subject
	Queue    string // events with the same queue are handed over one after the other
	Entity   Object // that is in alarm, or whose state changed
	To       string // the new colour of an alarm
	VCenter  string // the event's source
	EventKey int64  // 0: unknown
	Time     time.Time
}

// Key identifies the event for deduplication: the vCenter's host and the event key, or "" where the event has no key.
// The CloudEvent's id has no part in it: event routers draw a new one for every delivery.
func (a About) Key() string {
	if a.EventKey <= 0 {
		return ""
	}
	return VCenterHost(a.VCenter) + "#" + strconv.FormatInt(a.EventKey, 10)
}

// About says what the event has in common with events of all classes. Its error names a class that has no row.
func (e Event) About() (About, error) {
	r, ok := rowOf(string(e.Class))
	if !ok {
		return About{}, unhandled(string(e.Class))
	}
	return r.family.about(e), nil
}

// Change returns the change of an alarm's state that the event tells of; ok is false for an event of another class.
// Of the changes of one alarm on one entity the last one counts, and vCenter's states show it. An event without such a
// change is over once it happened.
func (e Event) Change() (change Alarm, ok bool) { return e.Alarm, e.Class == ClassAlarm }

// Classes lists the classes.
func Classes() []Class {
	all := make([]Class, 0, len(classes))
	for _, r := range classes {
		all = append(all, r.class)
	}
	return all
}

// unhandled is the error of whoever meets a class that has no row.
func unhandled(name string) error {
	return fmt.Errorf("%w: %q is not one of %v", ErrOther, clip(name), Classes())
}

func rowOf(name string) (row, bool) {
	for _, r := range classes {
		if string(r.class) == name {
			return r, true
		}
	}
	return row{}, false
}

// classOfTopic turns a topic into the name of the class; every other name stays.
func classOfTopic(name string) string {
	for _, r := range classes {
		if r.topic == name {
			return string(r.class)
		}
	}
	return name
}

// alarmEvents are the changes of an alarm's state on an entity.
type alarmEvents struct{}

func (alarmEvents) check(p *payload, m Message, _ Class) error {
	if m.Subject == "" && strings.HasPrefix(m.Type, routerType) && p.From == "" && p.To == "" {
		return fmt.Errorf("%w: an alarm event that changes no colour", ErrOther)
	}
	return p.checkAlarm()
}

func (alarmEvents) event(p *payload, m Message, class Class) Event {
	return Event{Class: class, Alarm: p.alarm(m)}
}

func (alarmEvents) about(e Event) About {
	a := e.Alarm
	return About{
		Name: a.Name, Words: fmt.Sprintf("alarm %q", a.Name), Subject: a.Name + " (" + a.Ref.Value + ") on " + a.Entity.Ref(),
		Queue: a.Name + "@" + a.Scope().Ref(), Entity: a.Entity, To: a.To, VCenter: a.VCenter, EventKey: a.EventKey, Time: a.Time,
	}
}

// powerEvents are the changes of a VM's power state.
type powerEvents struct{ on bool }

func (powerEvents) check(p *payload, _ Message, class Class) error {
	if p.VM.VM.Value == "" {
		return fmt.Errorf("the %s names no VM (field Vm.Vm)", class)
	}
	return nil
}

func (f powerEvents) event(p *payload, m Message, class Class) Event {
	return Event{Class: class, Power: p.power(m, f.on)}
}

func (powerEvents) about(e Event) About {
	p := e.Power
	return About{
		Name: string(e.Class), Words: string(e.Class), Subject: string(e.Class) + " of " + p.VM.Ref(),
		Queue: p.VM.Ref(), Entity: p.VM, VCenter: p.VCenter, EventKey: p.EventKey, Time: p.Time,
	}
}

// checkAlarm says what an alarm event lacks.
func (p *payload) checkAlarm() error {
	if p.Alarm.Name == "" {
		return errors.New("the AlarmStatusChangedEvent names no alarm (field Alarm.Name)")
	}
	if p.Entity.Entity.Value == "" {
		return fmt.Errorf("the AlarmStatusChangedEvent of alarm %q names no entity (field Entity.Entity)", p.Alarm.Name)
	}
	for _, c := range [...]struct{ field, colour string }{{"From", p.From}, {"To", p.To}} {
		switch c.colour {
		case Gray, Green, Yellow, Red:
		default:
			return fmt.Errorf("the AlarmStatusChangedEvent of alarm %q has %s %q: want gray, green, yellow or red", p.Alarm.Name, c.field, clip(c.colour))
		}
	}
	return nil
}
