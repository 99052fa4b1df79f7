package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// planTable shows the VMs that would be turned off, in order, and the others.
func planTable(t *table, r preemptapi.RoundResult) {
	t.section()
	t.row("plan", fmt.Sprintf("%d would be turned off, %d would be left as they are", len(r.Targets), sparedTotal(r)))
	if len(r.Targets) == 0 {
		t.field("why", policy.BelowTarget(r.Usage))
	}
	about(t, r)
	t.field("to free", toFree(r))
	t.field("next", nextWords(r.Next))
	roomTable(t, r)
	usageTable(t, r.Usage)
	if len(r.Targets) > 0 {
		t.section("#", "VM", "MOREF", "WOULD", "CPU", "MEMORY", "WHY").spare("MOREF")
		for i, v := range r.Targets {
			t.row(strconv.Itoa(i+1), orDash(v.Name), v.Ref.Value, v.Outcome.Words(),
				fmt.Sprintf("%d MHz", v.CPUMHz), fmt.Sprintf("%d MB", v.MemoryMB), orDash(v.Why))
		}
	}
	sparedTable(t, r)
}

// nextWords names who would go as well if more had to.
func nextWords(next []policy.Next) string {
	names := make([]string, len(next))
	for i, n := range next {
		names[i] = cmp.Or(n.Name, n.Ref.Value)
	}
	return strings.Join(names, ", ")
}

// roundTable shows what a round did, or has done so far.
func roundTable(t *table, r preemptapi.RoundResult) {
	t.section()
	t.row("round", r.RoundID)
	t.row("state", stateWords(r))
	about(t, r)
	t.field("to free", toFree(r))
	t.field("freed", freed(r))
	t.field("next", nextWords(r.Next))
	t.field("started", timestamp(r.StartedAt))
	t.field("ended", timestamp(r.EndedAt))
	t.field("reason", r.Reason)
	epilogue(t, r)
	usageTable(t, r.Usage)
	targetsTable(t, r)
	sparedTable(t, r)
}

// epilogue shows the result of the reply, and the changes of the criticality.
func epilogue(t *table, r preemptapi.RoundResult) {
	switch {
	case r.ReplyError != "":
		t.row("reply", "not delivered: "+r.ReplyError)
	case r.ReplySent:
		t.row("reply", "delivered")
	}
	for _, change := range r.Changes {
		t.row("change", change)
	}
}

// targetsTable shows the outcome of each target, in the order of the plan. Columns without any value are left out.
func targetsTable(t *table, r preemptapi.RoundResult) {
	if r.Brief {
		briefTable(t, r)
		return
	}
	if len(r.Targets)+len(r.Waiting) == 0 {
		return
	}
	noticed := slices.ContainsFunc(r.Targets, func(v preemptapi.VMOutcome) bool { return v.Notice != "" })
	chosen := slices.ContainsFunc(r.Targets, func(v preemptapi.VMOutcome) bool { return v.Why != "" }) ||
		slices.ContainsFunc(r.Pending, func(v preemptapi.PendingVM) bool { return v.Why != "" })
	row := func(put func(...string), vm, moref, outcome, off, notice, why, choice string) {
		cells := []string{vm, moref, outcome, off}
		if noticed {
			cells = append(cells, notice)
		}
		if cells = append(cells, why); chosen {
			cells = append(cells, choice)
		}
		put(cells...)
	}
	row(func(heading ...string) { t.section(heading...).spare("MOREF") }, "VM", "MOREF", "OUTCOME", "OFF AT", "NOTICE", "WHY", "CHOSEN AS")
	for _, v := range r.Targets {
		row(t.row, orDash(v.Name), v.Ref.Value, becameWords(v), orDash(timestamp(v.OffAt)), orDash(v.Notice), orDash(why(v)), orDash(v.Why))
	}
	pending := make(map[vsphere.Ref]preemptapi.PendingVM, len(r.Pending))
	for _, p := range r.Pending {
		pending[p.Ref] = p
	}
	for _, ref := range r.Waiting {
		p := pending[ref]
		row(t.row, orDash(p.Name), ref.Value, underWay(r), "-", "-", "-", orDash(p.Why))
	}
}

// underWay says what is being done to targets that are not decided.
func underWay(r preemptapi.RoundResult) string {
	switch r.State {
	case preemptapi.RoundNotified:
		return "has its notice"
	case preemptapi.RoundWaiting:
		return "shuts down"
	case preemptapi.RoundBetween:
		return "waits for the next step"
	}
	return "under way"
}

// usageTable shows the usage of the contended scopes, before and after the plan.
func usageTable(t *table, all []policy.Usage) {
	if len(all) == 0 {
		return
	}
	t.section("USAGE OF", "HOSTS", "RESOURCE", "CAPACITY", "USED", "CREDITED", "AFTER", "TARGET", "SHORTFALL").spare("HOSTS", "CREDITED", "CAPACITY", "SHORTFALL")
	for _, u := range all {
		scope, hosts := cmp.Or(scopeWords(u.Name, u.Scope), "everything"), strconv.Itoa(u.Hosts)
		if u.Moving > 0 {
			hosts += fmt.Sprintf(" (%d entering maintenance)", u.Moving)
		}
		if u.Standby > 0 {
			hosts += fmt.Sprintf(" (+%d in standby that DPM may wake)", u.Standby)
		}
		usageRow(t, u.CPU, megahertz, scope, hosts, "CPU")
		usageRow(t, u.Memory, megabytes, scope, hosts, "memory")
	}
}

func usageRow(t *table, l policy.Load, write func(int64) string, cells ...string) {
	some := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return write(n)
	}
	target := "-"
	if l.Target > 0 {
		target = fmt.Sprintf("%d%%", l.Target)
	}
	if l.Kept > 0 {
		target += " of all but " + write(l.Kept)
	}
	t.row(append(cells, write(l.Capacity), share(l, l.Used, write), some(l.Credited), loadAfter(l, write), target, some(l.Shortfall))...)
}

// loadAfter returns the usage after the plan is carried out.
func loadAfter(l policy.Load, write func(int64) string) string { return share(l, l.After, write) }

func share(l policy.Load, n int64, write func(int64) string) string {
	if l.Capacity <= 0 {
		return write(n)
	}
	return fmt.Sprintf("%s (%d%%)", write(n), n*100/l.Capacity)
}

// toFree returns the shortfall and how much of it the plan covers.
func toFree(r preemptapi.RoundResult) string {
	if (r.Shortfall == policy.Resources{}) {
		return ""
	}
	text := capacity(r.Shortfall.CPUMHz, r.Shortfall.MemoryMB)
	if r.Partial {
		text += "; only in part: the plan covers " + capacity(r.Covered.CPUMHz, r.Covered.MemoryMB)
	}
	return text
}

// about shows the request of a round.
func about(t *table, r preemptapi.RoundResult) {
	t.row("tag", r.Tag)
	t.row("criticality", string(r.Criticality))
	t.field("alarm", r.Alarm)
	t.field("scope", cmp.Or(scopeWords(r.ScopeName, r.Scope), "everything tagged"))
	t.field("policy", r.PolicyName)
}

func freed(r preemptapi.RoundResult) string {
	if len(r.Preempted()) == 0 {
		return ""
	}
	return fmt.Sprintf("%s, %s", shown.Count(len(r.Preempted()), "VM"), capacity(r.FreedCPUMHz, r.FreedMemMB))
}

// why returns the reason of an outcome, and whether the attribute on the VM is missing.
func why(v preemptapi.VMOutcome) string {
	text := v.Reason.Words()
	if v.AnnotationError != "" {
		if text != "" {
			text += "; "
		}
		text += "not annotated: " + v.AnnotationError
	}
	return text
}

// sparedTable shows why candidates stay on. Those that are not listed one by one are counted by reason.
func sparedTable(t *table, r preemptapi.RoundResult) {
	if len(r.Spared) > 0 {
		t.section("SPARED", "MOREF", "WHY")
		for _, s := range r.Spared {
			t.row(orDash(s.Name), s.Ref.Value, s.Explanation().Words())
		}
	}
	if sparedTotal(r) > len(r.Spared) {
		t.section("SPARED IN ALL", "WHY")
		for _, reason := range slices.Sorted(maps.Keys(r.SparedCount)) {
			t.row(strconv.Itoa(r.SparedCount[reason]), policy.Reason.Explain(reason))
		}
	}
}

func sparedTotal(r preemptapi.RoundResult) (n int) {
	for _, count := range r.SparedCount {
		n += count
	}
	return max(n, len(r.Spared))
}

// briefTable shows what an intake keeps of a very large round.
func briefTable(t *table, r preemptapi.RoundResult) {
	t.section("OUTCOME", "VMS")
	for _, outcome := range slices.Sorted(maps.Keys(r.Outcomes)) {
		t.row(outcome.Words(), strconv.Itoa(r.Outcomes[outcome]))
	}
}
