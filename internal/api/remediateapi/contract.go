// Package remediateapi holds what passes between the remediation workflows and those who speak to them: results,
// states, names. It is apart from internal/remediate so that preemptctl links neither the workflows nor the
// vCenter gateway.
package remediateapi

import (
	"encoding/json"
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
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

// Input starts a remediation workflow; existing senders start it with none and signal.
type Input struct {
	Requests []placement.Request `json:"requests,omitempty"`
	Earlier  []Decision          `json:"earlier,omitempty"` // before a continue-as-new
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
	Kind      string          `json:"kind"`
	State     State           `json:"state"`
	Reason    string          `json:"reason,omitempty"`
	RequestID string          `json:"requestID"`
	VM        vsphere.Ref     `json:"vm,omitzero"`
	Name      string          `json:"name,omitempty"`
	Cluster   vsphere.Ref     `json:"cluster,omitzero"` // the compute resource of its host, where it is known
	Mode      string          `json:"mode,omitempty"`   // the effective one
	Resource  string          `json:"resource,omitempty"`
	Cause     placement.Cause `json:"cause"`
	StartedAt time.Time       `json:"startedAt"`
	EndedAt   time.Time       `json:"endedAt,omitzero"`
	Until     time.Time       `json:"until,omitzero"` // end of a wait under way, or of a cooldown

	Before *placement.Hardware `json:"before,omitempty"` // of a resize or a reconfigure
	After  *placement.Hardware `json:"after,omitempty"`
	Hot    bool                `json:"hot,omitempty"` // added hot
	Tag    string              `json:"tag,omitempty"` // the wish left as a tag, category=value
	Bad    []placement.BadTag  `json:"bad,omitempty"` // tags that cannot be applied

	Source    *placement.Usage       `json:"source,omitempty"` // of a move: the datastore it is about
	Move      *placement.Relocation  `json:"move,omitempty"`
	Plan      []placement.Relocation `json:"plan,omitempty"`      // of a dry run or a recommendation
	Stay      []placement.Stay       `json:"stay,omitempty"`      // VMs that are not moved, and why; at most 100
	StayCount map[string]int         `json:"stayCount,omitempty"` // by reason, where there are more

	Annotated       bool   `json:"annotated,omitempty"`
	AnnotationError string `json:"annotationError,omitempty"`
	Reply           string `json:"reply,omitempty"` // what became of the CloudEvent: sent, or why not
}

// Final reports whether nothing more is to come of it.
func (d Decision) Final() bool { return d.State.Final() }

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
	Tags     map[string][]string `json:"tags,omitempty"`    // by category, of those that ask for settings
	AllTags  map[string][]string `json:"allTags,omitempty"` // of every category
	Hardware *placement.Hardware `json:"hardware,omitempty"`
	Wanted   *placement.Hardware `json:"wanted,omitempty"` // after the next power-off
	Bad      []placement.BadTag  `json:"bad,omitempty"`
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
		placement.CategoryCPUs:           {"1", "2", "3", "4"},
		placement.CategoryCoresPerSocket: {"1", "2", "3", "4"},
		placement.CategoryMemory:         {"1024", "2048", "4096", "8192", "16384"},
		placement.CategoryMemoryHotAdd:   booleans,
		placement.CategoryCPUHotAdd:      booleans,
		placement.CategoryCPUHotRemove:   booleans,
		placement.CategoryMode:           {placement.ModeRecommend, placement.ModeTag, placement.ModeHotAdd, placement.ModeHotOrOff, placement.ModePowerCycle, placement.ModeOff},
	}
}

// ReconcileInput starts a reconciliation.
type ReconcileInput struct {
	DryRun bool   `json:"dryRun,omitempty"`
	By     string `json:"by,omitempty"` // placement.ByHand or ByReconciler
	// Earlier and Rest are carried from run to run: what was decided, and who is still to be looked at.
	Earlier *ReconcileResult `json:"earlier,omitempty"`
	Rest    []vsphere.Ref    `json:"rest,omitempty"`
}

// ReconcileID is the id of the reconciliation of a task queue: there is one at a time.
func ReconcileID(queue string) string {
	return placement.WorkflowID("reconcile", vsphere.Ref{Value: "all"}, queue)
}

// ReconcileResult is the result: one Decision for each VM that is off and differs from its tags, or has tags that
// cannot be applied.
type ReconcileResult struct {
	State     State      `json:"state"` // Applied (also where there was nothing to do), Planned or Failed
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
