// Package trigger decides what an event starts: its rules turn a decoded vSphere event into one message to
// a Temporal workflow, the same message however often and in whatever order the event arrives. It is the
// only code that starts work from events.
package trigger

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// ErrRefused marks an event that matches a rule and can never be acted upon, however often it is sent.
var ErrRefused = errors.New("refused")

// Incoming is one event that reached us.
type Incoming struct {
	Event      alarm.Event
	CloudEvent json.RawMessage // the event as it came, as a structured CloudEvent
	TaskQueue  string          // of the workers that work for the event's vCenter; set by the Engine
}

// Rule says what to do about the events that it matches.
type Rule struct {
	// Alarm is the name of the alarm, a glob over it, or the alarm's MoRef (alarm-123). Empty for a rule
	// on a class of events other than alarms.
	Alarm string
	// Class is the class of events, where the rule is not on an alarm.
	Class  alarm.Class
	Action Action
}

// Order is one signal to a workflow, which is started if it does not run.
type Order struct {
	WorkflowID   string
	WorkflowType string
	Signal       string
	Payload      any
	What         string // for people: "MEDIUM preemption", "fall to green"
	Bundle       bool   // the workflow also takes an array of such payloads in one signal
}

// Name is how results and workflows refer to the rule.
func (r Rule) Name() string {
	if r.Alarm != "" {
		return r.Alarm
	}
	return string(r.Class)
}

// Matches reports whether the rule is on the event.
func (r Rule) Matches(e alarm.Event) bool {
	if r.Alarm == "" {
		return r.Class != "" && r.Class == e.Class
	}
	al, ok := e.Change()
	return ok && (r.Alarm == al.Name || r.Alarm == al.Ref.Value || glob(r.Alarm, al.Name))
}

// Covers reports whether the rule is certainly on all events that another one is on.
func (r Rule) Covers(other Rule) bool {
	if r.Alarm == "" || other.Alarm == "" {
		return r.Alarm == other.Alarm && r.Class == other.Class
	}
	if r.Alarm == other.Alarm || r.Alarm == "*" {
		return true
	}
	return !strings.ContainsAny(r.Alarm, `?[\\`) && !strings.ContainsAny(other.Alarm, `[\\`) && glob(r.Alarm, other.Alarm)
}

// CheckPattern tells what is wrong with the name, glob or MoRef of an alarm.
func CheckPattern(pattern string) error {
	switch {
	case strings.TrimSpace(pattern) == "":
		return errors.New("it is empty: write the alarm's name, a glob over it, or its MoRef such as alarm-123")
	case len(pattern) > maxName:
		return fmt.Errorf("it is %d bytes long: at most %d are taken", len(pattern), maxName)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%q is no name pattern; use * ? and [a-z], with \\ before a literal one", pattern)
	}
	return nil
}

const maxName = 255

// glob matches a name as path.Match does, but that a slash is a letter like any other.
func glob(pattern, name string) bool {
	const letter = "\x01"
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", letter), strings.ReplaceAll(name, "/", letter))
	return ok && err == nil
}

// Classes lists the classes of events that the rules are on.
func Classes(rules []Rule) []alarm.Class {
	var classes []alarm.Class
	seen := map[alarm.Class]bool{}
	for _, r := range rules {
		class := r.Class
		if r.Alarm != "" {
			class = alarm.ClassAlarm
		}
		if class != "" && !seen[class] {
			seen[class] = true
			classes = append(classes, class)
		}
	}
	return classes
}

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

// None stands for a colour at which a rule does nothing.
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

// Order tells the intake of alarm and scope what changed. Falls are told even where nothing is known to be
// under way: an intake that has seen the green knows a late red for what it is. An event without a time
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
	fell := alarm.Rank(al.To) < alarm.Rank(al.From)
	if al.Up() && crit == None && !fell && al.From != alarm.Gray && p.Criticality(al.From) == None {
		return Order{}, "the rule does nothing at " + al.To, false, nil
	}
	change := preemption.AlarmChange{
		Alarm: al.Name, Entity: al.Entity.Ref(), Scope: scope.Ref(), From: al.From, To: al.To,
		Time: al.Time.UTC(), EventKey: al.EventKey, Rule: rule, Criticality: crit, TaskQueue: in.TaskQueue,
		Source: al.VCenter,
	}
	if change.Time.IsZero() {
		change.Time = time.Now().UTC()
	}
	// What was gray may have been red before.
	change.Soften = p.OnFall == OnFallSoften && crit != None && al.To == alarm.Yellow && (fell || al.From == alarm.Gray)
	if crit != None && (!fell || change.Soften) {
		if change.Request, err = p.request(in, crit); err == nil {
			err = fits(change)
		}
		if err != nil {
			return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return Order{
		WorkflowID: WorkflowID(al.Name, scope, in.TaskQueue), WorkflowType: preemption.WorkflowName, Signal: preemption.AlarmSignal,
		Payload: change, What: what(change), Bundle: true,
	}, "", true, nil
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

// fits tells whether the intake takes a signal of that size.
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
