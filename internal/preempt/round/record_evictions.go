package round

import (
	"context"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// Completion is what the ledger must know of a round that has ended. It is for a ledger that could not be told at the
// time.
func Completion(in Input, res preemptapi.RoundResult) ledger.CompleteRequest {
	return ledger.CompleteRequest{
		Owner: res.RoundID, Scope: in.Demand.Key(), Preempted: len(res.Preempted()),
		Rank: res.Criticality.Rank(), Cooldown: in.Demand.Policy.Cooldown.D(), Evicted: evictedOf(res.Targets),
	}
}

// evictedOf lists what was turned off, for the ledger. What others powered on again at once went all the same, and frees
// nothing.
func evictedOf(targets []preemptapi.VMOutcome) (all []ledger.Evicted) {
	for _, t := range targets {
		switch {
		case t.Outcome.Ours():
			all = append(all, ledger.Evicted{VM: t.Ref.String(), Host: t.Host.String(), CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Time: t.OffAt, StaysOn: t.Outcome.StaysOn()})
		case t.Outcome == action.OnAgain:
			all = append(all, ledger.Evicted{VM: t.Ref.String(), Host: t.Host.String()})
		}
	}
	return all
}

// CompleteRound tells the ledger that a round has ended.
func (a *Activities) CompleteRound(ctx context.Context, req ledger.CompleteRequest) error {
	return a.Ledger.Complete(ctx, req)
}

// evicted lists what this round turned off, for the ledger.
func (r *round) evicted() []ledger.Evicted { return evictedOf(r.result.Targets) }

// record tells the ledger of what was turned off so far, so that budgets hold beside a round that goes on for
// long. Where a policy has none of that, its end is soon enough.
func (r *round) record() {
	p := r.in.Demand.Policy
	single := r.in.Demand.VM != "" // its own key overlaps no scope, and the budgets of scopes must see it
	if len(p.Budgets) == 0 && !p.Target.Set() && p.Protect.MaxPreemptionsPerDay == 0 && !single {
		return
	}
	all := r.evicted()
	if len(all) == r.recorded && !r.steppedUp(all) {
		return
	}
	r.recorded = len(all)
	var news []ledger.Evicted
	for _, e := range all {
		if !r.told[toldAs(e)] {
			news = append(news, e)
			r.told[toldAs(e)] = true
		}
	}
	var a *Activities
	ctx := workflow.WithLocalActivityOptions(r.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: time.Minute,
	})
	req := ledger.EvictedRequest{Owner: r.result.RoundID, Scope: r.in.Demand.Scope.String(), Evicted: news}
	if err := workflow.ExecuteLocalActivity(ctx, a.RecordEvictions, req).Get(ctx, nil); err != nil {
		workflow.GetLogger(r.ctx).Warn("the ledger was not told of evictions; it is told at the round's end", "error", err)
		r.forgetTold(news)
	}
}

// toldAs is the key by which told knows an eviction: a VM that was throttled may go off later.
func toldAs(e ledger.Evicted) string {
	if e.StaysOn {
		return "throttled " + e.VM
	}
	return e.VM
}

// steppedUp reports whether VMs are off of which the ledger was told that they are throttled.
func (r *round) steppedUp(all []ledger.Evicted) bool {
	return slices.ContainsFunc(all, func(e ledger.Evicted) bool {
		return !e.StaysOn && r.told["throttled "+e.VM] && !r.told[e.VM]
	})
}

// forgetTold lets the next word to the ledger carry what the last could not.
func (r *round) forgetTold(all []ledger.Evicted) {
	for _, e := range all {
		delete(r.told, toldAs(e))
	}
}

// RecordEvictions tells the ledger what a round has evicted so far.
func (a *Activities) RecordEvictions(ctx context.Context, req ledger.EvictedRequest) error {
	return a.Ledger.Evicted(ctx, req)
}

// release frees the scope and the VMs in the ledger. A dry run holds nothing.
func (r *round) release() {
	if r.in.Demand.DryRun {
		return
	}
	var a *Activities
	ctx := workflow.WithLocalActivityOptions(r.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: 10 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second},
	})
	req := ledger.CompleteRequest{
		Owner: r.result.RoundID, Scope: r.in.Demand.Key(), Preempted: len(r.result.Preempted()),
		Rank: r.criticality.Rank(), Cooldown: r.in.Demand.Policy.Cooldown.D(), Evicted: r.evicted(),
		Rooms: r.heldRooms(), HeldBy: r.in.IntakeID,
	}
	if err := workflow.ExecuteLocalActivity(ctx, a.CompleteRound, req).Get(ctx, nil); err != nil {
		workflow.GetLogger(r.ctx).Error("the ledger could not be told that the round ended; it will find out by itself", "error", err)
	}
}
