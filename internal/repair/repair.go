// Package repair frees a workflow that is stuck: it reads what the workflow left in its history and what vCenter says
// of its VMs, ends it, writes the result that can be proven, and gives back what it held. It acts on no VM but for
// the attribute of one that its round turned off.
package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Bounds of a repair.
const (
	examineTime = time.Minute
	executeTime = 3 * time.Minute
	heartbeat   = 10 * time.Second
	ledgerTime  = 15 * time.Second // for an answer of the ledger
	maxEvents   = 60_000           // of a history
)

// Reason is what Temporal shows of a workflow that was ended.
const Reason = "ended by preemptctl workflow repair"

// Activities are what a repair looks and acts with.
type Activities struct {
	VCenter   *vcenter.Gateway
	Temporal  client.Client
	Namespace string
	TaskQueue string
	Log       *slog.Logger
}

// Register adds the workflow and its activities to a worker.
func Register(r worker.Registry, a *Activities) {
	r.RegisterWorkflowWithOptions(Repair, workflow.RegisterOptions{Name: health.RepairType})
	r.RegisterActivityWithOptions(a.Examine, activity.RegisterOptions{Name: "ExamineStuck"})
	r.RegisterActivityWithOptions(a.Execute, activity.RegisterOptions{Name: "FreeStuck"})
}

// Examination is what was found of a workflow, and what freeing it takes.
type Examination struct {
	Result health.RepairResult     `json:"result"`
	Done   *ledger.CompleteRequest `json:"done,omitempty"`   // of a round
	Intake string                  `json:"intake,omitempty"` // whom to tell
	Owed   []Owed                  `json:"owed,omitempty"`   // attributes that the round did not come to write
}

// Owed is an attribute that is to be written.
type Owed struct {
	VM    vsphere.Ref `json:"vm"`
	Value string      `json:"value"`
}

// Repair examines the workflow, and frees it where that is asked for. What was found is in its history before
// anything is done, so that a worker that dies meanwhile changes nothing of it.
func Repair(ctx workflow.Context, in health.RepairInput) (health.RepairResult, error) {
	var a *Activities
	var found Examination
	look := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: examineTime, ScheduleToCloseTimeout: 2 * examineTime, HeartbeatTimeout: heartbeat,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 3}, Summary: "look at " + in.WorkflowID,
	})
	if err := workflow.ExecuteActivity(look, a.Examine, in).Get(ctx, &found); err != nil {
		return found.Result, err
	}
	if !in.Execute || found.Result.Refused != "" {
		return found.Result, nil
	}
	act := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: executeTime, ScheduleToCloseTimeout: 3 * executeTime, HeartbeatTimeout: heartbeat,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 5}, Summary: "free " + in.WorkflowID,
	})
	err := workflow.ExecuteActivity(act, a.Execute, found).Get(ctx, &found.Result)
	return found.Result, err
}

// Examine looks, and changes nothing.
func (a *Activities) Examine(ctx context.Context, in health.RepairInput) (e Examination, err error) {
	defer step.Beat(ctx, heartbeat)()
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, in.WorkflowID, in.RunID)
	if err != nil {
		return e, fmt.Errorf("look up workflow %s: %w", in.WorkflowID, err)
	}
	info := d.GetWorkflowExecutionInfo()
	r := &e.Result
	*r = health.RepairResult{
		WorkflowID: in.WorkflowID, RunID: info.GetExecution().GetRunId(), Type: info.GetType().GetName(), Steps: []string{}, At: time.Now().UTC(),
	}
	looker := &health.Looker{Client: a.Temporal, Namespace: a.Namespace, TaskQueue: a.TaskQueue}
	stall, stalled, err := looker.LookAt(ctx, in.WorkflowID)
	switch {
	case err != nil:
		return e, err
	case info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		r.Refused = "it has ended already"
		return e, nil
	case !a.ours(r.WorkflowID, r.Type):
		r.Refused = "it is none of ours: its type is " + r.Type
		return e, nil
	case stalled:
		r.Stall = &stall
	case !in.Force:
		r.Refused = "it makes progress; --force ends it all the same"
	}
	r.Steps = append(r.Steps, "end workflow "+in.WorkflowID)
	return e, a.plan(ctx, &e, d)
}

// ours reports whether a workflow is one of this system, or stands under an id of one.
func (a *Activities) ours(id, kind string) bool {
	return id == ledger.WorkflowID(a.TaskQueue) || id == watchapi.WorkflowID(a.TaskQueue) || slices.Contains(health.Types(), kind)
}

// plan says what freeing the workflow takes, by what should work under its id.
func (a *Activities) plan(ctx context.Context, e *Examination, d *workflowservice.DescribeWorkflowExecutionResponse) error {
	r := &e.Result
	switch {
	case r.WorkflowID == ledger.WorkflowID(a.TaskQueue):
		r.Steps = append(r.Steps, "start the ledger anew with what can be read from its history: reservations, cooldowns, evictions of a day")
	case r.WorkflowID == watchapi.WorkflowID(a.TaskQueue):
		r.Steps = append(r.Steps, "start the watch anew from its last checkpoint")
	case r.Type == preemption.WorkflowName:
		events, err := a.history(ctx, r.WorkflowID, r.RunID)
		if err != nil {
			return err
		}
		left := leftIn(events)
		r.Steps = append(r.Steps, fmt.Sprintf("start the intake anew and hand it the %d message(s) that it had not dealt with", len(left.signals)))
		r.Unproven = append(r.Unproven, left.unproven...)
	case r.Type == preemptapi.RoundType:
		return a.examineRound(ctx, e)
	default:
		r.Steps = append(r.Steps, "give back the VMs that it holds in the ledger")
		r.Unproven = append(r.Unproven, "what its last step did: look at its VMs in vCenter")
	}
	return nil
}

// Execute ends the workflow and does what was planned. It may be repeated.
func (a *Activities) Execute(ctx context.Context, e Examination) (health.RepairResult, error) {
	defer step.Beat(ctx, heartbeat)()
	r := e.Result
	r.Executed, r.At, r.Steps = true, time.Now().UTC(), []string{}
	err := a.free(ctx, e, &r)
	a.Log.Warn("a workflow was repaired", "workflow_id", r.WorkflowID, "run_id", r.RunID, "steps", r.Steps, "unproven", r.Unproven, "reason", err)
	return r, err
}

func (a *Activities) free(ctx context.Context, e Examination, r *health.RepairResult) error {
	switch {
	case r.WorkflowID == ledger.WorkflowID(a.TaskQueue):
		return a.newLedger(ctx, r)
	case r.WorkflowID == watchapi.WorkflowID(a.TaskQueue):
		return a.newWatch(ctx, r)
	case r.Type == preemption.WorkflowName:
		return a.newIntake(ctx, r)
	}
	err := a.Temporal.TerminateWorkflow(ctx, r.WorkflowID, r.RunID, Reason)
	var missing *serviceerror.NotFound
	if err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("end workflow %s: %w", r.WorkflowID, err)
	}
	r.Steps = append(r.Steps, "ended workflow "+r.WorkflowID)
	if r.Type == preemptapi.RoundType {
		return a.endRound(ctx, e, r)
	}
	return a.giveBack(ctx, r)
}

// replace ends the run and starts a new one under its id, at once, so that nobody else starts an empty one between. A
// run that has been replaced already stays.
func (a *Activities) replace(ctx context.Context, r *health.RepairResult, kind string, in any) error {
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, r.WorkflowID, "")
	if err != nil {
		return fmt.Errorf("look up workflow %s: %w", r.WorkflowID, err)
	}
	if now := d.GetWorkflowExecutionInfo(); now.GetExecution().GetRunId() == r.RunID {
		_, err = a.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: r.WorkflowID, TaskQueue: a.TaskQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
			StaticSummary: "Started anew by preemptctl workflow repair",
		}, kind, in)
		if err != nil {
			return fmt.Errorf("start %s anew: %w", r.WorkflowID, err)
		}
	}
	r.Steps = append(r.Steps, "ended workflow "+r.WorkflowID, "started it anew as "+kind)
	return nil
}

// giveBack releases what the workflow held.
func (a *Activities) giveBack(ctx context.Context, r *health.RepairResult) error {
	limited, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	if _, err := a.ledger().Reserve(limited, ledger.ReserveRequest{Owner: r.WorkflowID}); err != nil {
		r.Unproven = append(r.Unproven, "what it holds in the ledger is not given back yet; the ledger does so within a minute once it works: "+err.Error())
		return nil
	}
	r.Steps = append(r.Steps, "gave back what it held in the ledger")
	return nil
}

func (a *Activities) ledger() ledger.Client {
	return ledger.Client{Temporal: a.Temporal, TaskQueue: a.TaskQueue}
}

// history reads all events of a run.
func (a *Activities) history(ctx context.Context, id, run string) (events []*historypb.HistoryEvent, err error) {
	iter := a.Temporal.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() && len(events) < maxEvents {
		event, err := iter.Next()
		if err != nil {
			return nil, fmt.Errorf("read the history of workflow %s: %w", id, err)
		}
		events = append(events, event)
	}
	return events, nil
}

// input decodes what a run was started with; what it cannot read stays empty.
func input[T any](events []*historypb.HistoryEvent) (in T, ok bool) {
	if len(events) == 0 {
		return in, false
	}
	p := events[0].GetWorkflowExecutionStartedEventAttributes().GetInput()
	return in, len(p.GetPayloads()) > 0 && converter.GetDefaultDataConverter().FromPayloads(p, &in) == nil
}
