package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// UsedPolicy is a policy as a round was started with it.
type UsedPolicy struct {
	Name   string        `json:"name"`
	Hash   string        `json:"hash"`
	Policy policy.Policy `json:"policy"`
	By     string        `json:"by"` // the last round that used it
	At     time.Time     `json:"at"`
	Error  string        `json:"error,omitempty"` // why it cannot be read
}

// mostPolicies bounds how many policies are read: those that rounds used last.
const mostPolicies = 12

// Policies returns the policies that rounds used, the last used first. Only rounds that are known are looked at.
func (r *Reader) Policies(ctx context.Context) []UsedPolicy {
	entries, _ := r.Known(Filter{Kind: Round})
	seen := map[string]bool{}
	used := []UsedPolicy{}
	for _, e := range entries {
		key := e.Policy + " " + e.PolicyHash
		if e.PolicyHash == "" || seen[key] {
			continue
		}
		if seen[key] = true; len(used) == mostPolicies {
			break
		}
		one := UsedPolicy{Name: e.Policy, Hash: e.PolicyHash, By: e.ID, At: e.StartedAt}
		p, err := r.policyOf(ctx, e)
		if err != nil {
			one.Error = err.Error()
		}
		one.Policy = p
		used = append(used, one)
	}
	return used
}

// policyOf reads the policy with which a round was started; of each hash once.
func (r *Reader) policyOf(ctx context.Context, e Entry) (policy.Policy, error) {
	if known, ok := r.policies.Load(e.PolicyHash); ok {
		return known.(policy.Policy), nil
	}
	d, err := r.demandOf(ctx, e)
	if err == nil {
		r.policies.Store(e.PolicyHash, d.Policy)
	}
	return d.Policy, err
}

// demandOf reads the demand with which a round was started.
func (r *Reader) demandOf(ctx context.Context, e Entry) (preemptapi.Demand, error) {
	var in struct {
		Demand preemptapi.Demand `json:"demand"`
	}
	history := r.Client.GetWorkflowHistory(ctx, e.ID, e.RunID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !history.HasNext() {
		return in.Demand, errors.New("the round has no history any more")
	}
	first, err := history.Next()
	if err != nil {
		return in.Demand, fmt.Errorf("read how round %s began: %w", e.ID, err)
	}
	payloads := first.GetWorkflowExecutionStartedEventAttributes().GetInput()
	if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &in); err != nil {
		return in.Demand, fmt.Errorf("read how round %s began: %w", e.ID, err)
	}
	return in.Demand, nil
}
