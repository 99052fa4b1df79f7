package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/contract"
)

// planTable shows who would go, in order, and who would stay.
func planTable(t *table, r contract.RoundResult) {
	t.section()
	t.row("plan", fmt.Sprintf("%d would go, %d would stay", len(r.Targets), sparedTotal(r)))
	about(t, r)
	if len(r.Targets) > 0 {
		t.section("#", "VM", "MOREF", "WOULD", "CPU", "MEMORY")
		for i, v := range r.Targets {
			t.row(strconv.Itoa(i+1), orDash(v.Name), v.Ref.Value, outcomeWords(v),
				fmt.Sprintf("%d MHz", v.CPUMHz), fmt.Sprintf("%d MB", v.MemoryMB))
		}
	}
	sparedTable(t, r)
}

// roundTable shows what a round did, or has done so far.
func roundTable(t *table, r contract.RoundResult) {
	t.section()
	t.row("round", r.RoundID)
	t.row("state", r.State)
	about(t, r)
	t.field("freed", freed(r))
	t.field("started", timestamp(r.StartedAt))
	t.field("ended", timestamp(r.EndedAt))
	t.field("reason", r.Reason)
	switch {
	case r.ReplyError != "":
		t.row("reply", "not delivered: "+r.ReplyError)
	case r.ReplySent:
		t.row("reply", "delivered")
	}
	for _, change := range r.Changes {
		t.row("change", change)
	}
	if len(r.Targets)+len(r.Waiting) > 0 {
		t.section("VM", "MOREF", "OUTCOME", "OFF AT", "WHY")
		for _, v := range r.Targets {
			t.row(orDash(v.Name), v.Ref.Value, outcomeWords(v), orDash(timestamp(v.OffAt)), orDash(why(v)))
		}
		for _, ref := range r.Waiting {
			t.row("-", ref.Value, "under way", "-", "-")
		}
	}
	sparedTable(t, r)
}

// about shows what a round was asked for.
func about(t *table, r contract.RoundResult) {
	t.row("tag", r.Tag)
	t.row("criticality", string(r.Criticality))
	t.field("alarm", r.Alarm)
	t.field("scope", cmp.Or(scopeWords(r.ScopeName, r.Scope), "everything tagged"))
	t.field("policy", r.PolicyName)
}

func freed(r contract.RoundResult) string {
	if len(r.Preempted()) == 0 {
		return ""
	}
	return fmt.Sprintf("%d VMs, %s", len(r.Preempted()), capacity(r.FreedCPUMHz, r.FreedMemMB))
}

// why says the reason of an outcome, and whether the record on the VM is missing.
func why(v contract.VMOutcome) string {
	text := reasonWords(v.Reason)
	if v.AnnotationError != "" {
		if text != "" {
			text += "; "
		}
		text += "not annotated: " + v.AnnotationError
	}
	return text
}

// sparedTable shows why candidates stay; of those that are not listed one by one, how many by reason.
func sparedTable(t *table, r contract.RoundResult) {
	if len(r.Spared) > 0 {
		t.section("SPARED", "MOREF", "WHY")
		for _, s := range r.Spared {
			t.row(orDash(s.Name), s.Ref.Value, sparedWords(s))
		}
	}
	if sparedTotal(r) > len(r.Spared) {
		t.section("SPARED IN ALL", "WHY")
		for _, reason := range slices.Sorted(maps.Keys(r.SparedCount)) {
			t.row(strconv.Itoa(r.SparedCount[reason]), policy.Reason.Explain(reason))
		}
	}
}

func sparedTotal(r contract.RoundResult) (n int) {
	for _, count := range r.SparedCount {
		n += count
	}
	return max(n, len(r.Spared))
}
