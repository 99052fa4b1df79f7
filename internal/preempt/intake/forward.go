package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The prototype's clients name no task queue: they signal the workflow that is called as their alarm. Where two vCenters
// share a namespace, and both have an alarm of that name, the second client's request reaches the first one's intake.
// That intake asks the workers of the other task queues whether the event is of their vCenter, and forwards the request.

// HandOnInput is a signal whose event is not of this vCenter, as far as is known.
type HandOnInput struct {
	IntakeID string  `json:"intakeID"`
	Message  Message `json:"message"`
}

// Recipient is the intake that a signal was handed on to; empty: none.
type Recipient struct {
	Queue    string `json:"queue,omitempty"`
	IntakeID string `json:"intakeID,omitempty"`
}

// Bounds of the search for the task queue of an event.
const (
	askTime   = 5 * time.Second
	maxQueues = 50
	polled    = 70 * time.Second // a worker asks for work at least once a minute
)

// forward hands a signal on to the task queue that serves the vCenter of its event. It returns false if this intake is to
// decide.
func (it *intake) forward(d Decoded, i item) (preemptapi.Decision, bool) {
	unverified := d.Demand != nil && d.Demand.Unverified
	if !d.AnotherVCenter && !unverified && !d.Uncertain || i.done != nil || i.Alarm {
		return preemptapi.Decision{}, false
	}
	var a *Activities
	var to Recipient
	ctx := it.local(10 * time.Second) // whoever waits behind it waits no longer
	in := HandOnInput{IntakeID: it.info.WorkflowExecution.ID, Message: i.Message}
	if err := workflow.ExecuteLocalActivity(ctx, a.HandOn, in).Get(ctx, &to); err != nil {
		workflow.GetLogger(it.ctx).Error("it could not be found out which vCenter an event is of", "error", err)
		return preemptapi.Decision{}, false
	}
	if to.Queue == "" {
		return preemptapi.Decision{}, false
	}
	it.state.Requests++
	workflow.GetLogger(it.ctx).Info("a request was handed on: its event is of another vCenter", "task_queue", to.Queue, "intake", to.IntakeID)
	return preemptapi.Decision{Verdict: preemptapi.HandedOn, Reason: fmt.Sprintf("its event is of the vCenter that task queue %q serves: see %s", to.Queue, to.IntakeID)}, true
}

// HandOn finds the task queue that serves the vCenter of a request's event, and signals the intake there. Repeated, it
// signals again, which the event's key tells.
func (a *Activities) HandOn(ctx context.Context, in HandOnInput) (out Recipient, err error) {
	var request map[string]json.RawMessage
	if json.Unmarshal(in.Message.JSON, &request) != nil || len(request["event"]) == 0 {
		return out, nil
	}
	queues, err := a.otherQueues(ctx)
	if err != nil {
		return out, err
	}
	queue := a.queueOf(ctx, queues, request["event"])
	if queue == "" {
		return out, nil
	}
	if request["taskQueue"], err = json.Marshal(queue); err != nil {
		return out, err
	}
	id := workflowid.Of(in.IntakeID + "@" + queue)
	_, err = a.Temporal.SignalWithStartWorkflow(ctx, id, preemption.SignalChannel, request,
		client.StartWorkflowOptions{ID: id, TaskQueue: queue}, preemption.WorkflowName)
	if err != nil {
		return out, fmt.Errorf("hand a request on to %s: %w", id, err)
	}
	return Recipient{Queue: queue, IntakeID: id}, nil
}

// otherQueues lists the task queues of the namespace, other than our own.
func (a *Activities) otherQueues(ctx context.Context) (queues []string, err error) {
	req := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: a.Namespace, PageSize: 1000,
		Query: fmt.Sprintf("(WorkflowType = '%s' AND ExecutionStatus = 'Running') OR (WorkflowType = '%s' AND StartTime > '%s')",
			ledger.WorkflowType, preemptapi.ProbeType, time.Now().Add(-3*time.Minute).UTC().Format(time.RFC3339)), // a probe a minute
	}
	page, err := a.Temporal.ListWorkflow(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("list the task queues of the namespace: %w", err)
	}
	for _, w := range page.GetExecutions() {
		queue := w.GetTaskQueue()
		if queue == "" || queue == a.TaskQueue || slices.Contains(queues, queue) || len(queues) == maxQueues {
			continue
		}
		queues = append(queues, queue)
	}
	return queues, nil
}

// hasWorkers reports whether somebody asked for the work of a task queue of late.
func (a *Activities) hasWorkers(ctx context.Context, queue string) bool {
	d, err := a.Temporal.DescribeTaskQueue(ctx, queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	return err == nil && slices.ContainsFunc(d.GetPollers(), func(p *taskqueuepb.PollerInfo) bool {
		return time.Since(p.GetLastAccessTime().AsTime()) < polled
	})
}

// queueOf asks the workers of the queues, side by side, whether an event is of their vCenter; "" if none says so.
func (a *Activities) queueOf(ctx context.Context, queues []string, event json.RawMessage) string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	ours := make([]bool, len(queues))
	var wg sync.WaitGroup
	for i, queue := range queues {
		wg.Go(func() {
			if !a.hasWorkers(ctx, queue) {
				return
			}
			var res preemptapi.NamesResult
			run, err := a.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
				ID: workflowid.Plan + "origin-" + uuid.NewString(), TaskQueue: queue, WorkflowExecutionTimeout: askTime,
				StaticSummary: "whose event is it?",
			}, preemptapi.NamesType, preemptapi.NamesInput{Event: event})
			if err == nil {
				err = run.Get(ctx, &res)
			}
			if err != nil {
				a.Log.Warn("a task queue does not say whether an event is of its vCenter", "task_queue", queue, "reason", err)
			}
			ours[i] = err == nil && res.Ours
		})
	}
	wg.Wait()
	if i := slices.Index(ours, true); i >= 0 {
		return queues[i]
	}
	return ""
}

// isOurs reports whether an alarm's event is certainly of this worker's vCenter.
func (a *Activities) isOurs(ctx context.Context, event json.RawMessage) (bool, error) {
	al, err := alarm.FromCloudEvent(event)
	if err != nil {
		return false, nil
	}
	return a.VCenter.Knows(ctx, vcenter.AlarmEvent{Source: al.VCenter, Name: al.Name, Entity: preempt.RefOf(al.Entity), Key: al.EventKey, Time: al.Time})
}
