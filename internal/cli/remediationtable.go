package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// setting is one of the settings that remediation changes.
type setting struct {
	category, words string
	of              func(placement.Hardware) string
}

// hardwareSettings are in the order of placement.Settings.
var hardwareSettings = []setting{
	{placement.CategoryCPUs, "virtual CPUs", func(h placement.Hardware) string { return strconv.Itoa(h.CPUs) }},
	{placement.CategoryMemory, "memory", func(h placement.Hardware) string { return strconv.Itoa(h.MemoryMB) + " MB" }},
	{placement.CategoryCoresPerSocket, "cores per socket", func(h placement.Hardware) string { return strconv.Itoa(h.CoresPerSocket) }},
	{placement.CategoryMemoryHotAdd, "memory hot add", func(h placement.Hardware) string { return yesNo(h.MemoryHotAdd) }},
	{placement.CategoryCPUHotAdd, "CPU hot add", func(h placement.Hardware) string { return yesNo(h.CPUHotAdd) }},
	{placement.CategoryCPUHotRemove, "CPU hot remove", func(h placement.Hardware) string { return yesNo(h.CPUHotRemove) }},
}

// changeWords describes the changes between two hardware settings; empty: none.
func changeWords(before, after *placement.Hardware) string {
	var words []string
	if before != nil && after != nil {
		for _, s := range hardwareSettings {
			if was, is := s.of(*before), s.of(*after); was != is {
				words = append(words, fmt.Sprintf("%s %s to %s", s.words, was, is))
			}
		}
	}
	return strings.Join(words, ", ")
}

// decisionTable shows one decision about a remediation.
func decisionTable(t *table, d remediateapi.Decision) {
	t.section()
	t.row(cmp.Or(d.Kind, "remediation"), string(d.State))
	if !d.VM.Zero() || d.Name != "" {
		t.row("vm", vmName(d.Name, d.VM))
	}
	t.field("reason", d.Reason)
	t.field("resource", d.Resource)
	t.field("mode", d.Mode)
	t.field("cause", causeWords(d.Cause))
	t.field("rule", d.Cause.Rule)
	t.field("started", timestamp(d.StartedAt))
	t.field("ended", timestamp(d.EndedAt))
	t.field("until", timestamp(d.Until))
	if d.Hot {
		t.row("added hot", "yes")
	}
	t.field("tag", d.Tag)
	if u := d.Source; u != nil {
		t.row("datastore", cmp.Or(u.Name, u.Ref.Value)+" ("+u.Ref.Value+"): "+fullWords(*u))
	}
	t.field("not annotated", d.AnnotationError)
	t.field("event", d.Reply)
	if d.Before != nil && d.After != nil {
		t.section("SETTING", "BEFORE", "AFTER")
		for _, s := range hardwareSettings {
			t.row(s.words, s.of(*d.Before), s.of(*d.After))
		}
	}
	badTable(t, d.Bad)
	moves := d.Plan
	if d.Move != nil {
		moves = append([]placement.Relocation{*d.Move}, moves...)
	}
	moveTable(t, moves)
	stayTable(t, d)
}

// causeWords returns why an object is remedied.
func causeWords(c placement.Cause) string {
	switch c.Event {
	case placement.ByHand:
		return strings.TrimSpace("by hand " + timestamp(c.Time))
	case placement.ByReconciler:
		return strings.TrimSpace("reconciliation " + timestamp(c.Time))
	}
	text := cmp.Or(c.Alarm, c.Event)
	if !c.Entity.Zero() {
		text += " on " + c.Entity.String()
	}
	if c.To != "" {
		text += " to " + c.To
	}
	return strings.TrimSpace(text + " " + timestamp(c.Time))
}

// fullWords returns how full a datastore is, and will be.
func fullWords(u placement.Usage) string {
	text := fmt.Sprintf("%s of %s used", storage(u.Used), storage(u.Capacity))
	if u.Capacity > 0 {
		text += fmt.Sprintf(" (%d %%), %d %% after", percentOf(u.Used, u.Capacity), percentOf(u.After, u.Capacity))
	}
	if u.Target > 0 {
		text += fmt.Sprintf(", to come below %d %%", u.Target)
	}
	return text
}

func percentOf(n, of int64) int64 { return int64(float64(n) * 100 / float64(of)) }

// storage writes bytes in units that people read.
func storage(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

func badTable(t *table, bad []placement.BadTag) {
	if len(bad) == 0 {
		return
	}
	t.section("BAD TAG", "CATEGORY", "WHY")
	for _, b := range bad {
		t.row(orDash(b.Tag), b.Category, b.Reason)
	}
}

func moveTable(t *table, moves []placement.Relocation) {
	if len(moves) == 0 {
		return
	}
	t.section("MOVE", "MOREF", "FROM", "TO", "USED", "PROVISIONED", "USED THERE AFTER", "WHY").spare("PROVISIONED", "MOREF")
	for _, m := range moves {
		t.row(orDash(m.Name), m.VM.Value, vmName(m.SourceName, m.Source), vmName(m.DestinationName, m.Destination), storage(m.Used), storage(m.Provisioned),
			strconv.Itoa(m.UsageAfter)+" %", orDash(m.Why))
	}
}

func stayTable(t *table, d remediateapi.Decision) {
	if len(d.Stay) > 0 {
		t.section("STAYS", "MOREF", "WHY")
		for _, s := range d.Stay {
			why := strings.ReplaceAll(s.Reason, "_", " ")
			if s.Detail != "" {
				why += " (" + s.Detail + ")"
			}
			t.row(orDash(s.Name), s.VM.Value, why)
		}
	}
	if len(d.StayCount) > 0 {
		t.section("STAYING", "WHY")
		for _, reason := range slices.Sorted(maps.Keys(d.StayCount)) {
			t.row(countVMs(d.StayCount[reason]), strings.ReplaceAll(reason, "_", " "))
		}
	}
}

// reconcileTable shows what a reconciliation did, one VM per row.
func reconcileTable(t *table, r remediateapi.ReconcileResult) {
	t.section()
	t.row("reconciliation", string(r.State))
	t.field("reason", r.Reason)
	t.row("looked at", countVMs(r.Looked)+" with tags of settings")
	t.row("on", countVMs(r.On)+", which get theirs at the next power-off")
	if len(r.Decisions) == 0 {
		t.row("decided", "nothing: no VM that is off differs from its tags")
		return
	}
	t.section("VM", "MOREF", "STATE", "CHANGE", "WHY")
	var bad []remediateapi.Decision
	for _, d := range r.Decisions {
		t.row(orDash(d.Name), d.VM.Value, string(d.State), orDash(changeWords(d.Before, d.After)), orDash(d.Reason))
		if len(d.Bad) > 0 {
			bad = append(bad, d)
		}
	}
	if r.More > 0 {
		t.row(fmt.Sprintf("and %d more", r.More))
	}
	if len(bad) > 0 {
		t.section("BAD TAG", "CATEGORY", "VM", "MOREF", "WHY")
		for _, d := range bad {
			for _, b := range d.Bad {
				t.row(orDash(b.Tag), b.Category, orDash(d.Name), d.VM.Value, b.Reason)
			}
		}
	}
}

// subject names what a decision is about, in a line.
func subject(d remediateapi.Decision) string {
	switch {
	case !d.VM.Zero() || d.Name != "":
		return "VM " + vmName(d.Name, d.VM)
	case d.Source != nil:
		return "datastore " + cmp.Or(d.Source.Name, d.Source.Ref.Value)
	}
	return "what was asked for"
}

// tagWords joins the tags of a category.
func tagWords(tags []string) string { return strings.Join(tags, ", ") }

// badWords returns what is wrong with the tags of a category; empty: nothing.
func badWords(bad []placement.BadTag, category string) string {
	var words []string
	for _, b := range bad {
		if b.Category == category {
			words = append(words, b.Reason)
		}
	}
	return strings.Join(words, "; ")
}

// poweredWords returns whether a VM is on, and when its settings are applied.
func poweredWords(power string, differs bool) string {
	switch {
	case power != vsphere.PoweredOff && differs:
		return orDash(power) + ": what is wanted is applied at the next power-off"
	case differs:
		return orDash(power) + ": what is wanted can be applied now"
	}
	return orDash(power)
}
