package round

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/delivery"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Round is the workflow that carries out one plan: it plans, reserves, evicts, verifies, annotates and
// reports. It is independent of its intake, which may be cancelled, time out or be terminated meanwhile.
// It fails only with its RoundResult as the error's details.
func Round(ctx workflow.Context, in Input) (preemptapi.RoundResult, error) {
	r := newRound(ctx, in)
	if err := workflow.SetQueryHandler(ctx, preemptapi.RoundStateQuery, func() (preemptapi.RoundResult, error) { return r.snapshot(), nil }); err != nil {
		return preemptapi.RoundResult{}, err
	}
	workflow.Go(r.ctx, r.listen)
	workflow.Go(ctx, r.listenCancel)
	r.show()
	if err := r.carryOut(); err != nil {
		return r.fail(err)
	}
	return r.conclude()
}

// round is the state of one run of the workflow.
type round struct {
	ctx     workflow.Context // never cancelled: a cancellation of the workflow is a withdrawal
	in      Input
	result  preemptapi.RoundResult
	targets targets

	criticality preemption.Criticality // as asked for, or raised since
	withdrawn   bool
	withdrawnAt time.Time
	interrupt   workflow.CancelFunc // ends the step under way that may be cut short; nil: none
	pending     []ActTarget         // asked to shut down
	unsure      bool                // the last look at the pending VMs was lost
	late        []ActTarget         // ignored their shutdown
	replanError string              // a new plan was due and could not be made
	toClear     []*notified         // have a notice that is to be cleared
	notices     int                 // how often guests were told
	recorded    int                 // evictions that the ledger knows of
	told        map[string]bool     // the same, one by one, by toldAs
	rung        action.Action       // of the step of the ladder that the round is at; "": the first
	acted       action.Action       // what it has done at this step; "": nothing
	below       []vsphere.Ref       // VMs of the step before
	enough      bool                // a step found no shortfall any more
	otherAction bool                // a plan was not carried out, as it was made for another action
	out         delivery.Outbox     // what people are told
	replaced    int                 // plans made to replace targets that could not go
}

func newRound(ctx workflow.Context, in Input) *round {
	own, _ := workflow.NewDisconnectedContext(ctx)
	info := workflow.GetInfo(ctx)
	d := in.Demand
	return &round{
		ctx: tally.With(own), in: in, criticality: d.Criticality, targets: newTargets(), told: map[string]bool{},
		result: preemptapi.RoundResult{
			RoundID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, IntakeID: in.IntakeID,
			State: preemptapi.RoundPlanning, Tag: d.Tag, Criticality: d.Criticality, Alarm: d.Alarm(),
			Scope: d.Scope, ScopeName: d.ScopeName, PolicyName: d.PolicyName, PolicyHash: d.PolicyHash,
			StartedAt: workflow.Now(ctx).UTC(), Targets: []preemptapi.VMOutcome{}, Spared: []policy.Spared{},
		},
	}
}

// listen takes changes of urgency from the intake.
func (r *round) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, ChangeSignal)
	for {
		var c Change
		if !ch.Receive(ctx, &c) {
			return
		}
		switch {
		case c.Withdraw:
			r.result.Paused = r.result.Paused || c.Paused && !r.withdrawn
			r.withdraw(c.Reason)
		case c.Soften:
			r.soften(c)
		default:
			r.raise(c)
		}
	}
}

// listenCancel takes a cancellation of the round itself for a withdrawal.
func (r *round) listenCancel(ctx workflow.Context) {
	ctx.Done().Receive(ctx, nil)
	r.withdraw("the round was cancelled")
}

func (r *round) withdraw(reason string) {
	if r.withdrawn {
		return
	}
	r.withdrawn, r.withdrawnAt = true, workflow.Now(r.ctx)
	r.note("withdrawn: " + reason)
	r.cutShort()
}

func (r *round) raise(c Change) {
	if c.Criticality.Rank() <= r.criticality.Rank() || r.withdrawn {
		return
	}
	r.criticality = c.Criticality
	r.result.Criticality = c.Criticality
	r.note(fmt.Sprintf("raised to %s: %s", c.Criticality, c.Reason))
	// An eviction under way is not cut short by a raise; only the wait for guests is.
	if slices.Contains([]preemptapi.RoundState{preemptapi.RoundWaiting, preemptapi.RoundNotified, preemptapi.RoundBetween}, r.result.State) {
		r.cutShort()
	}
}

// soften lowers the criticality for what is not yet acted upon; guests that were asked to shut down keep
// their deadline where the milder criticality has one.
func (r *round) soften(c Change) {
	if c.Criticality.Rank() == 0 || c.Criticality.Rank() >= r.criticality.Rank() || r.withdrawn {
		return
	}
	r.criticality = c.Criticality
	r.note("softened: " + c.Reason)
}

func (r *round) note(text string) {
	r.result.Changes = preempt.Note(r.ctx, r.result.Changes, text, r.result.Alarm, r.result.Scope.String())
}

func (r *round) cutShort() {
	if r.interrupt != nil {
		r.interrupt()
	}
}

// treatment is what the criticality means now, at the step that the round is at.
func (r *round) treatment() policy.Treatment {
	t, _ := r.in.Demand.Policy.Criticality.For(string(r.criticality))
	return t.At(r.rung)
}
