package delivery

import (
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// versionTold marks runs of workflows that tell people what they do.
const versionTold = "notifications"

// outlives bounds a delivery for which no worker is there: what is older helps nobody.
const outlives = 24 * time.Hour

// Outbox starts the deliveries of one workflow's messages. Each is a workflow of its own, so that a channel that does not
// answer delays nothing, and outlives the end of its sender.
type Outbox struct {
	starting []workflow.ChildWorkflowFuture
	n        int
}

// Send starts the delivery of a message if on, which says that the worker's file has channels. It does not wait.
func (o *Outbox) Send(ctx workflow.Context, on bool, m tell.Message) {
	if !on || workflow.GetVersion(ctx, versionTold, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	info := workflow.GetInfo(ctx)
	o.n++
	m.ID = fmt.Sprintf("%s-%s-%d", info.WorkflowExecution.RunID, m.Event, o.n)
	m.At = workflow.Now(ctx).UTC()
	if m.WorkflowID == "" {
		m.WorkflowID = info.WorkflowExecution.ID
	}
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: "preemption-notification-" + m.ID, ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowExecutionTimeout: outlives, StaticSummary: "tell people: " + string(m.Event),
	})
	o.starting = append(o.starting, workflow.ExecuteChildWorkflow(ctx, tell.WorkflowType, tell.Order{Message: m}))
}

// Close waits until Temporal has begun the deliveries: a workflow that ends before would lose them. No worker and no
// channel is waited for. It reports whether there was something to wait for.
func (o *Outbox) Close(ctx workflow.Context) (waited bool) {
	waited = len(o.starting) > 0
	for _, f := range o.starting {
		if err := f.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
			workflow.GetLogger(ctx).Error("people are not told: the delivery could not be started", "error", err)
		}
	}
	o.starting = nil
	return waited
}
