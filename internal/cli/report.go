package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// formatCSV is the format of a report for spreadsheets.
const formatCSV = "csv"

// reportFlags are the flags of report.
type reportFlags struct {
	since, by string
	csv       bool
}

// sections are what a report is divided by.
var sections = []struct {
	word string
	rows func(record.Sums) []record.Row
}{
	{"day", func(s record.Sums) []record.Row { return s.Days }},
	{"cluster", func(s record.Sums) []record.Row { return s.Clusters }},
	{"group", func(s record.Sums) []record.Row { return s.Groups }},
	{"alarm", func(s record.Sums) []record.Row { return s.Alarms }},
	{"vm", func(s record.Sums) []record.Row { return s.VMs }},
}

func sectionWords() (words []string) {
	for _, s := range sections {
		words = append(words, s.word)
	}
	return words
}

func (a *app) reportCommand() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use: "report", Args: noArgs,
		Short: "Add up what preemptions cost and gave",
		Long: "Add up what preemptions cost and gave, by day, cluster, application group, alarm and VM: how often, how long VMs were down,\n" +
			"the CPU and memory reclaimed in GHz·h and GiB·h (what a VM used when it was chosen, for as long as it was down), and\n" +
			"how long it took from the round's start until a VM was off. It reads what Temporal keeps and needs no worker.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl report --since 30d\n  preemptctl report --since 2026-11-01 --by vm\n  preemptctl report --since 30d --csv > november.csv",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.reportSums(cmd, f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.since, "since", "7d", "how far back: a duration such as 12h or 30d, a day or a time")
	flags.StringVar(&f.by, "by", "", "only by one of "+strings.Join(sectionWords(), ", ")+" (default: by each)")
	flags.BoolVar(&f.csv, formatCSV, false, "print it as CSV, a line for each row")
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(sectionWords(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) reportSums(cmd *cobra.Command, f reportFlags) error {
	from, err := since("since", f.since, a.Now())
	switch {
	case err != nil:
		return err
	case f.by != "" && !slices.Contains(sectionWords(), f.by):
		return usagef("--by %q is not one of %s", f.by, strings.Join(sectionWords(), ", "))
	case f.csv && a.flags.outputSet:
		return usagef("--csv and --output do not go together")
	}
	return a.withSession(cmd, readLimit, func(ctx context.Context, s *session) error {
		// What began before counts with the hours that lie within the time.
		r := s.record()
		entries, _, err := a.read(ctx, r, record.Filter{})
		if err != nil {
			return err
		}
		_, reach := r.Known(record.Filter{Since: from})
		a.warnReach(reach, from)
		sums := record.Summed(entries, from, a.Now(), time.Local)
		if f.csv {
			return writeCSV(a.Stdout, sums, f.by)
		}
		return a.show(view{
			value: sums, msg: "report", attrs: []any{"report", sums},
			table: func(t *table) { reportTable(t, sums, f.by) },
		})
	})
}

// sumCells writes a sum.
func sumCells(s record.Sum) []string {
	return []string{
		strconv.Itoa(s.Preemptions), strconv.Itoa(s.VMs), brief(s.Down), fmt.Sprintf("%.1f", s.GHzHours), fmt.Sprintf("%.1f", s.GiBHours),
		brief(s.Reclaim), brief(s.ReclaimMost), strconv.Itoa(s.StillDown),
	}
}

func reportTable(t *table, s record.Sums, by string) {
	t.row("from", timestamp(s.Since))
	t.row("to", timestamp(s.Until))
	t.row("rounds", strconv.Itoa(s.Rounds))
	t.row("restores", strconv.Itoa(s.Restores))
	if s.Total.Unknown > 0 {
		t.row("unknown", fmt.Sprintf("%d VMs came back by others; when is not known, and their hours are not counted", s.Total.Unknown))
	}
	heading := []string{"PREEMPTIONS", "VMS", "DOWN", "GHZ·H", "GIB·H", "RECLAIM", "AT MOST", "STILL DOWN"}
	t.section(append([]string{"TOTAL"}, heading...)...)
	t.row(append([]string{"all"}, sumCells(s.Total)...)...)
	for _, section := range sections {
		rows := section.rows(s)
		if by != "" && by != section.word || len(rows) == 0 {
			continue
		}
		t.section(append([]string{strings.ToUpper(section.word)}, heading...)...)
		for _, row := range rows {
			if section.word == "day" && by == "" && row.Preemptions == 0 && row.GHzHours == 0 {
				continue
			}
			t.row(append([]string{rowName(row)}, sumCells(row.Sum)...)...)
		}
	}
}

func rowName(r record.Row) string {
	switch {
	case r.Name != "" && r.Key != "":
		return r.Name + " (" + r.Key + ")"
	case r.Name+r.Key == "":
		return "-"
	}
	return r.Name + r.Key
}

// writeCSV writes a line for each row of a report. Times are in seconds.
func writeCSV(w io.Writer, s record.Sums, by string) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"by", "key", "name", "preemptions", "vms", "down_seconds", "ghz_hours", "gib_hours", "reclaim_median_seconds", "reclaim_max_seconds", "still_down"})
	for _, section := range sections {
		if by != "" && by != section.word {
			continue
		}
		for _, r := range section.rows(s) {
			_ = out.Write([]string{
				section.word, cell(r.Key), cell(r.Name), strconv.Itoa(r.Preemptions), strconv.Itoa(r.VMs), fmt.Sprintf("%.0f", r.Down.Seconds()),
				fmt.Sprintf("%.3f", r.GHzHours), fmt.Sprintf("%.3f", r.GiBHours), fmt.Sprintf("%.1f", r.Reclaim.Seconds()), fmt.Sprintf("%.1f", r.ReclaimMost.Seconds()),
				strconv.Itoa(r.StillDown),
			})
		}
	}
	out.Flush()
	return out.Error()
}

// cell writes foreign text so that no spreadsheet takes it for a formula.
func cell(text string) string {
	text = clean(text)
	if strings.HasPrefix(text, "=") || strings.HasPrefix(text, "+") || strings.HasPrefix(text, "-") || strings.HasPrefix(text, "@") {
		return "'" + text
	}
	return text
}
