package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// Client speaks to the ledger of one task queue, starting it when it does not run.
type Client struct {
	Temporal  client.Client
	TaskQueue string
	Sweep     time.Duration // see Input; it counts when this client is the one that starts the ledger

	turns chan struct{} // nil: as many updates at once as there are
}

// atOnce bounds the updates that a worker has in progress. Temporal admits ten of one workflow unless it is configured
// otherwise, and whoever is refused comes back a second later, or ten: that costs more than waiting for one's turn.
const atOnce = 5

// NewClient returns a client for a worker, which asks for much at once when many alarms rise.
func NewClient(c client.Client, taskQueue string, sweep time.Duration) Client {
	return Client{Temporal: c, TaskQueue: taskQueue, Sweep: sweep, turns: make(chan struct{}, atOnce)}
}

// turn waits for one's turn, if there are turns.
func (c Client) turn(ctx context.Context) (done func(), err error) {
	if c.turns == nil {
		return func() {}, nil
	}
	select {
	case c.turns <- struct{}{}:
		return func() { <-c.turns }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Admit asks whether a round may start.
func (c Client) Admit(ctx context.Context, r AdmitRequest) (a Admission, err error) {
	return a, c.update(ctx, UpdateAdmit, r, &a)
}

// Reserve reserves VMs for an owner.
func (c Client) Reserve(ctx context.Context, r ReserveRequest) (a Reservation, err error) {
	return a, c.update(ctx, UpdateReserve, r, &a)
}

// Complete ends a round.
func (c Client) Complete(ctx context.Context, r CompleteRequest) error {
	return c.update(ctx, UpdateComplete, r, nil)
}

// Raise records that a round acts at a higher rank.
func (c Client) Raise(ctx context.Context, r RaiseRequest) error {
	return c.update(ctx, UpdateRaise, r, nil)
}

// Evicted records what a round that is still under way evicted.
func (c Client) Evicted(ctx context.Context, r EvictedRequest) error {
	return c.update(ctx, UpdateEvicted, r, nil)
}

// Facts returns what a plan must know about other rounds and earlier ones.
func (c Client) Facts(ctx context.Context, r FactsRequest) (f Facts, err error) {
	return f, c.update(ctx, UpdateFacts, r, &f)
}

// SetActive records in which scopes an intake's alarm is active now.
func (c Client) SetActive(ctx context.Context, r ActiveRequest) (a ActiveAnswer, err error) {
	return a, c.update(ctx, UpdateActive, r, &a)
}

// RemedyFacts returns what a remediation must know about others and earlier ones.
func (c Client) RemedyFacts(ctx context.Context, r RemedyFactsRequest) (f RemedyFacts, err error) {
	return f, c.update(ctx, UpdateRemedyFacts, r, &f)
}

// Remedy reserves one VM for an owner that is about to change or move it.
func (c Client) Remedy(ctx context.Context, r RemedyRequest) (g RemedyGrant, err error) {
	return g, c.update(ctx, UpdateRemedy, r, &g)
}

// Remedied ends the hold on one VM.
func (c Client) Remedied(ctx context.Context, r RemediedRequest) error {
	return c.update(ctx, UpdateRemedied, r, nil)
}

// Pause holds up what would begin, or ends that.
func (c Client) Pause(ctx context.Context, r PauseRequest) (a PauseAnswer, err error) {
	return a, c.update(ctx, UpdatePause, r, &a)
}

// HeldUp returns what persons hold up and spare; nothing where no ledger runs. It needs a worker.
func (c Client) HeldUp(ctx context.Context, now time.Time) (h HeldUp, err error) {
	id := WorkflowID(c.TaskQueue)
	v, err := c.Temporal.QueryWorkflow(ctx, id, "", QueryHeldUp)
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return h, nil
	}
	if err == nil {
		err = v.Get(&h)
	}
	if err != nil {
		return h, fmt.Errorf("ask the ledger %s what is paused: %w", id, err)
	}
	return h.Now(now), nil
}

// Spare keeps a VM from being preempted for a time, or no longer.
func (c Client) Spare(ctx context.Context, r SpareRequest) (a SpareAnswer, err error) {
	return a, c.update(ctx, UpdateSpare, r, &a)
}

// update asks the running ledger, which is quicker, and starts one only if none runs.
func (c Client) update(ctx context.Context, name string, arg, result any) error {
	id := WorkflowID(c.TaskQueue)
	done, err := c.turn(ctx)
	if err != nil {
		return fmt.Errorf("ask the ledger %s (%s): wait until %d earlier questions of this worker are answered: %w", id, name, atOnce, err)
	}
	defer done()
	h, err := c.Temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: name, Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		h, err = c.startAndUpdate(ctx, id, name, arg)
	}
	if err == nil {
		err = h.Get(ctx, result)
	}
	if err != nil {
		return fmt.Errorf("ask the ledger %s (%s): %w", id, name, c.wrong(ctx, id, err))
	}
	return nil
}

// wrong reports that the update was refused because the workflow under the ledger's id is not a ledger.
func (c Client) wrong(ctx context.Context, id string, err error) error {
	var refused *temporal.ApplicationError
	if !errors.As(err, &refused) {
		return err
	}
	d, lost := c.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if kind := d.GetWorkflowExecutionInfo().GetType().GetName(); lost == nil && kind != WorkflowType {
		return fmt.Errorf("it runs as a %s, not as a %s, and answers nothing; a worker replaces it when it starts, and looks each minute: %w",
			kind, WorkflowType, err)
	}
	return err
}

// taskTimeout is how long a worker that died in the middle of a workflow task holds everybody up.
const taskTimeout = 5 * time.Second

func (c Client) startAndUpdate(ctx context.Context, id, name string, arg any) (client.WorkflowUpdateHandle, error) {
	start := c.Temporal.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: id, TaskQueue: c.TaskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowTaskTimeout:      taskTimeout,
		StaticSummary:            "Reservations, cooldowns and seen requests of all preemption rounds and of remediation",
	}, WorkflowType, Input{Sweep: c.Sweep})
	return c.Temporal.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateName: name, Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
}
