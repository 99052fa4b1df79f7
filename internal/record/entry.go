package record

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Kind is the kind of work that an Entry is about.
type Kind string

// The kinds of work.
const (
	Round       Kind = "round"
	Restore     Kind = "restore"
	Room        Kind = "room"
	Remediation Kind = "remediation"
)

// Kinds lists the kinds of work.
func Kinds() []Kind { return []Kind{Round, Restore, Room, Remediation} }

// StateUnread is the state of an Entry whose result could not be read; its Error says why.
const StateUnread = "unread"

// Entry is one round, restore, room workflow or remediation workflow.
type Entry struct {
	Kind        Kind          `json:"kind"`
	ID          string        `json:"id"` // of the workflow
	RunID       string        `json:"runID"`
	State       string        `json:"state"` // as its own result names it
	Open        bool          `json:"open,omitempty"`
	Reason      string        `json:"reason,omitempty"`
	Alarm       string        `json:"alarm,omitempty"` // by which it was caused; empty: a person, or another event
	By          string        `json:"by,omitempty"`    // who else caused it: a rule, a command, for whom room was made
	Criticality string        `json:"criticality,omitempty"`
	Tag         string        `json:"tag,omitempty"`
	Policy      string        `json:"policy,omitempty"`
	PolicyHash  string        `json:"policyHash,omitempty"`
	Scope       vsphere.Ref   `json:"scope,omitzero"` // zero: everything tagged
	ScopeName   string        `json:"scopeName,omitempty"`
	Cluster     vsphere.Ref   `json:"cluster,omitzero"` // of the scope, where the result shows it
	ClusterName string        `json:"clusterName,omitempty"`
	StartedAt   time.Time     `json:"startedAt"`
	EndedAt     time.Time     `json:"endedAt,omitzero"`
	Deadline    time.Time     `json:"deadline,omitzero"` // of the notice or wait under way
	VMs         []VM          `json:"vms"`
	Spared      int           `json:"spared,omitempty"`      // candidates that a round left as they were, or a restore off
	Next        []policy.Next `json:"next,omitempty"`        // who would go as well if more had to, by a round's last plan
	FreedCPUMHz int64         `json:"freedCPUMHz,omitempty"` // that a round freed
	FreedMemMB  int64         `json:"freedMemoryMB,omitempty"`
	// Usage is the usage of the contended scopes: of a round before and after, of a restore as last measured.
	Usage []policy.Usage `json:"usage,omitempty"`
	// UsageFirst is the usage as a restore measured it first, when it began.
	UsageFirst []policy.Usage `json:"usageFirst,omitempty"`
	At         time.Time      `json:"at"`              // when it was read; what has ended does not change any more
	Error      string         `json:"error,omitempty"` // why its result, or its state, cannot be read
}

// Done is what became of a VM, in the record's own closed set.
type Done string

// What became of a VM.
const (
	TurnedOff  Done = "off"        // a round turned it off or suspended it
	Throttled  Done = "throttled"  // a round set a CPU limit; it is on
	Returned   Done = "returned"   // a restore powered it on, or took its CPU limit back
	LeftOff    Done = "left"       // a restore left it as it was
	Spared     Done = "spared"     // a target that was not acted on
	FoundOn    Done = "found_on"   // it is on by somebody else's doing
	FailedToDo Done = "failed"     // what was to be done failed
	Waiting    Done = "waiting"    // it is to be acted on
	Remedied   Done = "remedied"   // a remediation was applied
	Considered Done = "considered" // a remediation that was not, or not yet, applied; or what a plan would do
)

// VM is what became of one VM in an Entry.
type VM struct {
	Ref      vsphere.Ref `json:"ref"`
	Name     string      `json:"name,omitempty"`
	Done     Done        `json:"done"`
	Outcome  string      `json:"outcome"`          // as the result names it, such as shut_down
	Words    string      `json:"words"`            // the same as people read it
	Reason   string      `json:"reason,omitempty"` // why it has this outcome, in words
	Why      string      `json:"why,omitempty"`    // why it was chosen, in words
	Notice   string      `json:"notice,omitempty"` // what became of its notice
	Forced   bool        `json:"forced,omitempty"`
	OffAt    time.Time   `json:"offAt,omitzero"`
	OnAt     time.Time   `json:"onAt,omitzero"`
	CPUMHz   int64       `json:"cpuMHz,omitempty"` // what it used when it was chosen, and so what it freed
	MemoryMB int64       `json:"memoryMB,omitempty"`
	Host     vsphere.Ref `json:"host,omitzero"`
	Groups   []string    `json:"groups,omitempty"` // application groups
	// Annotated says that our record is on it; AnnotationError why not.
	Annotated       bool   `json:"annotated,omitempty"`
	AnnotationError string `json:"annotationError,omitempty"`
}

// Called returns the VM's name, or its MoRef where no name is known.
func (v VM) Called() string {
	if v.Name != "" {
		return v.Name
	}
	return v.Ref.Value
}
