package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
)

// Bounds of replay.
const (
	replayLimit = 5 * time.Minute // for reading all histories
	maxReplay   = 1000            // rounds
)

// replayFlags are the flags of policy replay.
type replayFlags struct {
	policy        string
	since         time.Duration
	limit         int
	failDifferent bool
}

// replay is what policy replay prints.
type replay struct {
	File      string          `json:"file"`
	Since     time.Time       `json:"since"`
	Different int             `json:"different"` // rounds that would have chosen differently
	Then      int             `json:"then"`      // VMs chosen, in all rounds
	Now       int             `json:"now"`
	More      bool            `json:"more,omitempty"` // there are more rounds than --limit
	Rounds    []replayedRound `json:"rounds"`         // newest first
	Skipped   []skippedRound  `json:"skipped"`        // cannot be replayed
}

// skippedRound is a round that cannot be replayed, and why.
type skippedRound struct {
	RoundID   string    `json:"roundID"`
	RunID     string    `json:"runID"`
	StartedAt time.Time `json:"startedAt"`
	Why       string    `json:"why"`
}

func (a *app) policyReplayCommand() *cobra.Command {
	f := replayFlags{}
	cmd := &cobra.Command{
		Use: "replay FILE", Args: arguments(1, 1, "one file"),
		Short: "Try a policy on past rounds",
		Long: "Try the policies of a configuration file on the recorded data of past rounds, and show which VMs they would have\n" +
			"chosen instead, and why. Each round is tried with the policy of the same name; with --policy all rounds are\n" +
			"tried with that one. Only the choice is tried: the scope, and what an alarm asks for, stay as they were. Each\n" +
			"round is tried by itself, as if the rounds before it had gone as they did. Nothing is touched.\n\n" +
			"Rounds without recorded data are counted and named: those of an earlier version, and those with too many\n" +
			"candidates.\n\n" +
			exitCodes(", also when the file is not valid", "no such file or policy", "with --fail-different: a round would have chosen differently"),
		Example: "  preemptctl policy replay preemption.yaml\n" +
			"  # another policy of the file, on the last week\n  preemptctl policy replay preemption.yaml --policy careful --since 168h --limit 200\n" +
			"  # in a check of a changed file: exit code 4 if it would choose other VMs\n  preemptctl policy replay preemption.yaml --fail-different -o json",
		RunE: func(cmd *cobra.Command, args []string) error { return a.policyReplay(cmd, args[0], f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.policy, "policy", "", "policy of the file to try on all rounds (default: each round's own name)")
	flags.DurationVar(&f.since, "since", 24*time.Hour, "how far back to look")
	flags.IntVar(&f.limit, "limit", 50, "most rounds tried")
	flags.BoolVar(&f.failDifferent, "fail-different", false, "exit 4 when a round would have chosen differently")
	return cmd
}

func (a *app) policyReplay(cmd *cobra.Command, name string, f replayFlags) error {
	switch {
	case f.since <= 0:
		return usagef("--since %s is not above zero", f.since)
	case f.limit < 1 || f.limit > maxReplay:
		return usagef("--limit %d is not within 1 to %d", f.limit, maxReplay)
	}
	file, err := a.validConfig(name)
	if err != nil {
		return err
	}
	if _, ok := file.Policies[f.policy]; f.policy != "" && !ok {
		return noPolicy(name, f.policy, file)
	}
	return a.withSession(cmd, replayLimit, func(ctx context.Context, s *session) error {
		out := replay{File: name, Since: a.Now().Add(-f.since).UTC(), Rounds: []replayedRound{}, Skipped: []skippedRound{}}
		if err := out.run(ctx, s, file, f); err != nil {
			return err
		}
		err := a.show(view{
			value: out, msg: "replayed", attrs: []any{"replay", out},
			table: func(t *table) { replayTable(t, out) },
		})
		if err == nil && f.failDifferent && out.Different > 0 {
			return refusedf("%d of %d rounds would have chosen differently", out.Different, len(out.Rounds))
		}
		return err
	})
}

// run replays the rounds, newest first.
func (out *replay) run(ctx context.Context, s *session, file config.File, f replayFlags) error {
	query := fmt.Sprintf("WorkflowType = '%s' AND TaskQueue = '%s' AND StartTime >= '%s'",
		preemptapi.RoundType, quoted(s.app.target.queue), out.Since.Format(time.RFC3339Nano))
	found, more, err := s.find(ctx, query, f.limit)
	if err != nil {
		return err
	}
	out.More = more
	for _, w := range found {
		d, why, err := s.decided(ctx, w)
		if err != nil {
			return err
		}
		name := cmp.Or(f.policy, d.demand.PolicyName)
		p, ok := file.Policies[name]
		if why == "" && !ok {
			why = fmt.Sprintf("the file has no policy %q: name another with --policy", name)
		}
		if why != "" {
			out.Skipped = append(out.Skipped, skippedRound{w.WorkflowID, w.RunID, w.StartedAt, why})
			continue
		}
		r := d.replayed(w, name, p)
		out.Rounds = append(out.Rounds, r)
		out.Then += len(r.Then)
		out.Now += len(r.Now)
		if r.Different {
			out.Different++
		}
	}
	return nil
}

// quoted escapes a text for a query of Temporal's list.
func quoted(s string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)
}

func replayTable(t *table, r replay) {
	t.row("file", r.File)
	t.row("since", timestamp(r.Since))
	t.row("rounds", fmt.Sprintf("%d tried, %d would have chosen differently", len(r.Rounds), r.Different))
	t.row("VMs", fmt.Sprintf("%d chosen then, %d now", r.Then, r.Now))
	t.row("not tried", strconv.Itoa(len(r.Skipped)))
	if r.More {
		t.row("more", "there are more rounds: raise --limit")
	}
	if len(r.Rounds) > 0 {
		t.section("ROUND", "TIME", "ALARM", "SCOPE", "POLICY", "THEN", "NOW", "NEW", "STAYING", "CPU AFTER", "MEMORY AFTER").spare("POLICY", "SCOPE")
	}
	for _, round := range r.Rounds {
		cpu, memory := "-", "-"
		if len(round.Usage) > 0 {
			cpu, memory = loadAfter(round.Usage[0].CPU, megahertz), loadAfter(round.Usage[0].Memory, megabytes)
		}
		now := strconv.Itoa(len(round.Now))
		if round.Partial {
			now += " (in part)"
		}
		t.row(round.RoundID, timestamp(round.Time), orDash(round.Alarm), replayScope(round), round.PolicyNow.Name,
			strconv.Itoa(len(round.Then)), now, strconv.Itoa(len(round.New)), strconv.Itoa(len(round.Staying)), cpu, memory)
	}
	differenceTable(t, r)
	if len(r.Skipped) > 0 {
		t.section("NOT TRIED", "STARTED", "WHY")
		for _, s := range r.Skipped {
			t.row(s.RoundID, timestamp(s.StartedAt), s.Why)
		}
	}
}

// differenceTable shows the VMs that only one of the two plans chooses.
func differenceTable(t *table, r replay) {
	if r.Different == 0 {
		return
	}
	t.section("DIFFERENT IN", "VM", "MOREF", "NOW", "WHY")
	for _, round := range r.Rounds {
		for _, v := range round.New {
			t.row(round.RoundID, orDash(v.Name), v.Ref.Value, "goes", orDash(v.Why))
		}
		for _, s := range round.Staying {
			t.row(round.RoundID, orDash(s.Name), s.Ref.Value, "stays", orDash(s.Explanation().Words()))
		}
	}
}

func replayScope(r replayedRound) string {
	if r.VM != "" {
		return "VM " + r.VM
	}
	return cmp.Or(scopeWords(r.ScopeName, r.Scope), "everything tagged")
}
