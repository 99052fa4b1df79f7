package preemptapi

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The names of the restore.
const (
	RestoreType       = "RestoreVMsWorkflow"
	RestoreStateQuery = "restore_state" // answers a RestoreResult as it stands
	RestoreSignal     = "RestoreChange" // carries RestoreChange
	// RestoreHoldSignal carries a RestoreChange, and has the restore stop powering on and look again.
	RestoreHoldSignal = "RestoreHold"
	// ByHand is by whom a person's restore is.
	ByHand = "preemptctl restore"
)

// RestoreID returns the id of the restore of a scope: there is one at a time. Task queues other than the
// default are part of it, for workflow ids are shared by all queues of a namespace.
func RestoreID(queue string, scope vsphere.Ref) string {
	id := workflowid.Restore + "all"
	if !scope.Zero() {
		id = workflowid.Restore + scope.Value
	}
	if queue != "" && queue != preemption.DefaultTaskQueue {
		id += "@" + queue
	}
	return workflowid.Of(id)
}

// RestoreInput starts a restore.
type RestoreInput struct {
	Scope     vsphere.Ref `json:"scope,omitzero"` // zero: everything tagged
	ScopeName string      `json:"scopeName,omitempty"`
	Tag       string      `json:"tag"`
	// Policy is pinned where an alarm starts the restore; a person names one.
	Policy     *policy.Policy `json:"policy,omitempty"`
	PolicyName string         `json:"policyName,omitempty"` // empty: default
	PolicyHash string         `json:"policyHash,omitempty"`
	By         string         `json:"by"`               // the alarm's name, or ByHand
	Person     bool           `json:"person,omitempty"` // wants it now: waits neither for the settle time nor for room
	DryRun     bool           `json:"dryRun,omitempty"`
	VMs        []string       `json:"vms,omitempty"` // names, paths or MoRefs; empty: all
	ReplyTo    string         `json:"replyTo,omitempty"`

	Earlier *RestoreResult `json:"earlier,omitempty"` // of the run that continued as this one
	// What that run was told, and how far it was.
	Stopped   string `json:"stopped,omitempty"`   // why it was to stop
	Again     bool   `json:"again,omitempty"`     // the pressure has ended once more since
	Over      bool   `json:"over,omitempty"`      // it was cancelled
	Unsettled bool   `json:"unsettled,omitempty"` // the settle time is to pass again
}

// RestoreChange tells a restore that the alarm rose (Stop), or has fallen again since.
type RestoreChange struct {
	Stop   bool   `json:"stop,omitempty"`
	Reason string `json:"reason"`
}

// RestoredVM is what became of one VM that was to come back.
type RestoredVM struct {
	policy.Return
	Outcome         RestoreOutcome     `json:"outcome"`
	Reason          policy.Explanation `json:"reason,omitzero"`
	OnAt            time.Time          `json:"onAt,omitzero"` // when vCenter was seen to say so
	Annotated       bool               `json:"annotated,omitempty"`
	AnnotationError string             `json:"annotationError,omitempty"`
	Again           bool               `json:"again,omitempty"` // it failed for a reason that may pass
}

// RestoreResult is what a restore did, and why.
type RestoreResult struct {
	RestoreID  string          `json:"restoreID"`
	RunID      string          `json:"runID"`
	State      RestoreState    `json:"state"`
	Reason     string          `json:"reason,omitempty"`
	By         string          `json:"by"`
	Tag        string          `json:"tag"`
	Scope      vsphere.Ref     `json:"scope,omitzero"`
	ScopeName  string          `json:"scopeName,omitempty"`
	PolicyName string          `json:"policy"`
	PolicyHash string          `json:"policyHash"`
	StartedAt  time.Time       `json:"startedAt"`
	EndedAt    time.Time       `json:"endedAt,omitzero"`
	Until      time.Time       `json:"until,omitzero"` // end of the wait under way
	VMs        []RestoredVM    `json:"vms"`            // in the order in which they were powered on, or would be
	Left       []policy.Spared `json:"left"`           // and why the others stay off, by the last look
	Waves      int             `json:"waves"`
	Before     []policy.Usage  `json:"before,omitempty"` // as first measured
	After      []policy.Usage  `json:"after,omitempty"`  // as last measured, and what the plan was to make of it
	ReplySent  bool            `json:"replySent,omitempty"`
	ReplyError string          `json:"replyError,omitempty"`
	Changes    []string        `json:"changes,omitempty"` // stops and returns of the pressure, in words
}

// Count returns how many VMs have the outcome.
func (r RestoreResult) Count(outcome RestoreOutcome) (n int) {
	for _, vm := range r.VMs {
		if vm.Outcome == outcome {
			n++
		}
	}
	return n
}

// Restored returns the VMs that were powered on, or have their own CPU limit again, in order.
func (r RestoreResult) Restored() []vsphere.Ref {
	refs := []vsphere.Ref{}
	for _, vm := range r.VMs {
		if vm.Outcome == OutcomeRestored {
			refs = append(refs, vm.Ref)
		}
	}
	return refs
}

// RestoreResultOf returns a restore's result from what waiting for it gave: a failed one carries its result
// in its error's details. It returns err where there is none.
func RestoreResultOf(err error, r RestoreResult) (RestoreResult, error) {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.HasDetails() {
		var failed RestoreResult
		if app.Details(&failed) == nil && failed.RestoreID != "" {
			return failed, nil
		}
	}
	return r, err
}
