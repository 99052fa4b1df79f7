package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// Limits on how late a run may start, and on the jitter.
const (
	leastCatchUp = 10 * time.Second // Temporal's minimum
	mostCatchUp  = 24 * time.Hour
	mostJitter   = 24 * time.Hour
	// leastRun is the least time after which a run ends that no worker has taken. A run that was due in the night
	// must not happen when a worker starts again in the morning. A round that takes longer continues without its run.
	leastRun = time.Hour
	// reconcileRun is leastRun for a reconciliation, which ends with its run and takes long if there are many VMs.
	reconcileRun = 6 * time.Hour

	maxNote   = 500
	nextShown = 5
)

// scheduleFlags are the flags of schedule create.
type scheduleFlags struct {
	whenFlags
	askFlags
	where           whereFlags
	overlap         string
	catchUp, jitter time.Duration
	note            string
	paused, dryRun  bool
	reconcile       bool
}

// created is what schedule create prints.
type created struct {
	scheduled
	DryRun        bool  `json:"dryRun,omitempty"`
	WorkerPolling *bool `json:"workerPolling,omitempty"` // a dry run does not ask
}

func (a *app) scheduleCreateCommand() *cobra.Command {
	var f scheduleFlags
	var meanings strings.Builder
	for _, o := range overlapPolicies {
		fmt.Fprintf(&meanings, "  %-12s  %s\n", o.word, o.means)
	}
	cmd := &cobra.Command{
		Use: "create NAME", Args: oneName,
		Short: "Create a schedule",
		Long: "Create a schedule. At each of its times it preempts VMs that carry a tag, in the whole vCenter of the worker or in\n" +
			"one --cluster; or with --reconcile it applies to VMs that are off the settings that their tags ask for. Give the times\n" +
			"by --cron, --at or --every. In --cron a day must match both day fields. A time in the hour that a time zone skips in\n" +
			"spring is left out on that day. A time in the hour that it repeats in autumn comes once.\n\n" +
			"With --headroom a run looks whether what the policy's headroom says is free in the cluster. Only what it lacks goes.\n" +
			"While it is there nobody goes, and if the policy restores, those who went come back as far as it stays there.\n\n" +
			"--overlap says what happens to a run that is due while another is under way:\n\n" + meanings.String() + "\n" +
			"A run that starts right after a run that preempted VMs is refused because of its policy's cooldown.\n\n" +
			"If a run could not start in time, because Temporal was away, it starts within --catch-up, and is left out after\n" +
			"that. If no worker takes a run within an hour, or within --catch-up if that is longer, the run ends and does\n" +
			"nothing. For a reconciliation this takes six hours.\n\n" +
			exitCodes("", "no such tag, cluster or policy, if a worker polls", "there is a schedule of that name"),
		Example: "  # every night, at ten by the clock of Berlin\n" +
			"  preemptctl schedule create nightly --at 22:00 --time-zone Europe/Berlin --tag spot --criticality MEDIUM\n" +
			"  # when would it run?\n" +
			"  preemptctl schedule create weekdays --cron \"30 18 * * MON-FRI\" --time-zone America/New_York --dry-run\n" +
			"  # every six hours, starting at four\n" +
			"  preemptctl schedule create six-hourly --every 6h --at 04:00 --overlap cancel-other --paused\n" +
			"  # every ten minutes, see that what the policy's headroom says is free in cluster-a\n" +
			"  preemptctl schedule create headroom-a --every 10m --cluster cluster-a --headroom --policy headroom  # exit code 3 where the file has none\n" +
			"  # every night, make up for power-offs that were missed\n" +
			"  preemptctl schedule create reconcile --reconcile --cron \"0 3 * * *\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"tag", "criticality", "reply-to", "policy", "cluster", "headroom"} {
				if f.reconcile && cmd.Flags().Changed(name) {
					return usagef("--%s is for a preemption, and --reconcile preempts nothing: leave one of them out", name)
				}
			}
			return a.scheduleCreate(cmd, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	f.whenFlags.register(cmd)
	f.askFlags.register(cmd)
	clusterFlag(cmd, &f.where.cluster, "only VMs of this cluster go", "wherever they run")
	headroomFlag(cmd, &f.where.headroom)
	flags.BoolVar(&f.reconcile, "reconcile", false, "apply the settings of tags to VMs that are off, instead of a preemption")
	flags.StringVar(&f.overlap, "overlap", overlapPolicies[0].word, "what to do with a run that is due while one is under way: "+strings.Join(overlapWords(), ", "))
	flags.DurationVar(&f.catchUp, "catch-up", 10*time.Minute, "how late a run may start, 10s to 24h; later ones are left out")
	flags.DurationVar(&f.jitter, "jitter", 0, "start each run at random up to this much later, at most 24h")
	flags.StringVar(&f.note, "note", "", "what the schedule is for; it is kept with the schedule")
	flags.BoolVar(&f.paused, "paused", false, "create it paused: it starts nothing until it is resumed")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be created, and when it would run; connects to nothing")
	_ = cmd.RegisterFlagCompletionFunc("overlap", cobra.FixedCompletions(overlapWords(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// check validates the flags other than the times and the request, and returns the overlap policy.
func (f scheduleFlags) check() (overlap, error) {
	switch {
	case f.catchUp < leastCatchUp || f.catchUp > mostCatchUp:
		return overlap{}, usagef("--catch-up %s is not within %s to %s", f.catchUp, span(leastCatchUp), span(mostCatchUp))
	case f.jitter < 0 || f.jitter > mostJitter:
		return overlap{}, usagef("--jitter %s is not within 0s to %s", f.jitter, span(mostJitter))
	case len(f.note) > maxNote:
		return overlap{}, usagef("--note is %d bytes long: at most %d are taken", len(f.note), maxNote)
	}
	for _, o := range overlapPolicies {
		if o.word == f.overlap {
			return o, nil
		}
	}
	return overlap{}, usagef("--overlap %q is not one of %s", f.overlap, strings.Join(overlapWords(), ", "))
}

func (a *app) scheduleCreate(cmd *cobra.Command, name string, f scheduleFlags) error {
	opts, next, err := a.scheduleOptions(name, f)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.showCreated(created{scheduled: planned(opts, next), DryRun: true})
	}
	return a.withSession(cmd, quick+2*namesLimit, func(ctx context.Context, s *session) error {
		polled := s.polledLater(ctx)
		if !f.reconcile {
			if err := a.known(ctx, s, preemptapi.NamesInput{Tag: strings.TrimSpace(f.tag), Policy: f.policy}); err != nil {
				return err
			}
		}
		if f.where.cluster != "" {
			ref, err := a.clusterNamed(ctx, s, f.where.cluster)
			if err != nil {
				return err
			}
			f.where.cluster = ref.Value
			if opts, next, err = a.scheduleOptions(name, f); err != nil {
				return err
			}
		}
		_, err := s.ScheduleClient().Create(ctx, opts)
		switch {
		case errors.Is(err, temporal.ErrScheduleAlreadyRunning):
			return refusedf("schedule %s exists already and stays as it is; look: %s; to replace it, delete it first: %s",
				name, a.command("schedule", "list"), a.command("schedule", "delete", name))
		case notTaken(err):
			return usagef("Temporal rejects schedule %s: %w", name, err)
		case err != nil:
			return fmt.Errorf("create schedule %s: %w", name, err)
		}
		yes := <-polled
		if err := a.showCreated(created{scheduled: planned(opts, next), WorkerPolling: &yes}); err != nil {
			return err
		}
		if !yes {
			a.notice("Warning: no worker polls task queue %s in namespace %s: runs start, and end without doing anything if there is no worker within %s",
				a.target.queue, a.target.namespace, span(f.giveUp()))
		}
		return nil
	})
}

// scheduleOptions makes the schedule of the flags, and returns when it runs next.
func (a *app) scheduleOptions(name string, f scheduleFlags) (o client.ScheduleOptions, next []time.Time, err error) {
	t, err := f.timing(a.Now())
	if err != nil {
		return o, nil, err
	}
	over, err := f.check()
	if err != nil {
		return o, nil, err
	}
	action, asks, err := a.scheduledAction(name, f)
	if err != nil {
		return o, nil, err
	}
	asks["note"] = f.note
	o = client.ScheduleOptions{
		ID: schedulePrefix + name, Spec: t.spec(f.cron, f.jitter), Overlap: over.policy, CatchupWindow: f.catchUp, Paused: f.paused,
		Note: f.note, Memo: asks, Action: action,
	}
	if f.paused && f.note == "" {
		o.Note = "created paused"
	}
	return o, t.next(a.Now(), nextShown), nil
}

// giveUp is when a run ends that no worker takes.
func (f scheduleFlags) giveUp() time.Duration {
	if f.reconcile {
		return max(f.catchUp, reconcileRun)
	}
	return max(f.catchUp, leastRun)
}

// scheduledAction is what a run starts, and its description in the schedule.
func (a *app) scheduledAction(name string, f scheduleFlags) (action *client.ScheduleWorkflowAction, asks map[string]any, err error) {
	action = &client.ScheduleWorkflowAction{ID: scheduledRunPrefix + name, TaskQueue: a.target.queue, WorkflowExecutionTimeout: f.giveUp()}
	var input any
	if f.reconcile {
		input, asks = remediateapi.ReconcileInput{By: placement.ByReconciler}, map[string]any{}
		action.Workflow, action.Memo = remediateapi.ReconcileType, reconcileMemo("scheduled")
		action.StaticSummary = line("Schedule %s: reconciles VMs that are off with their tags", name)
	} else {
		if err := f.where.check(""); err != nil {
			return nil, nil, err
		}
		req, err := a.asked(f.askFlags)
		if err != nil {
			return nil, nil, err
		}
		req.Cluster, req.Headroom = f.where.cluster, f.where.headroom
		if input, err = preemptapi.ScheduledInput(req); err != nil {
			return nil, nil, usagef("the request cannot be written as JSON: %w", err)
		}
		asks = map[string]any{"tag": req.Tag, "criticality": string(req.Criticality)}
		action.Workflow, action.Memo = preemption.WorkflowName, memo(req, "scheduled")
		action.StaticSummary = clean("Schedule " + name + ": " + summary(req))
	}
	payload, err := converter.GetDefaultDataConverter().ToPayload(input)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the request: %w", err)
	}
	action.Args = []any{payload}
	return action, asks, nil
}

// planned returns the schedule of the options.
func planned(o client.ScheduleOptions, next []time.Time) scheduled {
	d := &client.ScheduleDescription{
		Schedule: client.Schedule{
			Action: o.Action, Spec: &o.Spec, Policy: &client.SchedulePolicies{Overlap: o.Overlap, CatchupWindow: o.CatchupWindow},
			State: &client.ScheduleState{Note: o.Note, Paused: o.Paused},
		},
	}
	out, _ := scheduleOf(o.ID, d)
	out.Next = next
	out.Note, _ = o.Memo["note"].(string)
	return out
}

func (a *app) showCreated(c created) error {
	title := "created"
	if c.DryRun {
		title = "would be created"
	}
	return a.show(view{
		value: c, msg: title + " schedule", attrs: []any{"schedule", c},
		table: func(t *table) { a.createdTable(t, c, title) },
	})
}

func (a *app) createdTable(t *table, c created, title string) {
	t.row("schedule", c.Name+" ("+title+stateOfPause(c.scheduled)+")")
	t.field("note", c.Note)
	t.row("when", c.When)
	t.row("time zone", c.TimeZone)
	for _, at := range c.Next {
		t.row("runs", inZone(at, c.TimeZone))
	}
	t.field("jitter", c.Jitter)
	t.row("overlap", c.Overlap+": "+meaning(c.Overlap))
	t.row("catch-up", c.CatchUp+": a run that cannot start within it is left out; one that no worker takes up within "+c.GiveUp+" ends without doing anything")
	t.row("asks for", asksWords(c.scheduled))
	t.field("policy", c.Policy)
	t.field("reply to", c.ReplyTo)
	t.row("runs as", scheduledRunPrefix+c.Name+"-<time> on task queue "+c.Queue)
	if !c.DryRun {
		next := []string{"schedule", "list"}
		if c.Paused {
			next = []string{"schedule", "resume", c.Name}
		}
		t.row("next", a.command(next...))
	}
}

// asksWords describes what the runs of a schedule do.
func asksWords(s scheduled) string {
	if s.Reconciles {
		return "reconciliation of VMs that are off with their tags"
	}
	words := string(s.Criticality) + " preemption of VMs tagged " + s.Tag
	if s.Cluster != "" {
		words += " in cluster " + s.Cluster
	}
	if s.Headroom {
		words += ", as far as its headroom lacks"
	}
	return words
}

func stateOfPause(s scheduled) string {
	if s.Paused {
		return ", paused"
	}
	return ""
}

func meaning(word string) string {
	for _, o := range overlapPolicies {
		if o.word == word {
			return o.means
		}
	}
	return ""
}
