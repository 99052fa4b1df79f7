// Package judge says what a plan makes of one VM: would it go now, and why or why not. The plan is a worker's. Nothing is
// reserved, and no VM is touched.
package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Verdict is what a plan makes of a VM.
type Verdict struct {
	VM       vsphere.Ref           `json:"vm"`
	Name     string                `json:"name,omitempty"`
	WouldGo  bool                  `json:"wouldGo"`
	Words    string                `json:"verdict"`
	Rank     int                   `json:"rank,omitempty"`     // among those that would go
	Of       int                   `json:"of"`                 // so many would go
	Cluster  string                `json:"cluster,omitempty"`  // in which it was planned; empty: everywhere
	Criteria string                `json:"criteria,omitempty"` // for what it was planned
	Spared   *policy.Spared        `json:"spared,omitempty"`
	Target   *preemptapi.VMOutcome `json:"target,omitempty"`
	Usage    []policy.Usage        `json:"usage,omitempty"`
}

// Planner has a worker plan a request. Its error says why there is no plan.
type Planner func(context.Context, preemption.WorkflowRequest) (preemptapi.RoundResult, error)

// On says what a plan for the request makes of a VM. A VM that the plan does not list, as there are very many or it carries no
// tag, is planned for alone.
func On(ctx context.Context, vm vsphere.Ref, req preemption.WorkflowRequest, plan Planner) (v Verdict, err error) {
	r, err := plan(ctx, req)
	if err != nil {
		return v, err
	}
	v = judged(r, vm, req)
	if v.Target != nil || v.Spared != nil {
		return v, nil
	}
	single := req
	single.VM, single.Cluster, single.Headroom = vm.String(), "", false
	alone, err := plan(ctx, single)
	if err != nil {
		v.Words = "it would stay: " + strings.TrimPrefix(err.Error(), "no plan: ")
		return v, nil
	}
	if one := judged(alone, vm, single); one.Spared != nil {
		v.Spared, v.Words, v.Name = one.Spared, one.Words, one.Name
	}
	return v, nil
}

// judged says what a plan makes of a VM.
func judged(r preemptapi.RoundResult, vm vsphere.Ref, req preemption.WorkflowRequest) Verdict {
	v := Verdict{VM: vm, Of: len(r.Targets), Cluster: scopeWords(r.ScopeName, r.Scope), Usage: r.Usage, Words: "it would stay: the plan does not list it"}
	v.Criteria = fmt.Sprintf("%s, tag %s, policy %s", req.Criticality, req.Tag, r.PolicyName)
	for i := range r.Targets {
		if t := &r.Targets[i]; t.Ref == vm {
			v.WouldGo, v.Rank, v.Target, v.Name = true, i+1, t, t.Name
			v.Words = fmt.Sprintf("it would go, as number %d of %d: %s", i+1, len(r.Targets), cmp.Or(t.Why, t.Outcome.Words()))
			return v
		}
	}
	for i := range r.Spared {
		if s := &r.Spared[i]; s.Ref == vm {
			v.Spared, v.Name = s, s.Name
			v.Words = "it would stay: " + s.Explanation().Words()
		}
	}
	return v
}

func scopeWords(name string, ref vsphere.Ref) string {
	if ref.Zero() || name == "" {
		return ref.String()
	}
	return name + " (" + ref.String() + ")"
}

// LastRound returns the last round of an alarm, or of any cause where alarm is empty: of those in a cluster in which the VM was
// acted on, if there is one. nil: the entries have none. isHome says that it was in such a cluster: of another the VM may be no
// candidate at all.
func LastRound(entries []record.Entry, alarm string, vm vsphere.Ref) (last *record.Entry, isHome bool) {
	home := map[vsphere.Ref]bool{}
	for i := range entries {
		if slices.ContainsFunc(entries[i].VMs, func(v record.VM) bool { return v.Ref == vm }) && !entries[i].Cluster.Zero() {
			home[entries[i].Cluster] = true
		}
	}
	for i := range entries {
		e := &entries[i]
		if e.Kind != record.Round || alarm != "" && !strings.EqualFold(e.Alarm, alarm) {
			continue
		}
		if last == nil || home[e.Cluster] && !home[last.Cluster] {
			last = e
		}
	}
	return last, last != nil && home[last.Cluster]
}

// AskAs has a request ask as a round did: with its tag, policy, criticality and scope, where they are known.
func AskAs(req *preemption.WorkflowRequest, e *record.Entry) {
	req.Tag, req.Policy = cmp.Or(e.Tag, req.Tag), e.Policy
	req.Criticality = cmp.Or(preemption.Criticality(e.Criticality), req.Criticality)
	if !e.Scope.Zero() {
		req.Cluster = e.Scope.String()
	}
}
