package placement

import (
	"encoding/json"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The modes of a resize, as rules and tags name them.
const (
	ModeRecommend  = "recommend"            // decide and tell, change nothing
	ModeTag        = "tag"                  // attach the desired size as a tag, for the next power-off
	ModeHotAdd     = "hotAddOnly"           // add hot where the VM allows it, else nothing
	ModeHotOrOff   = "hotAddOrNextPowerOff" // add hot where the VM allows it, else as ModeTag
	ModePowerCycle = "powerCycleInWindow"   // add hot where the VM allows it, else shut down, reconfigure and power on within the window
	ModeOff        = "off"                  // of a tag only: leave this VM alone
)

// The ways to compute the next size.
const (
	SizingSteps    = "steps"    // whole sockets; memory by the larger of 1024 MB and a quarter
	SizingOriginal = "original" // as the original functions: one CPU more, up to 4; the next power of two of memory, up to 8192 MB
)

// Resize are the settings of a rule that scales up a VM in alarm.
type Resize struct {
	Resource string         `json:"resource"`           // CPU or Memory
	Mode     string         `json:"mode"`               // for VMs without a tag of CategoryMode
	Sizing   string         `json:"sizing"`             // SizingSteps or SizingOriginal
	Max      int            `json:"max,omitempty"`      // virtual CPUs, or MB; 0: the default of the sizing
	Cooldown clock.Duration `json:"cooldown,omitempty"` // between two sizes of one VM and resource
	// Window, a cron expression, with Duration and TimeZone is when ModePowerCycle may turn a VM off.
	Window   string         `json:"window,omitempty"`
	Duration clock.Duration `json:"duration,omitempty"`
	TimeZone string         `json:"timeZone,omitempty"`
	ReplyTo  string         `json:"replyTo,omitempty"`
}

// Reconfigure are the settings of a rule that applies configuration tags at power-off.
type Reconfigure struct {
	Mode    string `json:"mode,omitempty"` // "" applies; ModeRecommend only tells
	ReplyTo string `json:"replyTo,omitempty"`
}

// Move are the settings of a rule that moves VMs off a full datastore.
type Move struct {
	TargetUsage int            `json:"targetUsage"`          // percent used of the source to come below, less Margin points
	Mode        string         `json:"mode,omitempty"`       // "" moves; ModeRecommend only tells
	Cooldown    clock.Duration `json:"cooldown,omitempty"`   // between two moves of one VM
	OverCommit  int            `json:"overCommit,omitempty"` // percent of a destination's capacity that may be provisioned
	ReplyTo     string         `json:"replyTo,omitempty"`
}

// Bounds and defaults. Sizes are of virtual CPUs and MB, space is in bytes.
const (
	DefaultMaxCPUs     = 16
	DefaultMaxMemoryMB = 64 << 10
	OriginalMaxCPUs    = 4
	OriginalMaxMemory  = 8192

	DefaultCooldown     = 30 * time.Minute
	DefaultMoveCooldown = 24 * time.Hour
	DefaultTargetUsage  = 75
	DefaultOverCommit   = 150
	Margin              = 5               // points under the target that a source is brought to
	MaxUsage            = 80              // percent of a destination that may be used after a move
	MinFree             = int64(50 << 30) // bytes that stay free on a destination
	MinGain             = 5               // points by which a destination must be less used than the source
)

// The names of the alarms that the original functions and vSphere itself have for what is remedied.
const (
	AlarmCPU             = "Virtual machine CPU usage"
	AlarmMemory          = "Virtual machine memory usage"
	AlarmDatastore       = "Datastore usage on disk"
	AlarmOriginalCPU     = "VM CPU Usage"
	AlarmOriginalMemory  = "VM Memory Usage"
	AlarmOriginalStorage = "VM Storage Usage"
)

// Request is what a trigger or a person asks of a remediation workflow.
type Request struct {
	ID     string      `json:"id"` // the same for the same event, however often it arrives
	Kind   string      `json:"kind"`
	VM     vsphere.Ref `json:"vm,omitzero"`
	Source vsphere.Ref `json:"source,omitzero"` // the datastore in alarm, of a move
	// Target is what a person named instead of VM and Source: the MoRef, inventory path or unique name of a VM, or
	// of a datastore, as TargetType says: VirtualMachine or Datastore. The worker resolves it.
	Target     string `json:"target,omitempty"`
	TargetType string `json:"targetType,omitempty"`
	Cause      Cause  `json:"cause"`
	DryRun     bool   `json:"dryRun,omitempty"`

	Resize      *Resize      `json:"resize,omitempty"`
	Reconfigure *Reconfigure `json:"reconfigure,omitempty"`
	Move        *Move        `json:"move,omitempty"`

	TaskQueue string          `json:"taskQueue,omitempty"` // of the workers that work for the event's vCenter
	Event     json.RawMessage `json:"event,omitempty"`     // the CloudEvent
}

// Cause says why something is remedied.
type Cause struct {
	Event    string      `json:"event"`           // class of the vSphere event, or ByHand, ByReconciler
	Alarm    string      `json:"alarm,omitempty"` // name
	From     string      `json:"from,omitempty"`
	To       string      `json:"to,omitempty"`
	Entity   vsphere.Ref `json:"entity,omitzero"`
	Time     time.Time   `json:"time,omitzero"`
	EventKey int64       `json:"eventKey,omitempty"`
	VCenter  string      `json:"vcenter,omitempty"` // host of the event's source
	Rule     string      `json:"rule,omitempty"`
}

// Causes that are no events.
const (
	ByHand       = "person"
	ByReconciler = "reconciler"
)

// The names by which the workflows are reached. They are started by the first signal.
const (
	ResizeType      = "ResizeVMWorkflow"
	ReconfigureType = "ReconfigureVMWorkflow"
	MoveType        = "MoveVMWorkflow"
	// Signal asks for one more remediation; its payload is a Request.
	Signal = "Remediate"
)

// WorkflowType is the workflow of a kind of remediation; "" for no kind.
func WorkflowType(kind string) string {
	return map[string]string{KindResize: ResizeType, KindReconfigure: ReconfigureType, KindMove: MoveType}[kind]
}

// WorkflowID is the id of the workflow that remedies one VM, or one datastore, in one way: there is one at a
// time. Task queues other than the default are part of it, for workflow ids are shared by all queues of a
// namespace.
func WorkflowID(kind string, object vsphere.Ref, queue string) string {
	id := kind + "@" + object.Value
	if queue != "" && queue != defaultTaskQueue {
		id += "@" + queue
	}
	return workflowid.Of(id)
}

// defaultTaskQueue is that of the root contract, which this package may not import; a test compares them.
const defaultTaskQueue = "vsphere-preemption"
