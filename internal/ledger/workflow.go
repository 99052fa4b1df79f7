package ledger

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The names by which workflows reach the ledger.
const (
	WorkflowType      = "PreemptionLedger"
	UpdateAdmit       = "Admit"
	UpdateReserve     = "Reserve"
	UpdateComplete    = "Complete"
	UpdateRaise       = "Raise"
	UpdateEvicted     = "Evicted"
	UpdateFacts       = "Facts"
	UpdateActive      = "Standing"
	UpdateRemedyFacts = "RemedyFacts"
	UpdateRemedy      = "Remedy"
	UpdateRemedied    = "Remedied"
	UpdatePause       = "Pause"
	UpdateSpare       = "Spare"
	QueryState        = "ledger_state"
	QueryHeldUp       = "held_up" // answers HeldUp
)

// WorkflowID returns the id of the ledger that serves a task queue. Workers of one task queue work on
// one vCenter, so this is one ledger per vCenter. The id is known even while vCenter is away.
func WorkflowID(taskQueue string) string { return workflowid.Of(workflowid.Ledger + taskQueue) }

// RaiseRequest reports that the active round of an owner acts at a higher rank from now on.
type RaiseRequest struct {
	Owner string `json:"owner"`
	Rank  int    `json:"rank"`
}

// Input starts the ledger; existing clients start it with none.
type Input struct {
	State State `json:"state"`
	// Sweep is how often to look for owners that ended without a report; default one minute.
	Sweep time.Duration `json:"sweep,omitempty"`
	// Due is when the next sweep is due, and Turn the number of sweeps so far. Without them, a ledger that continues as
	// new more often than it sweeps would never sweep.
	Due  time.Time `json:"due,omitzero"`
	Turn int       `json:"turn,omitempty"`
	// Packed is the compressed part of a large State.
	Packed *Packed `json:"packed,omitempty"`
}

// NewInput returns the input of a ledger that begins with the state: a large one is packed.
func NewInput(s State, sweep time.Duration) Input {
	state, packed := s.pack()
	return Input{State: state, Sweep: sweep, Packed: packed}
}

// Begin returns the state that a ledger with this input begins with.
func (in Input) Begin() State { return in.State.unpack(in.Packed) }

// versionBegin marks the sweeps after which a round that never began may begin.
const versionBegin = "dropped-rounds-may-begin"

// Activities are the ledger's look-ups.
type Activities struct{ Client client.Client }

// ClosedOwners returns which of the workflows are not running (any more).
func (a *Activities) ClosedOwners(ctx context.Context, owners []string) ([]string, error) {
	var closed []string
	for _, id := range owners {
		d, err := a.Client.DescribeWorkflowExecution(ctx, id, "")
		var missing *serviceerror.NotFound
		switch {
		case errors.As(err, &missing):
			closed = append(closed, id)
		case err != nil:
			return nil, err
		case d.WorkflowExecutionInfo.Status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
			closed = append(closed, id)
		}
	}
	return closed, nil
}

// Ledger is the ledger's workflow. It runs forever, continuing as new with its whole state.
func Ledger(ctx workflow.Context, in Input) error {
	state := in.Begin()
	if in.Sweep <= 0 {
		in.Sweep = time.Minute
	}
	if err := setHandlers(ctx, &state); err != nil {
		return err
	}
	due, turn := in.Due, in.Turn
	rooms := sweepsRooms(ctx)
	for !workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
		// The timer runs only while a workflow holds something, so an idle ledger costs nothing.
		busy := state.busy(rooms)
		roll := func() bool { return workflow.GetInfo(ctx).GetContinueAsNewSuggested() }
		if err := workflow.Await(ctx, func() bool { return busy() || roll() }); err != nil {
			return err
		}
		if due.IsZero() {
			due = workflow.Now(ctx).Add(in.Sweep)
		}
		early := false
		if left := due.Sub(workflow.Now(ctx)); left > 0 {
			var err error
			if early, err = workflow.AwaitWithTimeout(ctx, left, func() bool { return !busy() || roll() }); err != nil {
				return err
			}
		}
		if early && busy() {
			continue // it continues as new, and the next run waits
		}
		due = time.Time{}
		if early {
			continue
		}
		if err := sweep(ctx, &state, in.Sweep, turn, rooms); err != nil {
			return err
		}
		turn++
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	next := NewInput(state, in.Sweep)
	next.Due, next.Turn = due, turn
	return workflow.NewContinueAsNewError(ctx, WorkflowType, next)
}

// sweep releases what workflows hold that ended without completing, such as a terminated round. An
// owner admitted since the last sweep may not have started yet and is left alone. If there are very many owners, each
// sweep checks some of them.
func sweep(ctx workflow.Context, state *State, every time.Duration, turn int, rooms bool) error {
	var makers []string
	if rooms {
		makers = state.roomOwners(workflow.Now(ctx).Add(-every))
	}
	owners := some(append(state.Owners(workflow.Now(ctx).Add(-every)), makers...), turn)
	if len(owners) == 0 {
		return nil
	}
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	var closed []string
	var a *Activities
	if err := workflow.ExecuteLocalActivity(ctx, a.ClosedOwners, owners).Get(ctx, &closed); err != nil {
		workflow.GetLogger(ctx).Warn("the ledger could not look which rounds still run; it will try again", "error", err)
		return nil
	}
	if len(closed) > 0 {
		workflow.GetLogger(ctx).Warn("released what rounds held that ended without completing", "owners", closed)
		state.Drop(closed, workflow.GetVersion(ctx, versionBegin, workflow.DefaultVersion, 1) == 1)
		state.dropRooms(makers, closed)
	}
	return nil
}

// maxSweep is how many owners one sweep checks: each costs a call, and all calls must end within its time.
const maxSweep = 200

// some returns the owners whose turn it is.
func some(owners []string, turn int) []string {
	if len(owners) <= maxSweep {
		return owners
	}
	from := turn * maxSweep % len(owners)
	return owners[from:min(from+maxSweep, len(owners))]
}

func setHandlers(ctx workflow.Context, state *State) error {
	return errors.Join(
		workflow.SetQueryHandler(ctx, QueryState, func() (State, error) { return *state, nil }),
		workflow.SetQueryHandler(ctx, QueryHeldUp, func() (HeldUp, error) { return HeldUp{Pauses: state.Pauses, Spares: state.Spares}, nil }),
		workflow.SetUpdateHandler(ctx, UpdateAdmit, func(ctx workflow.Context, r AdmitRequest) (Admission, error) {
			return state.Admit(workflow.Now(ctx), r), nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateReserve, func(_ workflow.Context, r ReserveRequest) (Reservation, error) {
			return state.Reserve(r), nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateComplete, func(ctx workflow.Context, r CompleteRequest) (bool, error) {
			state.Complete(workflow.Now(ctx), r)
			return true, nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateRaise, func(_ workflow.Context, r RaiseRequest) (bool, error) {
			state.Raise(r.Owner, r.Rank)
			return true, nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateEvicted, func(ctx workflow.Context, r EvictedRequest) (bool, error) {
			state.Evicted(workflow.Now(ctx), r)
			return true, nil
		}),
		// This is an update, not a query: a query sees the time of the last workflow task, so an idle ledger would
		// credit the evictions of its last minute for hours.
		workflow.SetUpdateHandler(ctx, UpdateFacts, func(ctx workflow.Context, r FactsRequest) (Facts, error) {
			return state.Facts(workflow.Now(ctx), r), nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateActive, func(ctx workflow.Context, r ActiveRequest) (ActiveAnswer, error) {
			return state.SetActive(workflow.Now(ctx), r), nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateRemedyFacts, func(ctx workflow.Context, r RemedyFactsRequest) (RemedyFacts, error) {
			return state.RemedyFacts(workflow.Now(ctx), r), nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateRemedy, func(ctx workflow.Context, r RemedyRequest) (RemedyGrant, error) {
			return state.Remedy(workflow.Now(ctx), r), nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateRemedied, func(ctx workflow.Context, r RemediedRequest) (bool, error) {
			state.Remedied(workflow.Now(ctx), r)
			return true, nil
		}),
		workflow.SetUpdateHandler(ctx, UpdatePause, func(ctx workflow.Context, r PauseRequest) (PauseAnswer, error) {
			return state.Pause(workflow.Now(ctx), r), nil
		}),
		workflow.SetUpdateHandler(ctx, UpdateSpare, func(ctx workflow.Context, r SpareRequest) (SpareAnswer, error) {
			return state.Spare(workflow.Now(ctx), r), nil
		}),
	)
}
