package round

import (
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/payload"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const maxChanges = 500 // of a result, in words

// Compact returns a plan that fits into one payload: of a very large one the words that explain each target are left out.
func Compact(plan PlanResult) PlanResult {
	size := 0
	for _, t := range plan.Targets {
		size += 330 + payload.JSONLen(t.Name) + payload.JSONLen(t.Why) + listLen(plan.Groups[t.Ref.Value])
	}
	if size <= payload.Max {
		return plan
	}
	plan.Targets = slices.Clone(plan.Targets)
	for i := range plan.Targets {
		plan.Targets[i].Why = ""
		plan.Targets[i].Name = payload.Cut(plan.Targets[i].Name, payload.ShortText)
	}
	plan.Spared, plan.Groups = payload.ShortSpared(plan.Spared), nil
	return plan
}

// listLen is about how long a list of texts is in JSON.
func listLen(list []string) (n int) {
	for _, text := range list {
		n += 1 + payload.JSONLen(text)
	}
	return n
}

// fitted returns a result that fits into one payload: all targets stay in it, of very many without what only explains.
func fitted(r preemptapi.RoundResult) preemptapi.RoundResult {
	if n := len(r.Changes); n > maxChanges {
		r.Changes = slices.Concat(r.Changes[:maxChanges/2], []string{"…"}, r.Changes[n-maxChanges/2:])
	}
	size := 0
	for _, t := range r.Targets {
		size += 380 + payload.JSONLen(t.Name) + payload.JSONLen(t.Why) + payload.JSONLen(t.Reason.String()) + payload.JSONLen(t.Notice) + payload.JSONLen(t.AnnotationError) + listLen(t.Groups)
	}
	for _, t := range r.Pending {
		size += 260 + payload.JSONLen(t.Name) + payload.JSONLen(t.Why) + listLen(t.Groups)
	}
	if size <= payload.Max {
		return r
	}
	r.Spared = payload.ShortSpared(r.Spared)
	r.Targets, r.Pending = slices.Clone(r.Targets), nil
	most := payload.TextRoom(len(r.Targets))
	for i := range r.Targets {
		t := &r.Targets[i]
		t.Why, t.Host, t.InstanceUUID, t.Groups = "", vsphere.Ref{}, "", nil
		t.Name, t.Notice = payload.Cut(t.Name, most), payload.Cut(t.Notice, most)
		t.Reason, t.AnnotationError = policy.InWords(payload.Cut(t.Reason.String(), most)), payload.Cut(t.AnnotationError, most)
	}
	return r
}

// Brief returns what an intake keeps of a result: of a large one counts, and which VMs are off. The whole stays with
// the round.
func Brief(r preemptapi.RoundResult) preemptapi.RoundResult {
	if len(r.Targets) <= payload.MaxInFull {
		return r
	}
	r = fitted(r)
	r.VMs, r.Outcomes = r.Preempted(), map[action.Outcome]int{}
	for _, t := range r.Targets {
		r.Outcomes[t.Outcome]++
	}
	r.Brief, r.Targets, r.Waiting, r.Pending, r.Spared = true, []preemptapi.VMOutcome{}, nil, nil, r.Spared[:min(len(r.Spared), 50)]
	return r
}
