package health

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// RepairID returns the id of the repair of a workflow: its result stays there as long as Temporal keeps it.
func RepairID(workflowID string) string { return "preemption-repair@" + workflowID }

// RepairInput asks a worker to free a workflow that is stuck.
type RepairInput struct {
	WorkflowID string `json:"workflowID"`
	RunID      string `json:"workflowRunID"`
	Execute    bool   `json:"execute,omitempty"` // false: only show
	Force      bool   `json:"force,omitempty"`   // also one that makes progress
}

// RepairResult is what was found and done about a stuck workflow.
type RepairResult struct {
	WorkflowID string `json:"workflowID"`
	RunID      string `json:"workflowRunID"`
	Type       string `json:"type"`
	Stall      *Stall `json:"stalled,omitempty"` // nil: it makes progress
	Executed   bool   `json:"executed"`
	Refused    string `json:"refused,omitempty"` // why nothing was done, or would be
	// Round is the result of a round so far as it can be proven, from its own record and from vCenter.
	Round *preemptapi.RoundResult `json:"round,omitempty"`
	// Steps are what was done, or would be, in order; Unproven is what could not be found out, or not be done.
	Steps    []string  `json:"steps"`
	Unproven []string  `json:"unproven,omitempty"`
	At       time.Time `json:"at"`
}

// LookAt checks whether one workflow is stalled now.
func (l *Looker) LookAt(ctx context.Context, id string) (s Stall, stalled bool, err error) {
	if l.Limits == (Limits{}) {
		l.Limits = DefaultLimits()
	}
	r := Report{At: l.now()}
	if id == ledger.WorkflowID(l.TaskQueue) || id == watchapi.WorkflowID(l.TaskQueue) {
		if _, err := l.singles(ctx, &r); err != nil {
			return s, false, err
		}
		if s, stalled = r.Of(id); stalled {
			return s, true, nil
		}
	}
	d, err := l.Client.DescribeWorkflowExecution(ctx, id, "")
	if err != nil || d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return s, false, err
	}
	l.judge(ctx, &r, d, func() bool { return l.polled(ctx) })
	s, stalled = r.Of(id)
	return s, stalled, nil
}
