package record

import (
	"context"
	"errors"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// fill reads the result of work that has ended. Its error means that Temporal did not answer; a workflow that has
// no result is an entry that says so.
func (r *Reader) fill(ctx context.Context, e *Entry, kind string) error {
	err := r.decode(ctx, e, kind)
	switch {
	case err == nil:
	case ended(err):
		if state := endedAs(err); state != "" {
			e.State, e.Reason = state, "somebody or something ended the workflow before it had a result"
			return nil
		}
		e.unread(err)
	default:
		return err
	}
	return nil
}

// EndStates lists the states of entries that are none of the work's own: its workflow was ended, or cannot be read.
func EndStates() []string { return []string{endTerminated, endCancelled, endTimedOut, StateUnread} }

// States lists the states of all kinds of entries, each once, without regard to case, in the order of the alphabet.
func States() []string {
	all := append(EndStates(), roomRejected, stateRunning)
	for _, s := range preemptapi.RoundStates() {
		all = append(all, string(s))
	}
	for _, s := range preemptapi.RestoreStates() {
		all = append(all, string(s))
	}
	for _, s := range preemptapi.RoomStates() {
		all = append(all, string(s))
	}
	for _, s := range remediateapi.States() {
		all = append(all, string(s))
	}
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return slices.CompactFunc(all, strings.EqualFold)
}

const (
	roomRejected = "rejected" // of a workflow that makes room: it took no request
	stateRunning = "running"  // of work that does not say more of itself while it is under way
)

// The states of work whose workflow was ended.
const (
	endTerminated = "terminated"
	endCancelled  = "cancelled"
	endTimedOut   = "timed_out"
)

// StateOfEnd is the state of work whose workflow was ended, by the status that Temporal lists; "" of other work.
func StateOfEnd(status enumspb.WorkflowExecutionStatus) string {
	switch status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return endTerminated
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return endCancelled
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return endTimedOut
	}
	return ""
}

// endedAs is the state of a workflow that was ended before it had a result; "" of another.
func endedAs(err error) string {
	var terminated *temporal.TerminatedError
	var cancelled *temporal.CanceledError
	var late *temporal.TimeoutError
	switch {
	case errors.As(err, &terminated):
		return endTerminated
	case errors.As(err, &cancelled):
		return endCancelled
	case errors.As(err, &late):
		return endTimedOut
	}
	return ""
}

// decode reads the result of a workflow of a type into an entry.
func (r *Reader) decode(ctx context.Context, e *Entry, kind string) (err error) {
	switch kind {
	case preemptapi.RoundType:
		var v preemptapi.RoundResult
		if v, err = r.round(ctx, e.ID, e.RunID); err == nil {
			ofRound(e, v)
		}
	case preemptapi.RestoreType:
		var v preemptapi.RestoreResult
		if v, err = preemptapi.RestoreResultOf(r.result(ctx, e.ID, e.RunID, &v), v); err == nil {
			ofRestore(e, v)
		}
	case preemption.MakeRoomWorkflowName:
		var v preemptapi.RoomResult
		if err = r.result(ctx, e.ID, e.RunID, &v); err == nil {
			ofRooms(e, v)
		}
	case remediateapi.ReconcileType:
		var v remediateapi.ReconcileResult
		if err = r.result(ctx, e.ID, e.RunID, &v); err == nil {
			ofReconciled(e, v)
		}
	case placement.ResizeType, placement.ReconfigureType, placement.MoveType:
		var v remediateapi.Report
		if v, err = remediateapi.ReportOf(r.result(ctx, e.ID, e.RunID, &v), v); err == nil {
			ofReport(e, v)
		}
	}
	return err
}

// result reads the result of one run.
func (r *Reader) result(ctx context.Context, id, run string, to any) error {
	return r.Client.GetWorkflow(ctx, id, run).GetWithOptions(ctx, to, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
}

// round reads the result of a round that has ended: its own, or what a repair wrote for it.
func (r *Reader) round(ctx context.Context, id, run string) (preemptapi.RoundResult, error) {
	var v preemptapi.RoundResult
	v, err := preemptapi.ResultOf(r.result(ctx, id, run, &v), v)
	var terminated *temporal.TerminatedError
	if !errors.As(err, &terminated) {
		return v, err
	}
	var repaired health.RepairResult
	if failed := r.result(ctx, health.RepairID(id), "", &repaired); failed == nil && repaired.Round != nil && repaired.RunID == run {
		return *repaired.Round, nil
	}
	return v, err
}

// ended reports whether an error is the end of a workflow, or a result that cannot be decoded, and not a failure to
// reach Temporal.
func ended(err error) bool {
	var how *temporal.WorkflowExecutionError
	var unavailable *serviceerror.Unavailable
	switch {
	case errors.As(err, &how):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, &unavailable):
		return false
	}
	var status serviceerror.ServiceError
	return !errors.As(err, &status)
}
