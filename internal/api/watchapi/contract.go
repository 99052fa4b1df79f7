// Package watchapi holds what passes between the watch and those who speak to it: names, its state, its
// checkpoint. It is apart from internal/watch so that preemptctl links no vCenter gateway. Of ours it
// imports the ids of workflows alone.
package watchapi

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The names by which others reach the watch.
const (
	WorkflowType  = "WatchVCenterEvents"
	ControlSignal = "WatchControl" // carries Control
	StateQuery    = "watch_state"  // answers State; fresher than its checkpoint is the activity's heartbeat
	ActivityType  = "FollowEvents" // its heartbeat carries a Checkpoint
)

// WorkflowID returns the id of the watch that serves a task queue. Workers of one task queue speak to one
// vCenter, so that this is one watch per vCenter however many workers run.
func WorkflowID(taskQueue string) string { return workflowid.Of(workflowid.Watch + taskQueue) }

// Control pauses the watch or lets it go on. A pause outlives every worker.
type Control struct {
	Paused bool   `json:"paused"`
	Reason string `json:"reason,omitempty"`
}

// State is how the watch stands.
type State struct {
	Paused     bool       `json:"paused"`
	PausedAt   time.Time  `json:"pausedAt,omitzero"`
	Reason     string     `json:"reason,omitempty"` // of the pause
	Checkpoint Checkpoint `json:"checkpoint"`
}

// Checkpoint is how far the watch has come in vCenter's event history, so that another worker goes on from
// there.
type Checkpoint struct {
	VCenter  string    `json:"vcenter,omitempty"` // source of the events
	Worker   string    `json:"worker,omitempty"`  // who watches, or last did
	LookedAt time.Time `json:"lookedAt,omitzero"` // last look that vCenter answered, by the worker's clock
	Reached  time.Time `json:"reached,omitzero"`  // time of the last event dealt with, by vCenter's clock
	Seen     []Mark    `json:"seen,omitempty"`    // events shortly before Reached, which are not dealt with again
	Levels   []Level   `json:"levels,omitempty"`  // the alarms that were handed over as up
	Compared time.Time `json:"compared,omitzero"` // last comparison of alarm states, by the worker's clock
	Events   int64     `json:"events"`            // read so far
	Sent     int64     `json:"sent"`              // of which rules made something
	Caught   int64     `json:"caught,omitempty"`  // changes that only the comparison of states showed
	Refused  int64     `json:"refused,omitempty"` // events that match a rule and can never be acted upon
	// Aside are events that could not be handed over although others could, the first of AsideCount: they are given again.
	Aside      []Aside `json:"aside,omitempty"`
	AsideCount int     `json:"asideCount,omitempty"`
	Last       *Note   `json:"last,omitempty"`     // the last event read
	LastSent   *Note   `json:"lastSent,omitempty"` // the last of which a rule made something
	// LastRefused is the last event that matches a rule and can never be acted upon, with the reason.
	LastRefused *Note     `json:"lastRefused,omitempty"`
	Trouble     string    `json:"trouble,omitempty"` // why nothing can be read or handed over at the moment
	Since       time.Time `json:"since,omitzero"`    // of the trouble
	Away        bool      `json:"away,omitempty"`    // the trouble is an outage of vCenter, which is waited for
}

// Aside is an event that could not be handed over, and why.
type Aside struct {
	Event  string    `json:"event"`
	Reason string    `json:"reason"`
	Tries  int       `json:"tries"`
	Since  time.Time `json:"since,omitzero"` // when it was set aside
}

// Mark is an event by key and time: vCenter's keys may begin again.
type Mark struct {
	Key  int64     `json:"k"`
	Time time.Time `json:"t"`
}

// Level is an alarm that was handed over as up, with what is needed to tell its fall.
type Level struct {
	Alarm  Object    `json:"alarm"`
	Entity Object    `json:"entity"`
	Scope  Object    `json:"cluster,omitzero"` // the compute resource
	Host   Object    `json:"host,omitzero"`
	Colour string    `json:"colour"`
	Time   time.Time `json:"time"`
	Caught bool      `json:"caught,omitempty"` // by the comparison: its event may still come
}

// Object is a vSphere object as an event names it.
type Object struct {
	Type  string `json:"type"`
	Value string `json:"value"`
	Name  string `json:"name,omitempty"`
}

// Note is one event in short.
type Note struct {
	Time       time.Time `json:"time"` // by vCenter's clock
	At         time.Time `json:"at"`   // when it was dealt with, by the worker's clock
	Class      string    `json:"class"`
	Alarm      string    `json:"alarm,omitempty"`
	Entity     string    `json:"entity,omitempty"`
	To         string    `json:"to,omitempty"`
	Rule       string    `json:"rule,omitempty"`
	WorkflowID string    `json:"workflowID,omitempty"`
	What       string    `json:"what,omitempty"` // what was sent
	Reason     string    `json:"reason,omitempty"`
}
