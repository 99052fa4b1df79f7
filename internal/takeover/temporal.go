package takeover

import (
	"context"
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
)

// running lists the open workflows of a type on our task queue.
func (k *Keeper) running(ctx context.Context, kind string) (all []*workflowpb.WorkflowExecutionInfo, err error) {
	req := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: k.Namespace,
		Query: fmt.Sprintf("WorkflowType = %s AND TaskQueue = %s AND ExecutionStatus = 'Running'",
			quoted(kind), quoted(k.TaskQueue)),
	}
	for {
		page, err := k.Temporal.ListWorkflow(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("list the open workflows of type %s: %w", kind, err)
		}
		all = append(all, page.GetExecutions()...)
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			return all, nil
		}
	}
}

// quoted is a text in a query.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// history reads a run's events until use returns false.
func (k *Keeper) history(ctx context.Context, run *commonpb.WorkflowExecution, use func(*historypb.HistoryEvent) bool) error {
	it := k.Temporal.GetWorkflowHistory(ctx, run.GetWorkflowId(), run.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return fmt.Errorf("read the history of %s: %w", run.GetWorkflowId(), err)
		}
		if !use(e) {
			return nil
		}
	}
	return nil
}

// begun returns how a run began.
func (k *Keeper) begun(ctx context.Context, id, run string) (*historypb.WorkflowExecutionStartedEventAttributes, error) {
	page, err := k.Temporal.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: k.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: run}, MaximumPageSize: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("read how %s began: %w", id, err)
	}
	events := page.GetHistory().GetEvents()
	if len(events) == 0 {
		return nil, fmt.Errorf("the history of %s is empty", id)
	}
	return events[0].GetWorkflowExecutionStartedEventAttributes(), nil
}

// replace ends the run and starts a workflow of ours under its id, in one step: nothing comes in between, and of several
// workers that do so one does it. It reports whether it was this one, and whether one has.
func (k *Keeper) replace(ctx context.Context, run *commonpb.WorkflowExecution, kind, summary string, input any) (did, replaced bool, err error) {
	// Reading may have taken a while, and what runs now may be ours: of another worker, or begun since.
	now, err := k.Temporal.DescribeWorkflowExecution(ctx, run.GetWorkflowId(), "")
	if err != nil {
		return false, false, fmt.Errorf("look at %s before it is replaced: %w", run.GetWorkflowId(), err)
	}
	if now.GetWorkflowExecutionInfo().GetExecution().GetRunId() != run.GetRunId() {
		return false, false, nil
	}
	in, err := converter.GetDefaultDataConverter().ToPayloads(input)
	if err != nil {
		return false, false, fmt.Errorf("write the input of %s: %w", run.GetWorkflowId(), err)
	}
	said, err := converter.GetDefaultDataConverter().ToPayload(summary)
	if err != nil {
		return false, false, err
	}
	from, err := converter.GetDefaultDataConverter().ToPayload(run.GetRunId())
	if err != nil {
		return false, false, err
	}
	res, err := k.Temporal.WorkflowService().StartWorkflowExecution(ctx, &workflowservice.StartWorkflowExecutionRequest{
		Namespace: k.Namespace, WorkflowId: run.GetWorkflowId(), WorkflowType: &commonpb.WorkflowType{Name: kind},
		TaskQueue: &taskqueuepb.TaskQueue{Name: k.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}, Input: in,
		RequestId: requestID(run.GetRunId(), "start"), Identity: k.identity,
		WorkflowIdReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIdConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
		UserMetadata:             &sdkpb.UserMetadata{Summary: said},
		Memo:                     &commonpb.Memo{Fields: map[string]*commonpb.Payload{inPlaceOf: from}},
	})
	if err != nil {
		return false, false, fmt.Errorf("replace run %s of %s by one of type %s: %w", run.GetRunId(), run.GetWorkflowId(), kind, err)
	}
	// The server answers a worker that comes second as it does the first.
	begun, err := k.begun(ctx, run.GetWorkflowId(), res.GetRunId())
	return err != nil || begun.GetIdentity() == k.identity, true, nil
}

// pass sends a signal of the ended run to the one in its place, once however often it is tried.
func (k *Keeper) pass(ctx context.Context, run *commonpb.WorkflowExecution, to, kind string, s signal) (err error) {
	request := requestID(run.GetRunId(), s.id)
	if to != "" {
		_, err = k.Temporal.WorkflowService().SignalWorkflowExecution(ctx, &workflowservice.SignalWorkflowExecutionRequest{
			Namespace: k.Namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.GetWorkflowId(), RunId: to},
			SignalName: s.name, Input: s.input, RequestId: request, Identity: k.identity,
		})
	} else {
		_, err = k.Temporal.WorkflowService().SignalWithStartWorkflowExecution(ctx, &workflowservice.SignalWithStartWorkflowExecutionRequest{
			Namespace: k.Namespace, WorkflowId: run.GetWorkflowId(), WorkflowType: &commonpb.WorkflowType{Name: kind},
			TaskQueue:  &taskqueuepb.TaskQueue{Name: k.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
			SignalName: s.name, SignalInput: s.input, RequestId: request, Identity: k.identity,
		})
	}
	if err != nil {
		return fmt.Errorf("pass on a signal of run %s to %s: %w", run.GetRunId(), run.GetWorkflowId(), err)
	}
	return nil
}
