package preempt

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// HoldRestores has restores stop powering on, and look again before they go on. One that has ended needs no word.
func (e *Env) HoldRestores(ctx context.Context, ids []string, reason string) error {
	var all error
	for _, id := range ids {
		err := e.Temporal.SignalWorkflow(ctx, id, "", preemptapi.RestoreHoldSignal, preemptapi.RestoreChange{Reason: reason})
		var gone *serviceerror.NotFound
		if err != nil && !errors.As(err, &gone) {
			all = errors.Join(all, fmt.Errorf("hold %s: %w", id, err))
		}
	}
	return all
}

// StartRestore starts the restore of a scope, or signals the one under way that the pressure has ended again, for the
// reason given. It returns the restore's id.
func (e *Env) StartRestore(ctx context.Context, in preemptapi.RestoreInput, reason string) (string, error) {
	id := preemptapi.RestoreID(e.TaskQueue, in.Scope)
	opts := client.StartWorkflowOptions{
		ID: id, TaskQueue: e.TaskQueue, WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowTaskTimeout: TaskTimeout,
		StaticSummary:       Clip("restore of VMs tagged " + in.Tag + " " + in.ScopeName),
		Memo:                map[string]any{"alarm": in.By, "scope": in.Scope.String(), "tag": in.Tag, "state": preemptapi.RestoreSettling},
	}
	change := preemptapi.RestoreChange{Reason: reason}
	if _, err := e.Temporal.SignalWithStartWorkflow(ctx, id, preemptapi.RestoreSignal, change, opts, preemptapi.RestoreType, in); err != nil {
		return "", fmt.Errorf("start %s: %w", id, err)
	}
	return id, nil
}
