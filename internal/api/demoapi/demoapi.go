// Package demoapi holds what passes between preemptctl demo and a running demo, standalone --simulate, so that preemptctl
// links no simulator. It is JSON over HTTP on the loopback address: an Order is posted, and an Answer or a Refusal comes back.
package demoapi

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// Where a demo takes orders, and how it knows that no page in a browser gives them.
const (
	DefaultPort = 8235
	Path        = "/demo/v1"
	// Header is one that each order has. A page of another site cannot send it without being allowed to, and never is.
	Header      = "Preemption-Demo"
	HeaderValue = "1"
	ContentType = "application/json"
)

// Bounds of what is ordered.
const (
	LeastLoad = 10 // percent
	MostLoad  = 100
	LeastFor  = time.Second
	MostFor   = 10 * time.Minute
)

// Knob is what an order turns.
type Knob string

// The knobs.
const (
	KnobStatus Knob = "status" // turns nothing
	KnobAlarm  Knob = "alarm"
	KnobLoad   Knob = "load"
	KnobKill   Knob = "worker kill"
	KnobCut    Knob = "vcenter cut"
	KnobBack   Knob = "vcenter back"
)

// Knobs returns all of them.
func Knobs() []Knob { return []Knob{KnobStatus, KnobAlarm, KnobLoad, KnobKill, KnobCut, KnobBack} }

// ClusterNames are the names of the demo's clusters, the one that is meant without a name first.
func ClusterNames() []string { return []string{"cluster-a", "cluster-b"} }

// Order is what is posted.
type Order struct {
	Knob    Knob           `json:"knob"`
	On      string         `json:"on,omitempty"`      // alarm, load: a cluster's name; "": the demo's first one
	Colour  string         `json:"colour,omitempty"`  // alarm: red, yellow or green
	Percent int            `json:"percent,omitempty"` // load: CPU that the VMs ask for; 0: the simulated day decides again
	For     clock.Duration `json:"for,omitempty"`     // worker kill, vcenter cut: how long; 0: the demo's own time, or no end
}

// Answer says what was done, and what to look at next.
type Answer struct {
	Done   string `json:"done"`
	Next   string `json:"next,omitempty"`
	Status Status `json:"status"`
}

// Refusal is the answer to an order that is not carried out. Its HTTP status is 400 where the order is wrong, 404 where it
// names what does not exist, 409 where it cannot be carried out now, and 403 where it may come from a page in a browser.
type Refusal struct {
	Error string `json:"error"`
}

// Status is how the demo stands.
type Status struct {
	Temporal string    `json:"temporal"`
	Console  string    `json:"console,omitempty"`
	Speed    float64   `json:"speed"`
	Day      string    `json:"day"` // time of the simulated day, such as 09:30
	Clusters []Cluster `json:"clusters"`
	Worker   Part      `json:"worker"`
	VCenter  Part      `json:"vcenter"`
}

// Cluster is how a cluster of the demo stands.
type Cluster struct {
	Name   string  `json:"name"`
	Demand float64 `json:"demand"` // percent of CPU that its VMs would use if all were on
	CPU    float64 `json:"cpu"`    // percent that is used
	Held   bool    `json:"held"`   // the load is what an order said
	Alarm  string  `json:"alarm"`  // its colour
	Pinned bool    `json:"pinned"` // the alarm has the colour that an order said
	Off    int     `json:"off"`    // VMs that are off because of a preemption
}

// Part is how the worker or vCenter stands.
type Part struct {
	Up    bool      `json:"up"`
	Until time.Time `json:"until,omitzero"` // when it comes back; zero: it is up, or an order must bring it back
}
