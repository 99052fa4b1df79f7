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

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
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

// CheckPattern says what is wrong with the name, glob or MoRef of an alarm.
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
