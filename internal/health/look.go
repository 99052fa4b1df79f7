package health

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

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// problems is the search attribute by which servers from 1.30 on flag workflows whose tasks fail.
const problems = "TemporalReportedProblems"

// Limits on one check.
const (
	sideBySide = 8   // calls at a time
	pageSize   = 500 // of a list
)

// Looker checks the workflows of one task queue. It may be used by one caller at a time.
type Looker struct {
	Client    client.Client
	Namespace string
	TaskQueue string
	Limits    Limits           // zero: the default
	Now       func() time.Time // nil: the clock

	turn int // where the next check begins, if there are too many workflows for one
}

// Look finds what is stalled now. An error means that it could not check.
func (l *Looker) Look(ctx context.Context) (Report, error) {
	if l.Limits == (Limits{}) {
		l.Limits = DefaultLimits()
	}
	r := Report{At: l.now().UTC(), Stalled: []Stall{}}
	open, err := l.open(ctx)
	if err != nil {
		return r, err
	}
	r.Open = len(open)
	singles, err := l.singles(ctx, &r)
	if err != nil {
		return r, err
	}
	found, err := l.examine(ctx, l.pick(open, singles))
	if err != nil {
		return r, err
	}
	r.Looked = len(found)
	polled := sync.OnceValue(func() bool { return l.polled(ctx) })
	for _, d := range found {
		l.judge(ctx, &r, d, polled)
	}
	if err := l.ended(ctx, &r); err != nil {
		return r, err
	}
	r.Stalled, r.Waiting = sorted(r.Stalled), sorted(r.Waiting)
	return r, nil
}

func (l *Looker) now() time.Time {
	if l.Now != nil {
		return l.Now()
	}
	return time.Now()
}

// open lists our open workflows, from visibility, which may be some seconds behind.
func (l *Looker) open(ctx context.Context) (all []*workflowpb.WorkflowExecutionInfo, err error) {
	req := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: l.Namespace, PageSize: pageSize,
		Query: fmt.Sprintf("ExecutionStatus = 'Running' AND TaskQueue = '%s' AND WorkflowType IN ('%s')",
			strings.ReplaceAll(l.TaskQueue, "'", "''"), strings.Join(Types(), "','")),
	}
	for len(all) < l.Limits.Listed {
		page, err := l.Client.ListWorkflow(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("list the open workflows of task queue %s: %w", l.TaskQueue, err)
		}
		all = append(all, page.GetExecutions()...)
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			break
		}
	}
	return all, nil
}

// singles checks the workflows of which there is one per task queue, by their ids: another type may run there.
func (l *Looker) singles(ctx context.Context, r *Report) (ids []string, err error) {
	for _, one := range []struct{ id, kind string }{
		{ledger.WorkflowID(l.TaskQueue), ledger.WorkflowType}, {watchapi.WorkflowID(l.TaskQueue), watchapi.WorkflowType},
	} {
		d, err := l.Client.DescribeWorkflowExecution(ctx, one.id, "")
		var missing *serviceerror.NotFound
		var elsewhere *serviceerror.NamespaceNotFound
		if errors.As(err, &missing) && !errors.As(err, &elsewhere) {
			continue // nothing has needed it yet
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", one.id, err)
		}
		info := d.GetWorkflowExecutionInfo()
		if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			continue
		}
		if is := info.GetType().GetName(); is != one.kind {
			r.Stalled = append(r.Stalled, Stall{
				WorkflowID: one.id, RunID: info.GetExecution().GetRunId(), Type: one.kind, Kind: WrongType, Since: info.GetStartTime().AsTime(),
				Cause: fmt.Sprintf("a workflow of type %s runs under this id, where a %s should", is, one.kind), Remedy: remedyFor(WrongType, one.id),
			})
			continue
		}
		ids = append(ids, one.id)
	}
	return ids, nil
}

// pick chooses the workflows to examine: always the singles and those that the server flags, the others in turn.
func (l *Looker) pick(open []*workflowpb.WorkflowExecutionInfo, singles []string) []string {
	chosen := singles
	known := map[string]bool{ledger.WorkflowID(l.TaskQueue): true, watchapi.WorkflowID(l.TaskQueue): true}
	var rest []string
	for _, info := range open {
		id := info.GetExecution().GetWorkflowId()
		_, flagged := info.GetSearchAttributes().GetIndexedFields()[problems]
		switch {
		case known[id]:
			continue
		case flagged && len(chosen) < l.Limits.Looks:
			chosen = append(chosen, id)
		default:
			rest = append(rest, id)
		}
		known[id] = true
	}
	room := min(l.Limits.Looks-len(chosen), len(rest))
	if l.turn >= len(rest) {
		l.turn = 0
	}
	for i := range max(room, 0) {
		chosen = append(chosen, rest[(l.turn+i)%len(rest)])
	}
	l.turn += max(room, 0)
	return chosen
}

// examine describes each workflow, some at a time. Workflows that have ended in the meantime are left out.
func (l *Looker) examine(ctx context.Context, ids []string) (found []*workflowservice.DescribeWorkflowExecutionResponse, err error) {
	all := make([]*workflowservice.DescribeWorkflowExecutionResponse, len(ids))
	errs := make([]error, len(ids))
	places := make(chan struct{}, sideBySide)
	var wg sync.WaitGroup
	for i, id := range ids {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			var missing *serviceerror.NotFound
			if all[i], errs[i] = l.Client.DescribeWorkflowExecution(ctx, id, ""); errors.As(errs[i], &missing) {
				errs[i] = nil
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("look at the open workflows of task queue %s: %w", l.TaskQueue, err)
	}
	for _, d := range all {
		if d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			found = append(found, d)
		}
	}
	return found, nil
}

// polled reports whether a worker polls the task queue. If none does, everything waits, which other checks report.
func (l *Looker) polled(ctx context.Context) bool {
	const fresh = 75 * time.Second // a poll lasts up to a minute
	d, err := l.Client.DescribeTaskQueue(ctx, l.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return false
	}
	for _, p := range d.GetPollers() {
		if l.now().Sub(p.GetLastAccessTime().AsTime()) < fresh {
			return true
		}
	}
	return false
}
