package preempt

import (
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Bounds of what one payload holds. Temporal takes 2 MB of it, and ends a workflow that hands over more.
const (
	maxPayload = 1 << 20 // of estimated JSON; beyond it, what explains is left out, and never a VM
	maxInFull  = 1000    // targets of a round of which its intake is told one by one
	shortText  = 80
	maxChanges = 500 // of a result, in words
)

// Compact returns a plan that fits into one payload: of a very large one the words that explain each target are left out.
func Compact(plan PlanResult) PlanResult {
	size := 0
	for _, t := range plan.Targets {
		size += 330 + jsonLen(t.Name) + jsonLen(t.Why)
	}
	if size <= maxPayload {
		return plan
	}
	plan.Targets = slices.Clone(plan.Targets)
	for i := range plan.Targets {
		plan.Targets[i].Why = ""
		plan.Targets[i].Name = short(plan.Targets[i].Name, shortText)
	}
	plan.Spared = shortSpared(plan.Spared)
	return plan
}

// fitted returns a result that fits into one payload: all targets stay in it, of very many without what only explains.
func fitted(r preemptapi.RoundResult) preemptapi.RoundResult {
	if n := len(r.Changes); n > maxChanges {
		r.Changes = slices.Concat(r.Changes[:maxChanges/2], []string{"…"}, r.Changes[n-maxChanges/2:])
	}
	size := 0
	for _, t := range r.Targets {
		size += 380 + jsonLen(t.Name) + jsonLen(t.Why) + jsonLen(t.Reason) + jsonLen(t.Notice) + jsonLen(t.AnnotationError)
	}
	if size <= maxPayload {
		return r
	}
	r.Spared = shortSpared(r.Spared)
	r.Targets = slices.Clone(r.Targets)
	most := room(len(r.Targets))
	for i := range r.Targets {
		t := &r.Targets[i]
		t.Why, t.Host, t.InstanceUUID = "", vsphere.Ref{}, ""
		t.Name, t.Notice = short(t.Name, most), short(t.Notice, most)
		t.Reason, t.AnnotationError = short(t.Reason, most), short(t.AnnotationError, most)
	}
	return r
}

// brief returns what an intake keeps of a result: of a large one counts, and which VMs are off. The whole stays with
// the round.
func brief(r preemptapi.RoundResult) preemptapi.RoundResult {
	if len(r.Targets) <= maxInFull {
		return r
	}
	r = fitted(r)
	r.VMs, r.Outcomes = r.Preempted(), map[action.Outcome]int{}
	for _, t := range r.Targets {
		r.Outcomes[t.Outcome]++
	}
	r.Brief, r.Targets, r.Waiting, r.Spared = true, []preemptapi.VMOutcome{}, nil, r.Spared[:min(len(r.Spared), 50)]
	return r
}

// fittedRestore returns a restore's result that fits into one payload.
func fittedRestore(r preemptapi.RestoreResult) preemptapi.RestoreResult {
	size := 0
	for _, vm := range r.VMs {
		size += 260 + jsonLen(vm.Name) + jsonLen(vm.Reason) + jsonLen(vm.AnnotationError)
	}
	if size <= maxPayload {
		return r
	}
	r.Left = shortSpared(r.Left)
	r.VMs = slices.Clone(r.VMs)
	most := room(len(r.VMs))
	for i := range r.VMs {
		vm := &r.VMs[i]
		vm.Name, vm.Reason, vm.AnnotationError = short(vm.Name, most), short(vm.Reason, most), short(vm.AnnotationError, most)
	}
	return r
}

// firstWaves leaves the later waves of a plan that is carried out to the plan after it, where there are many VMs.
func firstWaves(out PlanRestoreResult) PlanRestoreResult {
	all := out.Returns.Returns
	if len(all) <= maxInFull {
		return out
	}
	n := 0
	for n < len(all) && all[n].Wave == 1 {
		n++
	}
	out.Returns.Returns, out.Beyond = all[:n:n], len(all)-n
	return out
}

func shortSpared(all []policy.Spared) []policy.Spared {
	all = slices.Clone(all)
	for i := range all {
		all[i].Name, all[i].Detail = short(all[i].Name, shortText), short(all[i].Detail, shortText)
	}
	return all
}

// jsonLen is how long a text is in JSON.
func jsonLen(s string) (n int) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '<' || c == '>' || c == '&' || c == '"' || c == '\\' {
			n += 5
		}
	}
	return n + len(s)
}

// short cuts a text so that it takes at most n bytes of JSON, and the sign that it was cut.
func short(s string, n int) string {
	if jsonLen(s) <= n {
		return s
	}
	for i, c := range s {
		if n -= jsonLen(string(c)); n < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// room is how long each of four texts of n VMs may be, beside what is always there of each.
func room(n int) int {
	return min(max((3*maxPayload/2/n-220)/4, 8), shortText)
}
