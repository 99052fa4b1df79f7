package record

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// Limits bound what a Reader reads and keeps.
type Limits struct {
	Entries    int           // of work that has ended, kept in memory
	Bytes      int           // that these take, as estimated
	Open       int           // workflows under way that are asked for their state
	Intakes    int           // of them, intakes
	SideBySide int           // calls at a time
	Query      time.Duration // that a worker may take to answer
}

// DefaultLimits returns the limits for production.
func DefaultLimits() Limits {
	return Limits{Entries: 20000, Bytes: 64 << 20, Open: 200, Intakes: 50, SideBySide: 8, Query: 4 * time.Second}
}

// Reader reads the record of one task queue. It may be used by several callers at a time.
type Reader struct {
	Client    client.Client
	Namespace string
	TaskQueue string
	Limits    Limits           // zero: the default
	Clock     func() time.Time // nil: the clock

	mu     sync.Mutex // held while what has ended is read
	closed archive
	parts  parts
	// policies are those that were read, by hash.
	policies sync.Map
}

func (r *Reader) now() time.Time {
	if r.Clock != nil {
		return r.Clock().UTC()
	}
	return time.Now().UTC()
}

func (r *Reader) limits() Limits {
	if r.Limits == (Limits{}) {
		return DefaultLimits()
	}
	return r.Limits
}

// kinds says of each type of workflow in the record which kind of work it is.
var kinds = map[string]Kind{
	preemptapi.RoundType: Round, preemptapi.RestoreType: Restore, preemption.MakeRoomWorkflowName: Room,
	placement.ResizeType: Remediation, placement.ReconfigureType: Remediation, placement.MoveType: Remediation, remediateapi.ReconcileType: Remediation,
}

// types lists the types of workflows in the record, as a query names them.
func types(also ...string) string {
	all := append([]string{
		preemptapi.RoundType, preemptapi.RestoreType, preemption.MakeRoomWorkflowName,
		placement.ResizeType, placement.ReconfigureType, placement.MoveType, remediateapi.ReconcileType,
	}, also...)
	return "'" + strings.Join(all, "','") + "'"
}

// page lists workflows of our task queue, and returns the token of the next page.
func (r *Reader) page(ctx context.Context, query string, size int, token []byte) ([]*workflowpb.WorkflowExecutionInfo, []byte, error) {
	page, err := r.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: r.Namespace, PageSize: int32(size), NextPageToken: token,
		Query: fmt.Sprintf("TaskQueue = '%s' AND %s", strings.ReplaceAll(r.TaskQueue, "'", "''"), query),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the workflows of task queue %s in namespace %s: %w", r.TaskQueue, r.Namespace, err)
	}
	return page.GetExecutions(), page.GetNextPageToken(), nil
}

// each calls f for 0 to n-1, some at a time, and returns their errors.
func (r *Reader) each(n int, f func(int) error) error {
	errs := make([]error, n)
	places := make(chan struct{}, max(r.limits().SideBySide, 1))
	var wg sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// shell is the entry of a workflow, without its result.
func (r *Reader) shell(info *workflowpb.WorkflowExecutionInfo) Entry {
	e := Entry{
		Kind: kinds[info.GetType().GetName()], ID: info.GetExecution().GetWorkflowId(), RunID: info.GetExecution().GetRunId(),
		Open: info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, At: r.now(), VMs: []VM{},
	}
	if t := info.GetStartTime(); t != nil {
		e.StartedAt = t.AsTime().UTC()
	}
	if t := info.GetCloseTime(); t != nil {
		e.EndedAt = t.AsTime().UTC()
	}
	return e
}

// unread marks an entry whose result cannot be read.
func (e *Entry) unread(err error) {
	e.State, e.Error = StateUnread, err.Error()
}

// gone reports whether a workflow is not kept any more.
func gone(err error) bool {
	var missing *serviceerror.NotFound
	var elsewhere *serviceerror.NamespaceNotFound
	return errors.As(err, &missing) && !errors.As(err, &elsewhere)
}
