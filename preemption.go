// Package preemption is the public contract of vsphere-preemption: the names, requests and responses
// that clients of the preemption workflow put on the wire. It follows what the original prototype
// documented, and only ever adds to it. It imports no other package of this project.
package preemption

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// The names by which clients reach the preemption workflow.
const (
	// WorkflowName is the type of the intake workflow. Clients start it with SignalWithStart and no argument.
	WorkflowName = "PreemptVMsWorkflow"
	// SignalChannel carries one WorkflowRequest per signal.
	SignalChannel = "PreemptVMsChan"
	// WorkFlowQueryType is the query that answers one JSON string: a WorkflowResponse.
	WorkFlowQueryType = "current_state"
	// AlarmSignal carries an AlarmChange per signal, or an array of them in their order: a rise, a fall, or an
	// unknown state.
	AlarmSignal = "AlarmChanged"
	// RequestUpdate takes one WorkflowRequest and answers what was decided about it.
	RequestUpdate = "RequestPreemption"
)

// The defaults that clients rely on.
const (
	DefaultNamespace = "vsphere-preemption"
	DefaultTaskQueue = "vsphere-preemption"
	DefaultTag       = "preemptible"
	// DefaultWorkflowID is the id under which preemptctl runs the intake (spelled as documented).
	DefaultWorkflowID = "preempctl-run"
	// AttributeKey is the custom attribute on each preempted VM.
	AttributeKey = "com.vmware.workflows.vsphere.preemption"
	// PreemptedEventType is the type of the CloudEvent sent to a request's reply address.
	PreemptedEventType = "com.vmware.workflows.vsphere.VmPreemptedEvent.v0"
	// NoticeEventType is the type of the CloudEvent sent to a request's reply address before VMs go.
	NoticeEventType = "com.vmware.workflows.vsphere.VmPreemptionNotice.v0"
	// RestoredEventType is the type of the CloudEvent sent when VMs were powered on again.
	RestoredEventType = "com.vmware.workflows.vsphere.VmRestoredEvent.v0"
	// RunEventType is the type of the event that preemptctl makes up when none is given.
	RunEventType = "PreempctlRunEvent"
)

// Criticality says how hard to act.
type Criticality string

// The criticalities, mildest first.
const (
	CriticalityLow    Criticality = "LOW"    // guest shutdown, never forced
	CriticalityMedium Criticality = "MEDIUM" // guest shutdown, forced after the grace period
	CriticalityHigh   Criticality = "HIGH"   // power off now
)

// ParseCriticality reads a criticality in any case. Its error names the allowed values.
func ParseCriticality(s string) (Criticality, error) {
	c := Criticality(strings.ToUpper(strings.TrimSpace(s)))
	if c.Rank() == 0 {
		return "", fmt.Errorf("unknown criticality %q: use LOW, MEDIUM or HIGH", s)
	}
	return c, nil
}

// Rank orders criticalities: LOW 1, MEDIUM 2, HIGH 3, anything else 0.
func (c Criticality) Rank() int {
	switch c {
	case CriticalityLow:
		return 1
	case CriticalityMedium:
		return 2
	case CriticalityHigh:
		return 3
	}
	return 0
}

// ModeObserve is the mode in which everything is decided and nothing is touched.
const ModeObserve = "observe"

// What to do about an alarm that a person has acknowledged, or whose actions are disabled.
const (
	WhenSilencedHold = "hold" // do not start and do not repeat
	WhenSilencedAct  = "act"
)

// OriginPerson is the origin of a request whose sender is told when it is refused; an alarm's is deferred instead.
const OriginPerson = "person"

// WorkflowRequest asks for the preemption of the VMs that carry a tag.
type WorkflowRequest struct {
	Tag         string      `json:"tag"`         // vSphere tag that marks preemptible VMs; "category:name" where a name is ambiguous
	Criticality Criticality `json:"criticality"` // how hard to act
	Event       event.Event `json:"event"`       // what caused it; an alarm's event names the scope
	ReplyTo     string      `json:"replyTo"`     // URL that gets the CloudEvent reply; empty: none

	ID     string `json:"id,omitempty"`     // names this request: a repeated one acts once; empty: taken from the event
	Origin string `json:"origin,omitempty"` // OriginPerson where a person asks and wants to be told
	Policy string `json:"policy,omitempty"` // name of the policy; empty: default
	Mode   string `json:"mode,omitempty"`   // ModeObserve: everything but touching VMs; empty: the policy's
	// VM names one VM to evict, whatever else carries the tag: its name, inventory path or MoRef.
	VM         string `json:"vm,omitempty"`
	NoticeOnly bool   `json:"noticeOnly,omitempty"` // give the VM its notice and take it back: a rehearsal
	Notice     string `json:"notice,omitempty"`     // of a rehearsal, such as "30s", where the policy gives none
	// TaskQueue names the task queue, and so the vCenter, that the request is meant for. A workflow of the
	// same id on another queue rejects it, rather than act on another vCenter's VMs. Empty: whoever gets it.
	TaskQueue string `json:"taskQueue,omitempty"`
	// WhenSilenced is WhenSilencedAct where an alarm that is acknowledged, or whose actions are disabled, is to be acted
	// upon all the same. Empty: it is not.
	WhenSilenced string `json:"whenSilenced,omitempty"`
	// Cluster is the MoRef of the cluster, such as domain-c7, in which VMs go, where no alarm's event names it. Empty: everywhere.
	Cluster string `json:"cluster,omitempty"`
	// Headroom asks for what the policy's headroom lacks in the cluster: nobody goes while it is there.
	Headroom bool `json:"headroom,omitempty"`
	// Room asks who would have to go so that something fits on one host. Only a plan may ask for it.
	Room *Room `json:"room,omitempty"`
}

// Room is what is to fit on one host: a VM, or sizes.
type Room struct {
	For      string `json:"for,omitempty"`      // VM that is off: its name, inventory path or MoRef
	CPUs     int    `json:"cpus,omitempty"`     // without For
	MemoryMB int64  `json:"memoryMB,omitempty"` // without For
	Cluster  string `json:"cluster,omitempty"`  // its MoRef, such as domain-c7; empty: that of the VM, or any
	// Hosts is on how many different hosts the same room is asked for at once, all or none; 0 is one. Without For.
	Hosts int `json:"hosts,omitempty"`
	// Waiting is for all VMs of the cluster that went down with their host and stay off; only a rule asks so. Without For.
	Waiting bool `json:"waiting,omitempty"`
}

// MarshalJSON writes the request; an event that was never set is left out.
func (r WorkflowRequest) MarshalJSON() ([]byte, error) {
	type plain WorkflowRequest
	out := struct {
		plain
		Event *event.Event `json:"event,omitempty"`
	}{plain: plain(r)}
	if r.Event.Context != nil {
		out.Event = &r.Event
	}
	return json.Marshal(out)
}

// AlarmChange is a change of one alarm on one entity.
type AlarmChange struct {
	Alarm    string          `json:"alarm"`             // the alarm's name
	Entity   string          `json:"entity"`            // the object in alarm as Type:Value
	Scope    string          `json:"scope"`             // the contended cluster or host as Type:Value; empty: everything tagged
	From     string          `json:"from,omitempty"`    // gray, green, yellow or red
	To       string          `json:"to"`                // gray, green, yellow or red
	Time     time.Time       `json:"time"`              // when vCenter saw the change
	EventKey int64           `json:"eventKey"`          // key of the event in vCenter; 0: unknown
	Rule     string          `json:"rule,omitempty"`    // the rule that matched
	Request  json.RawMessage `json:"request,omitempty"` // on a rise: the WorkflowRequest to act on
	// Criticality is what the rule makes of To, NONE where nothing; empty: yellow is MEDIUM, red HIGH.
	Criticality Criticality `json:"criticality,omitempty"`
	Soften      bool        `json:"soften,omitempty"` // on a fall to yellow: go on at the request's criticality
	// TaskQueue names the task queue, and so the vCenter, that the change is of; see WorkflowRequest.
	TaskQueue string `json:"taskQueue,omitempty"`
	Source    string `json:"source,omitempty"` // of the event: which vCenter it is of; empty: unknown
}

// WorkflowResponse is the answer of the query and the result of the intake workflow.
type WorkflowResponse struct {
	WorkflowID      string      `json:"workflowID"`
	RunID           string      `json:"workflowRunID"`
	WorkflowName    string      `json:"workflowName"`
	LastPreemption  time.Time   `json:"lastPreemptionTime"` // zero: nothing was preempted
	VirtualMachines []Reference `json:"virtualMachines"`    // the VMs that the last round preempted
	Tag             string      `json:"tag"`
	Criticality     Criticality `json:"criticality"`
	Event           event.Event `json:"event"`
	ReplyTo         string      `json:"replyTo"`

	State string `json:"state,omitempty"` // idle, running, cooldown, failed, completed
}

// Reference is a managed object reference, written as {"Type","Value"} and read in either case.
type Reference struct {
	Type  string `json:"Type"`
	Value string `json:"Value"`
}

// MaxRequestBytes bounds a request as JSON; larger ones are rejected.
const MaxRequestBytes = 512 << 10

// ParseEvent reads a structured CloudEvent from JSON, within MaxRequestBytes, and validates it.
func ParseEvent(data []byte) (event.Event, error) {
	var e event.Event
	if len(data) > MaxRequestBytes {
		return e, fmt.Errorf("the event is %d bytes long: at most %d are taken", len(data), MaxRequestBytes)
	}
	if len(data) == 0 {
		return e, errors.New("the event is empty: give a structured CloudEvent as JSON")
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("the event is no structured CloudEvent: %w", err)
	}
	if err := e.Validate(); err != nil {
		return e, fmt.Errorf("the event is no valid CloudEvent: %w", err)
	}
	return e, nil
}
