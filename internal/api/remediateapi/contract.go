// Package remediateapi holds what passes between the remediation workflows and those who speak to them: results,
// states, names. It is apart from internal/remediate so that preemptctl links neither the workflows nor the
// vCenter gateway.
package remediateapi

import (
	"encoding/json"
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Names beside those of package remedy.
const (
	StateQuery = "remediation_state" // answers a Report as it stands
	// TagsType is the workflow that makes the categories and tags, or reads those of a VM: TagsInput, TagsResult.
	TagsType = "RemediationTags"
	// ReconcileType is the workflow that looks for VMs whose tags were not applied at power-off, and applies
	// them: ReconcileInput, ReconcileResult.
	ReconcileType = "ReconcileVMs"
	// Attribute is the custom attribute that holds the last Decision about a VM, as JSON.
	Attribute = "com.vmware.workflows.vsphere.remediation"
	// EventPrefix and EventSuffix enclose the state in the type of the CloudEvents.
	EventPrefix = "com.vmware.workflows.vsphere.remediation."
	EventSuffix = ".v0"
)

// The states in which a remediation ends; each is told as a CloudEvent of its own type.
const (
	Planned    = "Planned"    // decided, and only told: the mode is recommend, or it is a dry run
	Applied    = "Applied"    // done, and vCenter says so
	Deferred   = "Deferred"   // to be done later: at the next power-off, or when what was in the way is gone
	Skipped    = "Skipped"    // not to be done: nothing to change, opted out, in the cooldown, a duplicate
	Infeasible = "Infeasible" // cannot be done, and trying again will not help
	AtLimit    = "AtLimit"    // the VM is as large as it may be
	Failed     = "Failed"
)

// Working is the state of one that is under way.
const Working = "Working"

// Input starts a remediation workflow; existing senders start it with none and signal.
type Input struct {
	Requests []remedy.Request `json:"requests,omitempty"`
	Earlier  []Decision       `json:"earlier,omitempty"` // before a continue-as-new
}

// Report is the result of a remediation workflow, and its answer while it runs: the last decisions, oldest first.
type Report struct {
	WorkflowID string     `json:"workflowID"`
	RunID      string     `json:"runID"`
	Kind       string     `json:"kind"`
	Decisions  []Decision `json:"decisions"`
}

// Decision is what became of one request, or of one move of it.
type Decision struct {
	Kind      string       `json:"kind"`
	State     string       `json:"state"`
	Reason    string       `json:"reason,omitempty"`
	RequestID string       `json:"requestID"`
	VM        vsphere.Ref  `json:"vm,omitzero"`
	Name      string       `json:"name,omitempty"`
	Mode      string       `json:"mode,omitempty"` // the effective one
	Resource  string       `json:"resource,omitempty"`
	Cause     remedy.Cause `json:"cause"`
	StartedAt time.Time    `json:"startedAt"`
	EndedAt   time.Time    `json:"endedAt,omitzero"`
	Until     time.Time    `json:"until,omitzero"` // end of a wait under way, or of a cooldown

	Before *remedy.Hardware `json:"before,omitempty"` // of a resize or a reconfigure
	After  *remedy.Hardware `json:"after,omitempty"`
	Hot    bool             `json:"hot,omitempty"` // added hot
	Tag    string           `json:"tag,omitempty"` // the wish left as a tag, category=value
	Bad    []remedy.BadTag  `json:"bad,omitempty"` // tags that cannot be applied

	Source    *remedy.Usage       `json:"source,omitempty"` // of a move: the datastore it is about
	Move      *remedy.Relocation  `json:"move,omitempty"`
	Plan      []remedy.Relocation `json:"plan,omitempty"`      // of a dry run or a recommendation
	Stay      []remedy.Stay       `json:"stay,omitempty"`      // VMs that are not moved, and why; at most 100
	StayCount map[string]int      `json:"stayCount,omitempty"` // by reason, where there are more

	Annotated       bool   `json:"annotated,omitempty"`
	AnnotationError string `json:"annotationError,omitempty"`
	Reply           string `json:"reply,omitempty"` // what became of the CloudEvent: sent, or why not
}

// Final tells whether nothing more is to come of it.
func (d Decision) Final() bool { return d.State != Working }

// TagsInput asks for categories and tags.
type TagsInput struct {
	VM     string              `json:"vm,omitempty"`     // show the tags of this VM (MoRef, path or unique name); "": create
	Values map[string][]string `json:"values,omitempty"` // tags by category, to create; nil: DefaultTags
	DryRun bool                `json:"dryRun,omitempty"`
}

// TagsResult is the answer.
type TagsResult struct {
	Created []Tag `json:"created,omitempty"` // or, of a dry run, to be created
	Existed []Tag `json:"existed,omitempty"`
	// Of one VM:
	VM       vsphere.Ref         `json:"vm,omitzero"`
	Name     string              `json:"name,omitempty"`
	Power    string              `json:"power,omitempty"`
	Tags     map[string][]string `json:"tags,omitempty"`
	Hardware *remedy.Hardware    `json:"hardware,omitempty"`
	Wanted   *remedy.Hardware    `json:"wanted,omitempty"` // after the next power-off
	Bad      []remedy.BadTag     `json:"bad,omitempty"`
}

// Tag is a tag, or with an empty name a category.
type Tag struct {
	Category string `json:"category"`
	Name     string `json:"name,omitempty"`
}

// DefaultTags are the categories and tags that the original's generator made: CPUs and cores 1 to 4, memory in
// powers of two from 1024 to 16384 MB, booleans; and the modes by which owners opt in.
func DefaultTags() map[string][]string {
	booleans := []string{"true", "false"}
	return map[string][]string{
		remedy.CategoryCPUs:           {"1", "2", "3", "4"},
		remedy.CategoryCoresPerSocket: {"1", "2", "3", "4"},
		remedy.CategoryMemory:         {"1024", "2048", "4096", "8192", "16384"},
		remedy.CategoryMemoryHotAdd:   booleans,
		remedy.CategoryCPUHotAdd:      booleans,
		remedy.CategoryCPUHotRemove:   booleans,
		remedy.CategoryMode:           {remedy.ModeRecommend, remedy.ModeTag, remedy.ModeHotAdd, remedy.ModeHotOrOff, remedy.ModePowerCycle, remedy.ModeOff},
	}
}

// ReconcileInput starts a reconciliation.
type ReconcileInput struct {
	DryRun bool   `json:"dryRun,omitempty"`
	By     string `json:"by,omitempty"` // remedy.ByHand or ByReconciler
	// Earlier and Rest are carried from run to run: what was decided, and who is still to be looked at.
	Earlier *ReconcileResult `json:"earlier,omitempty"`
	Rest    []vsphere.Ref    `json:"rest,omitempty"`
}

// ReconcileID is the id of the reconciliation of a task queue: there is one at a time.
func ReconcileID(queue string) string {
	return remedy.WorkflowID("reconcile", vsphere.Ref{Value: "all"}, queue)
}

// ReconcileResult is the result: one Decision for each VM that is off and differs from its tags, or has tags that
// cannot be applied.
type ReconcileResult struct {
	State     string     `json:"state"` // Applied (also where there was nothing to do), Planned or Failed
	Reason    string     `json:"reason,omitempty"`
	Looked    int        `json:"looked"` // VMs that carry such tags
	On        int        `json:"on"`     // of them, those that are on and wait for their power-off
	Decisions []Decision `json:"decisions"`
	More      int        `json:"more,omitempty"` // decisions beyond the first 500
}

// Add counts one more decision in.
func (r *ReconcileResult) Add(d Decision) {
	if d.State == Failed {
		if r.State = Failed; r.Reason == "" {
			r.Reason = d.Name + ": " + d.Reason
		}
	}
	if len(r.Decisions) == maxReconciled {
		r.More++
		return
	}
	r.Decisions = append(r.Decisions, d)
}

// maxReconciled is how many decisions a reconciliation tells.
const maxReconciled = 500

// ErrRemediation is the type of the error with which a workflow fails; its details hold the Report.
const ErrRemediation = "RemediationFailed"

// ReportOf returns a workflow's report from what waiting for it gave: a failed one carries it in its error's
// details. It returns err where there is none.
func ReportOf(err error, r Report) (Report, error) {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.HasDetails() {
		var failed Report
		if app.Details(&failed) == nil && failed.Kind != "" {
			return failed, nil
		}
	}
	return r, err
}

// Attribution is the value of Attribute.
type Attribution struct {
	Decision
	WorkflowID string          `json:"workflowID"`
	Event      json.RawMessage `json:"event,omitempty"`
}
