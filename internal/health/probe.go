package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// The probe takes the same path as a request: a start, a workflow task, an activity, a workflow task and an end. It also
// sends the ledger a query, which only a worker that has replayed it can answer. The query adds nothing to the
// history. The probe's workflow has 11 events, and there is one a minute per task queue, however many workers run. An
// update of the ledger would prove no more, and 1,440 a day would make it continue as new.
const (
	probeStep  = "PreemptionProbe"
	probeTime  = 15 * time.Second // for all of it
	probeTask  = 5 * time.Second  // of a workflow task
	probeFresh = 50 * time.Second // how long the proof of another worker counts
	ledgerTime = 10 * time.Second // for the ledger's answer
	metadata   = "__temporal_workflow_metadata"
)

// ProbeID returns the id of the probe of a task queue.
func ProbeID(taskQueue string) string { return "preemption-probe@" + taskQueue }

// Register adds the probe to a worker.
func Register(r worker.Registry) {
	r.RegisterWorkflowWithOptions(probeWorkflow, workflow.RegisterOptions{Name: ProbeType})
	r.RegisterActivityWithOptions(probed, activity.RegisterOptions{Name: probeStep})
}

// probeWorkflow runs one activity.
func probeWorkflow(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: probeTime, StartToCloseTimeout: probeTask, Summary: "proves that activities are done",
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1},
	})
	return workflow.ExecuteActivity(ctx, probeStep).Get(ctx, nil)
}

func probed(context.Context) error { return nil }

// Probe proves that work gets done, and returns how long that took. A failure is returned as a stall.
func (l *Looker) Probe(ctx context.Context) (took time.Duration, failed []Stall) {
	began := time.Now()
	ledgerSays := make(chan error, 1)
	go func() { ledgerSays <- l.askLedger(ctx) }()
	if err := l.probe(ctx); err != nil && ctx.Err() == nil {
		failed = append(failed, Stall{
			WorkflowID: ProbeID(l.TaskQueue), Type: ProbeType, Kind: ProbeFails, Since: began.UTC(),
			Cause: bounded(err.Error()), Remedy: remedyFor(ProbeFails, ""),
		})
	}
	if err := <-ledgerSays; err != nil && ctx.Err() == nil {
		id := ledger.WorkflowID(l.TaskQueue)
		failed = append(failed, Stall{
			WorkflowID: id, Type: ledger.WorkflowType, Kind: Silent, Since: began.UTC(), Cause: bounded(err.Error()), Remedy: remedyFor(Silent, id),
		})
	}
	return time.Since(began), failed
}

// askLedger sends the ledger a query. If it does not run, it is not asked: it is started when it is needed.
func (l *Looker) askLedger(ctx context.Context) error {
	id := ledger.WorkflowID(l.TaskQueue)
	limited, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	d, err := l.Client.DescribeWorkflowExecution(limited, id, "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return nil
	}
	_, err = l.Client.QueryWorkflow(limited, id, "", metadata)
	var refused *serviceerror.QueryFailed
	if errors.As(err, &refused) { // also if the history grew while a worker read it, which the second query sees whole
		_, err = l.Client.QueryWorkflow(limited, id, "", metadata)
	}
	if err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("no answer within %s: %w", ledgerTime, err)
	}
	return nil
}

// probe runs the probe's workflow, unless another worker did so a moment ago.
func (l *Looker) probe(ctx context.Context) error {
	id := ProbeID(l.TaskQueue)
	limited, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if d, err := l.Client.DescribeWorkflowExecution(limited, id, ""); err == nil {
		info := d.GetWorkflowExecutionInfo()
		if info.GetType().GetName() == ProbeType && info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED && time.Since(info.GetCloseTime().AsTime()) < probeFresh {
			return nil
		}
	}
	run, err := l.Client.ExecuteWorkflow(limited, client.StartWorkflowOptions{
		ID: id, TaskQueue: l.TaskQueue, WorkflowExecutionTimeout: 2 * probeTime, WorkflowTaskTimeout: probeTask,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "Proves each minute that workers take tasks and end them",
	}, ProbeType)
	if err == nil {
		err = run.Get(limited, nil)
	}
	if err != nil {
		return fmt.Errorf("a probe had no result within %s: %w", probeTime, err)
	}
	return nil
}
