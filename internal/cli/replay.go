package cli

import (
	"context"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// decision is the first plan in a round's history.
type decision struct {
	demand  preemptapi.Demand
	targets []policy.Target
	at      time.Time
	basis   preemptapi.Basis
}

// decided reads a round's history as far as its first plan. why explains why there is nothing to replay.
func (s *session) decided(ctx context.Context, w listed) (d decision, why string, err error) {
	var asked struct {
		Demand preemptapi.Demand `json:"demand"`
	}
	var plan struct {
		Targets   []policy.Target   `json:"targets"`
		PlannedAt time.Time         `json:"plannedAt"`
		Over      string            `json:"over"`
		Basis     *preemptapi.Basis `json:"basis"`
	}
	conv := converter.GetDefaultDataConverter()
	events := s.GetWorkflowHistory(ctx, w.WorkflowID, w.RunID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	scheduled := map[int64]bool{}
	for events.HasNext() {
		e, err := events.Next()
		switch {
		case missing(err):
			return d, "its history is no longer kept", nil
		case err != nil:
			return d, "", fmt.Errorf("read the history of round %s: %w", w.WorkflowID, err)
		}
		if a := e.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == preemptapi.PlanActivity {
			scheduled[e.GetEventId()] = true
			if err := conv.FromPayloads(a.GetInput(), &asked); err != nil {
				return d, "what it was asked for cannot be read: " + err.Error(), nil
			}
		}
		a := e.GetActivityTaskCompletedEventAttributes()
		if a == nil || !scheduled[a.GetScheduledEventId()] {
			continue
		}
		if err := conv.FromPayloads(a.GetResult(), &plan); err != nil {
			return d, "its plan cannot be read: " + err.Error(), nil
		}
		switch {
		case plan.Over != "":
			return d, plan.Over, nil
		case plan.Basis == nil:
			return d, "it had too many candidates for its basis to be recorded, or was made by an earlier version", nil
		}
		return decision{asked.Demand, plan.Targets, plan.PlannedAt, *plan.Basis}, "", nil
	}
	return d, "it has made no plan", nil
}

// replayedRound is what a past round chose, and what it would choose now.
type replayedRound struct {
	RoundID    string           `json:"roundID"`
	RunID      string           `json:"runID"`
	Time       time.Time        `json:"time"` // of the plan
	Alarm      string           `json:"alarm,omitempty"`
	VM         string           `json:"vm,omitempty"` // the one VM that was to be evicted
	Scope      vsphere.Ref      `json:"scope,omitzero"`
	ScopeName  string           `json:"scopeName,omitempty"`
	PolicyThen namedPolicy      `json:"policyThen"`
	PolicyNow  namedPolicy      `json:"policyNow"`
	Then       []policy.Target  `json:"then"`
	Now        []policy.Target  `json:"now"`
	Different  bool             `json:"different"`
	New        []policy.Target  `json:"new"`     // chosen now, but not before
	Staying    []policy.Spared  `json:"staying"` // chosen before, but not now
	Spared     []policy.Spared  `json:"spared"`  // all that stay on now
	Usage      []policy.Usage   `json:"usage,omitempty"`
	Shortfall  policy.Resources `json:"shortfall,omitzero"`
	Covered    policy.Resources `json:"covered,omitzero"`
	Partial    bool             `json:"partial,omitempty"`
}

// replayed applies the policy to the recorded data of the round. A VM that was named is chosen whatever the
// shortfall, as in the round.
func (d decision) replayed(w listed, name string, p policy.Policy) replayedRound {
	hash := p.Hash()
	if d.demand.VM != "" {
		p.Target = policy.Goal{}
	}
	plan := policy.Choose(d.basis.Snapshot, d.basis.Demand.For(p), p)
	difference := policy.Compare(d.targets, plan)
	r := replayedRound{
		RoundID: w.WorkflowID, RunID: w.RunID, Time: d.at, Alarm: d.demand.Alarm(), VM: d.demand.VM,
		Scope: d.demand.Scope, ScopeName: d.basis.Snapshot.ScopeName,
		PolicyThen: namedPolicy{d.demand.PolicyName, d.demand.PolicyHash}, PolicyNow: namedPolicy{name, hash},
		Then: append([]policy.Target{}, d.targets...), Now: plan.Targets, Different: !difference.None(),
		New: difference.Added, Staying: difference.Dropped, Spared: plan.Spared,
		Usage: plan.Usage, Shortfall: plan.Shortfall, Covered: plan.Covered, Partial: plan.Partial,
	}
	return r
}
