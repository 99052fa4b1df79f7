package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// historyFlags are the flags of history.
type historyFlags struct {
	filterFlags
	until, kind string
	limit       int
}

// readLimit is how long reading the record may take.
const readLimit = 5 * time.Minute

// historyShown is what history prints.
type historyShown struct {
	Since   time.Time      `json:"since"`
	Entries []record.Entry `json:"entries"`
	More    int            `json:"more,omitempty"` // that --limit leaves out
	Reach   record.Reach   `json:"reach"`
}

func (a *app) historyCommand() *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use: "history", Args: noArgs,
		Short: "Show what happened: preemptions, restores, rooms and remediations",
		Long: "Show what happened, newest first: rounds that turned VMs off, restores, rooms that were made and remediations, with what\n" +
			"caused each and what became of it. Rounds that are under way are shown too. It reads what Temporal keeps, and says\n" +
			"how far that reaches. It needs no worker.\n\n" + exitStatus("no such VM or cluster", ""),
		Example: "  # last night\n  preemptctl history --since 12h\n  # what happened to web-1 this month?\n  preemptctl history --vm web-1 --since 30d\n" +
			"  preemptctl history --cluster cluster-a --kind round --since 2026-11-01 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.history(cmd, f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	f.register(cmd, "24h", "")
	flags.StringVar(&f.until, "until", "", "only what began before: the same (default: now)")
	flags.StringVar(&f.kind, "kind", "", "only of one kind: "+strings.Join(kindWords(), ", "))
	flags.IntVar(&f.limit, "limit", 50, "most entries listed")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindWords(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func kindWords() (words []string) {
	for _, k := range record.Kinds() {
		words = append(words, string(k))
	}
	return words
}

func (f historyFlags) filter(now time.Time) (record.Filter, error) {
	out, err := f.filterFlags.filter(now)
	if err != nil {
		return out, err
	}
	out.Kind = record.Kind(f.kind)
	if f.until != "" {
		if out.Until, err = since("until", f.until, now); err != nil {
			return out, err
		}
	}
	switch {
	case f.limit < 1 || f.limit > maxList:
		return out, usagef("--limit %d is not within 1 to %d", f.limit, maxList)
	case !out.Until.IsZero() && !out.Since.Before(out.Until):
		return out, usagef("--until is not after --since")
	}
	if f.kind != "" {
		err = oneOf("kind", f.kind, kindWords())
	}
	return out, err
}

// record reads the record of the task queue.
func (s *session) record() *record.Reader {
	return &record.Reader{Client: s.Client, Namespace: s.app.target.namespace, TaskQueue: s.app.target.queue, Clock: s.app.Now}
}

// read reads what has ended since a time, and says how far it has come where that takes longer than a second.
func (a *app) read(ctx context.Context, r *record.Reader, f record.Filter) ([]record.Entry, record.Reach, error) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for t := time.NewTicker(time.Second); ; {
			select {
			case <-stop:
				t.Stop()
				return
			case <-t.C:
				_, reach := r.Known(f)
				a.notice("reading: %s so far, back to %s", shown.Count(reach.Entries, "entry"), cmp.Or(timestamp(reach.Since), "now"))
			}
		}
	}()
	entries, reach, err := r.History(ctx, f)
	close(stop)
	<-stopped // its lines come before what follows
	if err != nil && ctx.Err() == nil && reach.Entries > 0 {
		a.notice("Warning: not all could be read: %s", err)
		err = nil
	}
	return entries, reach, err
}

// warnReach says where Temporal keeps less than what was asked for.
func (a *app) warnReach(r record.Reach, since time.Time) {
	switch {
	case !r.Complete:
		a.notice("Warning: this is not all: %s", cmp.Or(r.Cut, "older work was not read"))
	case r.Retention > 0 && since.Before(a.Now().Add(-r.Retention-time.Hour)): // as long as it is kept is not longer
		a.notice("Temporal keeps what has ended for %s: nothing older is shown. To keep it longer: temporal operator namespace update --namespace %s --retention 90d",
			shown.Count(int(r.Retention/(24*time.Hour)), "day"), a.target.namespace)
	}
	if r.Unread > 0 {
		a.notice("Warning: the results of %s could not be read", shown.Count(r.Unread, "entry"))
	}
}

func (a *app) history(cmd *cobra.Command, f historyFlags) error {
	filter, err := f.filter(a.Now())
	if err != nil {
		return err
	}
	return a.withSession(cmd, readLimit, func(ctx context.Context, s *session) error {
		entries, reach, err := a.chosen(ctx, s, &filter)
		if err != nil {
			return err
		}
		out := historyShown{Since: filter.Since, Entries: entries[:min(len(entries), f.limit)], More: max(0, len(entries)-f.limit), Reach: reach}
		a.warnReach(reach, filter.Since)
		return a.show(view{
			value: out, msg: "history", attrs: []any{"history", out},
			table: func(t *table) { historyTable(t, out) },
		})
	})
}

func historyTable(t *table, h historyShown) {
	if len(h.Entries) == 0 {
		t.row("nothing happened since", timestamp(h.Since))
		return
	}
	t.section("STARTED", "TOOK", "KIND", "STATE", "CAUSE", "CLUSTER", "VMS", "ID", "REASON").spare("TOOK", "REASON")
	for _, e := range h.Entries {
		took := "under way"
		if !e.Open {
			took = brief(e.EndedAt.Sub(e.StartedAt))
		}
		t.row(timestamp(e.StartedAt), took, string(e.Kind), e.State, cmp.Or(e.Alarm, e.By, "by hand"), orDash(cmp.Or(e.ClusterName, e.ScopeName, e.Scope.Value)),
			orDash(vmWords(e)), e.ID, orDash(e.Reason))
	}
	if h.More > 0 {
		t.section()
		t.row("and", fmt.Sprintf("%d more: --limit", h.More))
	}
}

// brief writes how long something took, in seconds.
func brief(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// vmWords says what became of the VMs of an entry.
func vmWords(e record.Entry) string {
	counts := map[record.Done]int{}
	for _, v := range e.VMs {
		counts[v.Done]++
	}
	var parts []string
	for _, d := range []record.Done{record.TurnedOff, record.Throttled, record.Returned, record.Remedied, record.Waiting, record.Spared, record.LeftOff, record.FoundOn, record.FailedToDo, record.Considered} {
		if n := counts[d]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(d), "_", " ")))
		}
	}
	return strings.Join(parts, ", ")
}
