package preempt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// PlanInput asks for a round's plan.
type PlanInput struct {
	Demand  Demand `json:"demand"`
	RoundID string `json:"roundID"`
	Reserve bool   `json:"reserve"` // false: only look
	// Held are the targets of an earlier plan of this round that it has decided about or acted on: they
	// are not chosen again. Already of them count towards the limit.
	Held    []policy.Ref `json:"held,omitempty"`
	Already int          `json:"already,omitempty"`
}

// PlanResult is who goes and why the others stay.
type PlanResult struct {
	Targets     []policy.Target       `json:"targets"`
	Spared      []policy.Spared       `json:"spared"`
	SparedCount map[policy.Reason]int `json:"sparedCount,omitempty"`
	ScopeName   string                `json:"scopeName,omitempty"`
	PlannedAt   time.Time             `json:"plannedAt"`      // by the worker's clock
	Over        string                `json:"over,omitempty"` // why there is no plan: the alarm has fallen
}

// maxReplans bounds how often a plan is made anew because others reserved its targets.
const maxReplans = 5

// PlanRound takes a snapshot of the candidates, chooses, and reserves the targets in the ledger. It acts
// on nothing, and may be repeated.
func (a *Activities) PlanRound(ctx context.Context, in PlanInput) (PlanResult, error) {
	stop := a.beat(ctx)
	defer stop()
	d := in.Demand
	var over string
	err := a.attempt(ctx, func() (err error) {
		over, err = a.over(ctx, d)
		return err
	})
	if err != nil {
		return PlanResult{}, ending(ctx, typed(err))
	}
	if over != "" {
		return PlanResult{Targets: []policy.Target{}, Spared: []policy.Spared{}, Over: over}, nil
	}
	var snap policy.Snapshot
	err = a.attempt(ctx, func() (err error) {
		snap, err = a.VCenter.Candidates(ctx, d.Tag, vcenter.Scope{Ref: d.Scope, Name: d.ScopeName})
		return err
	})
	if err != nil {
		return PlanResult{}, ending(ctx, typed(err))
	}
	demand := policy.Demand{
		Tag: d.Tag, Criticality: string(d.Criticality), Scope: d.Scope, Self: a.Settings.Self,
		Already: in.Already, Reserved: slices.Clone(in.Held),
	}
	plan, err := a.reserve(ctx, in, snap, demand)
	if err != nil {
		return PlanResult{}, ending(ctx, err)
	}
	plan.Spared = slices.DeleteFunc(plan.Spared, func(s policy.Spared) bool { return slices.Contains(in.Held, s.Ref) })
	out := PlanResult{Targets: plan.Targets, ScopeName: snap.ScopeName, PlannedAt: snap.Time}
	out.Spared, out.SparedCount = bounded(plan.Spared)
	a.logger(ctx).Info("planned", "alarm", d.Alarm(), "cluster", d.Scope.String(), "targets", len(plan.Targets),
		"spared", len(plan.Spared), "attempt", activity.GetInfo(ctx).Attempt)
	return out, nil
}

// reserve chooses, and chooses again without what others hold, until the ledger grants the targets.
func (a *Activities) reserve(ctx context.Context, in PlanInput, snap policy.Snapshot, demand policy.Demand) (policy.Plan, error) {
	for range maxReplans {
		plan := policy.Choose(snap, demand, in.Demand.Policy)
		if !in.Reserve {
			return plan, nil
		}
		req := ledger.ReserveRequest{Owner: in.RoundID}
		for _, ref := range in.Held {
			req.VMs = append(req.VMs, ref.String())
		}
		for _, t := range plan.Targets {
			req.VMs = append(req.VMs, t.Ref.String())
		}
		got, err := a.ledger().Reserve(ctx, req)
		if err != nil {
			return plan, fmt.Errorf("reserve %d VMs for %s: %w", len(req.VMs), in.RoundID, err)
		}
		if got.Granted {
			return plan, nil
		}
		for _, c := range got.Conflicts {
			if ref, ok := policy.ParseRef(c); ok {
				demand.Reserved = append(demand.Reserved, ref)
			}
		}
	}
	return policy.Plan{}, temporal.NewApplicationError(
		fmt.Sprintf("other rounds reserved the targets of %s %d times over; planning again", in.RoundID, maxReplans), errReserve)
}

// ending returns what a step that has nothing at stake answers when it failed because its context ended:
// that it was cancelled, or that another worker should take over. Otherwise it returns err.
func ending(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case cancelled(ctx):
		return temporal.NewCanceledError()
	}
	return handOver(ctx)
}

// bounded keeps up to maxSparedInFull candidates one by one; of more, all are counted by reason.
func bounded(spared []policy.Spared) ([]policy.Spared, map[policy.Reason]int) {
	counts := map[policy.Reason]int{}
	for _, s := range spared {
		counts[s.Reason]++
	}
	return spared[:min(len(spared), maxSparedInFull)], counts
}
