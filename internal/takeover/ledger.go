package takeover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/intake"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// maxRuns bounds how far back a ledger's runs are followed.
const maxRuns = 1000

// ledger replaces a ledger that is of another type: no question reaches it, and so no round begins. What it held when
// it began is in its input, for nobody could change it since; what rounds did meanwhile is read from them.
func (k *Keeper) ledger(ctx context.Context) error {
	id := ledger.WorkflowID(k.TaskQueue)
	d, err := k.Temporal.DescribeWorkflowExecution(ctx, id, "")
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the ledger %s: %w", id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetType().GetName() == ledger.WorkflowType || info.GetTaskQueue() != k.TaskQueue {
		return nil
	}
	state, known, err := k.state(ctx, info.GetExecution())
	if err != nil {
		return err
	}
	rounds, err := k.rejoin(ctx, &state)
	if err != nil {
		return err
	}
	state.Doubt()
	in := ledger.NewInput(state, k.Sweep)
	summary := "Reservations, cooldowns and seen requests; in place of a run of type " + info.GetType().GetName()
	did, _, err := k.replace(ctx, info.GetExecution(), ledger.WorkflowType, summary, in)
	if err != nil || !did {
		return err
	}
	source := "its last state was read"
	if !known {
		source = "its last state is gone, so cooldowns and budgets begin anew"
	}
	k.took(Ledger, fmt.Sprintf("%s, which ran as %s and answered nothing (run %s); %s; %d rounds under way",
		id, info.GetType().GetName(), info.GetExecution().GetRunId(), source, rounds),
		"workflow_id", id, "reserved", len(state.Reserved), "scopes", len(state.Scopes), "seen", len(state.Seen))
	return nil
}

// state is the last that a true ledger held: the input of the run that followed it. It is unknown where the runs do not
// reach back so far.
func (k *Keeper) state(ctx context.Context, run *commonpb.WorkflowExecution) (s ledger.State, known bool, err error) {
	begun, err := k.begun(ctx, run.GetWorkflowId(), run.GetRunId())
	for range maxRuns {
		if err != nil {
			return s, false, err
		}
		if begun.GetContinuedExecutionRunId() == "" {
			break
		}
		before, err := k.begun(ctx, run.GetWorkflowId(), begun.GetContinuedExecutionRunId())
		var gone *serviceerror.NotFound
		if errors.As(err, &gone) || err == nil && before.GetWorkflowType().GetName() == ledger.WorkflowType {
			break
		}
		if err != nil {
			return s, false, err
		}
		begun = before
	}
	var in ledger.Input
	if err := converter.GetDefaultDataConverter().FromPayloads(begun.GetInput(), &in); err != nil {
		return ledger.State{}, false, nil // no ledger's: nothing can be read from it
	}
	state := in.Begin()
	return state, state.Scopes != nil || state.Reserved != nil || state.Seen != nil, nil
}

// rejoin adds what the rounds say that are under way or have ended meanwhile. It returns how many are under way.
func (k *Keeper) rejoin(ctx context.Context, s *ledger.State) (n int, err error) {
	open, err := k.running(ctx, preemptapi.RoundType)
	if err != nil {
		return 0, err
	}
	running := map[string]bool{}
	for _, info := range open {
		r, err := k.holderOf(ctx, info.GetExecution())
		if err != nil {
			return n, err
		}
		if r.in.Demand.DryRun {
			continue // it holds nothing
		}
		running[info.GetExecution().GetWorkflowId()] = true
		n++
		s.Rejoin(r.holding(info.GetExecution().GetWorkflowId()))
	}
	for _, owner := range s.Owners(time.Now()) {
		if !running[owner] {
			if err := k.ended(ctx, s, owner); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// ended completes a round that ended while nobody could be told. What is no round, or left no result, the ledger's own
// sweep releases.
func (k *Keeper) ended(ctx context.Context, s *ledger.State, owner string) error {
	d, err := k.Temporal.DescribeWorkflowExecution(ctx, owner, "")
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the round %s: %w", owner, err)
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetType().GetName() != preemptapi.RoundType || info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return nil
	}
	begun, err := k.begun(ctx, owner, info.GetExecution().GetRunId())
	if err != nil {
		return err
	}
	var in round.Input
	var got preemptapi.RoundResult
	if err := converter.GetDefaultDataConverter().FromPayloads(begun.GetInput(), &in); err != nil {
		return nil
	}
	res, err := preemptapi.ResultOf(k.Temporal.GetWorkflow(ctx, owner, info.GetExecution().GetRunId()).Get(ctx, &got), got)
	if err != nil {
		return ctx.Err() // it left no result
	}
	s.Complete(info.GetCloseTime().AsTime(), round.Completion(in, res))
	return nil
}

// holder is what a round's history says of it.
type holder struct {
	in      round.Input
	planIn  round.PlanInput
	plan    round.PlanResult
	started time.Time
}

// holderOf reads a running round's input and its last plan. Its history is there also where no worker answers a query.
func (k *Keeper) holderOf(ctx context.Context, run *commonpb.WorkflowExecution) (r holder, err error) {
	decode := converter.GetDefaultDataConverter()
	asked := map[int64]*commonpb.Payloads{}
	var bad error
	read := k.history(ctx, run, func(e *historypb.HistoryEvent) bool {
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			r.started = e.GetEventTime().AsTime()
			bad = decode.FromPayloads(e.GetWorkflowExecutionStartedEventAttributes().GetInput(), &r.in)
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			if a := e.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == preemptapi.PlanActivity {
				asked[e.GetEventId()] = a.GetInput()
			}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			a := e.GetActivityTaskCompletedEventAttributes()
			if in, ok := asked[a.GetScheduledEventId()]; ok {
				r.planIn, r.plan = round.PlanInput{}, round.PlanResult{}
				bad = errors.Join(decode.FromPayloads(in, &r.planIn), decode.FromPayloads(a.GetResult(), &r.plan))
			}
		}
		return bad == nil
	})
	if err := errors.Join(read, bad); err != nil {
		return r, fmt.Errorf("read what the round %s holds: %w", run.GetWorkflowId(), err)
	}
	return r, nil
}

// holding is what the round holds: what it had chosen, and what it held before that.
func (r holder) holding(id string) ledger.Holding {
	d := r.in.Demand
	h := ledger.Holding{
		Owner: id, RequestID: intake.AdmissionID(d.RequestID, r.in.Sequence), Scope: d.Key(), Rank: d.Criticality.Rank(),
		Since: r.started, Loads: map[string]ledger.Load{},
	}
	for _, ref := range r.planIn.Held {
		h.VMs = append(h.VMs, ref.String())
	}
	for _, t := range slices.Concat(r.planIn.Going, r.plan.Targets) {
		h.VMs = append(h.VMs, t.Ref.String())
		h.Loads[t.Ref.String()] = ledger.Load{Host: t.Host.String(), CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB}
	}
	return h
}
