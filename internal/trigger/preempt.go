package trigger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The ways of a rule with a fall from red to yellow.
const (
	OnFallCancel = "cancel" // what is not committed is spared
	OnFallSoften = "soften" // what goes on goes on at yellow's criticality
)

// The scopes of a preemption, as a policy names them.
const (
	scopeHost = "host"
	scopeAll  = "all"
)

// None is what a colour means at which a rule does nothing.
const None = preemption.Criticality("NONE")

// ParseColour reads what a colour means: a criticality in any case, or none.
func ParseColour(s string) (preemption.Criticality, error) {
	if strings.EqualFold(strings.TrimSpace(s), string(None)) {
		return None, nil
	}
	c, err := preemption.ParseCriticality(s)
	if err != nil {
		return "", fmt.Errorf("%q is not one of HIGH, MEDIUM, LOW, NONE", s)
	}
	return c, nil
}

// Preempt is the action that preempts VMs while an alarm is up.
type Preempt struct {
	Tag     string
	Policy  string                 // name; "" for the default
	Scope   string                 // of the policy: cluster, host or all; "" is cluster
	Mode    string                 // preemption.ModeObserve: touch no VM; "" or act: as the policy says
	ReplyTo string                 // URL for the CloudEvent reply; "" for none
	OnFall  string                 // OnFallCancel or OnFallSoften; "" is cancel
	Yellow  preemption.Criticality // "" is MEDIUM
	Red     preemption.Criticality // "" is HIGH
	// WhenSilenced is preemption.WhenSilencedAct to act on an alarm that is acknowledged, or whose actions are disabled.
	WhenSilenced string
}

// Criticality is what a colour means: None for green and gray, and where the rule says so.
func (p Preempt) Criticality(colour string) preemption.Criticality {
	c := None
	switch {
	case colour == alarm.Yellow:
		c = preemption.CriticalityMedium
		if p.Yellow != "" {
			c = p.Yellow
		}
	case colour == alarm.Red:
		c = preemption.CriticalityHigh
		if p.Red != "" {
			c = p.Red
		}
	}
	return c
}

// Order tells the intake of alarm and scope what changed. Falls are sent even where nothing is known to be
// in progress: an intake that has seen the green recognises a late red. An event without a time
// counts as of now.
func (p Preempt) Order(in Incoming, rule string) (Order, string, bool, error) {
	al, ok := in.Event.Change()
	if !ok || al.Name == "" || al.Entity.Zero() {
		return Order{}, "", false, fmt.Errorf("%w: the event names no alarm or no entity", ErrRefused)
	}
	scope, err := p.scope(al)
	if err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	crit := p.Criticality(al.To)
	if p.nothingToDo(al, crit) {
		return Order{}, "the rule does nothing at " + al.To, false, nil
	}
	change, err := p.alarmChange(in, al, scope, rule, crit)
	if err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return Order{
		WorkflowID: WorkflowID(al.Name, scope, in.TaskQueue), WorkflowType: preemption.WorkflowName, Signal: preemption.AlarmSignal,
		Payload: change, What: what(change), Bundle: true,
	}, "", true, nil
}

// nothingToDo reports whether the rule does nothing at the alarm's colour, and did nothing at the one before.
func (p Preempt) nothingToDo(al alarm.Alarm, crit preemption.Criticality) bool {
	return al.Up() && crit == None && !fell(al) && al.From != alarm.Gray && p.Criticality(al.From) == None
}

func fell(al alarm.Alarm) bool { return alarm.Rank(al.To) < alarm.Rank(al.From) }

// alarmChange is what the intake is told; a rise, and a fall that softens, has a request.
func (p Preempt) alarmChange(in Incoming, al alarm.Alarm, scope alarm.Object, rule string, crit preemption.Criticality) (preemption.AlarmChange, error) {
	change := preemption.AlarmChange{
		Alarm: al.Name, Entity: al.Entity.Ref(), Scope: scope.Ref(), From: al.From, To: al.To,
		Time: al.Time.UTC(), EventKey: al.EventKey, Rule: rule, Criticality: crit, TaskQueue: in.TaskQueue,
		Source: al.VCenter,
	}
	if change.Time.IsZero() {
		change.Time = time.Now().UTC()
	}
	// What was gray may have been red before.
	change.Soften = p.OnFall == OnFallSoften && crit != None && al.To == alarm.Yellow && (fell(al) || al.From == alarm.Gray)
	if crit == None || fell(al) && !change.Soften {
		return change, nil
	}
	var err error
	if change.Request, err = p.request(in, crit); err != nil {
		return change, err
	}
	return change, fits(change)
}

// what says for people what a change asks for.
func what(c preemption.AlarmChange) string {
	switch {
	case len(c.Request) > 0:
		return string(c.Criticality) + " preemption"
	case c.To == alarm.Gray:
		return "state unknown"
	case alarm.Rank(c.To) > alarm.Rank(c.From) && c.To != alarm.Green:
		return "nothing more at " + c.To
	}
	return "fall to " + c.To
}

// fits checks whether the intake takes a signal of that size.
func fits(c preemption.AlarmChange) error {
	b, err := json.Marshal(c)
	if err == nil && len(b) > preemption.MaxRequestBytes {
		err = fmt.Errorf("the event of alarm %q makes a signal of %d bytes: at most %d are taken", c.Alarm, len(b), preemption.MaxRequestBytes)
	}
	return err
}

// scope is the contended object by the policy's scope, zero for everything.
func (p Preempt) scope(al alarm.Alarm) (alarm.Object, error) {
	switch p.Scope {
	case scopeAll:
		return alarm.Object{}, nil
	case scopeHost:
		host := al.Host
		if al.Entity.Type == "HostSystem" {
			host = al.Entity
		}
		if host.Zero() {
			return alarm.Object{}, fmt.Errorf("the policy works by host, and the event of alarm %q names none", al.Name)
		}
		return host, nil
	}
	scope := al.Scope()
	if scope.Zero() {
		return scope, fmt.Errorf("the event of alarm %q names neither a cluster nor a host to work on; a policy with scope: all would work on everything", al.Name)
	}
	return scope, nil
}

func (p Preempt) request(in Incoming, crit preemption.Criticality) (json.RawMessage, error) {
	cause := alarm.Trim(in.CloudEvent)
	if len(cause) > maxEventBytes {
		return nil, fmt.Errorf("the event's attributes make %d bytes: at most %d are taken", len(cause), maxEventBytes)
	}
	e, err := preemption.ParseEvent(cause)
	if err != nil {
		return nil, err
	}
	return json.Marshal(preemption.WorkflowRequest{
		Tag: p.Tag, Criticality: crit, Event: e, ReplyTo: p.ReplyTo, Policy: p.Policy,
		TaskQueue: in.TaskQueue, Mode: p.Mode, WhenSilenced: p.WhenSilenced,
	})
}

// WorkflowID is the id of the intake that an alarm in a scope has: <alarm>@<scope MoRef>, see workflowid.Intake. Task
// queues other than the default are part of it, for workflow ids are shared by all queues of a namespace, and MoRefs
// repeat between vCenters.
func WorkflowID(name string, scope alarm.Object, queue string) string {
	place := scope.Value
	if queue != "" && queue != preemption.DefaultTaskQueue {
		if place == "" {
			place = "all"
		}
		place += "@" + queue
	}
	return workflowid.Intake(name, place)
}
