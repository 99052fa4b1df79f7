package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/judge"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// explainFlags are the flags of explain.
type explainFlags struct {
	askFlags
	where        whereFlags
	alarm, since string
}

// explained is what explain prints.
type explained struct {
	judge.Verdict
	Record *record.VMRecord `json:"record,omitempty"` // nil: nothing is known of it
	Reach  record.Reach     `json:"reach"`
}

func (a *app) explainCommand() *cobra.Command {
	f := explainFlags{}
	cmd := &cobra.Command{
		Use: "explain VM", Args: oneVM,
		Short: "Would this VM be preempted, and why; and what happened to it",
		Long: "Say whether a VM would be preempted now, and why or why not; and what happened to it. A plan is made for the whole\n" +
			"vCenter, for one --cluster, or as for the last round of an --alarm, with its tag, criticality, policy and cluster.\n" +
			"Nothing is reserved, and no VM is touched.\n\n" + exitStatus("no such VM, cluster, alarm, tag or policy", ""),
		Example: "  preemptctl explain web-1\n  preemptctl explain web-1 --alarm cluster-cpu-above-80\n" +
			"  preemptctl explain web-1 --cluster cluster-a --criticality HIGH\n  preemptctl explain web-1 -o json",
		RunE: func(cmd *cobra.Command, args []string) error { return a.explainVM(cmd, strings.TrimSpace(args[0]), f) },
	}
	cmd.Flags().SortFlags = false
	f.askFlags.register(cmd)
	clusterFlag(cmd, &f.where.cluster, "plan for this cluster", "wherever VMs run")
	headroomFlag(cmd, &f.where.headroom)
	cmd.Flags().StringVar(&f.alarm, "alarm", "", "plan as for the last round of this alarm")
	cmd.Flags().StringVar(&f.since, "since", "30d", "how far back to look for what happened: a duration such as 12h or 30d, a day or a time")
	return cmd
}

func (a *app) explainVM(cmd *cobra.Command, vm string, f explainFlags) error {
	for _, name := range []string{"tag", "criticality", "policy", "cluster", "headroom"} {
		if f.alarm != "" && cmd.Flags().Changed(name) {
			return usagef("--alarm takes the --%s of the alarm's last round: leave one of them out", name)
		}
	}
	from, err := since("since", f.since, a.Now())
	if err != nil {
		return err
	}
	if err := f.where.check(""); err != nil {
		return err
	}
	req, err := a.request(requestFlags{askFlags: f.askFlags})
	if err != nil {
		return err
	}
	return a.withSession(cmd, planLimit, func(ctx context.Context, s *session) error {
		if err := s.mustPoll(ctx, a.startOne(noPlans+"; what happened shows "+a.command("history", "--vm", vm))); err != nil {
			return err
		}
		if err := a.known(ctx, s, preemptapi.NamesInput{Tag: req.Tag, Policy: req.Policy}); err != nil {
			return err
		}
		if s.unheeded != nil {
			return s.unheeded
		}
		ref, err := a.vmNamed(ctx, s, vm)
		if err != nil {
			return err
		}
		rec := s.record()
		entries, reach, err := a.read(ctx, rec, record.Filter{Since: from})
		if err != nil {
			return err
		}
		if err := f.asks(ctx, a, s, &req, entries, ref); err != nil {
			return err
		}
		out := explained{}
		if out.Verdict, err = judge.On(ctx, ref, req, s.planFor); err != nil {
			return err
		}
		if known, _, ok := rec.KnownVM(ref.String(), from); ok {
			out.Record, out.Name = &known, cmp.Or(out.Name, known.Name)
		}
		out.Reach = reach
		a.warnPaused(ctx, s)
		a.warnReach(reach, from)
		return a.show(view{
			value: out, msg: "explained VM", attrs: []any{"vm", out},
			table: func(t *table) { a.explainTable(t, out) },
		})
	})
}

// asks completes a request: for a cluster, or as an alarm asked the last time.
func (f explainFlags) asks(ctx context.Context, a *app, s *session, req *preemption.WorkflowRequest, entries []record.Entry, ref vsphere.Ref) error {
	if f.alarm != "" {
		return asLastRound(req, entries, f.alarm, ref)
	}
	return f.where.in(ctx, a, s, req)
}

// asLastRound has a request ask as the last round of an alarm did: of those, the last in a cluster in which the VM was acted on,
// if there is one.
func asLastRound(req *preemption.WorkflowRequest, entries []record.Entry, alarm string, vm vsphere.Ref) error {
	last, _ := judge.LastRound(entries, alarm, vm)
	if last == nil {
		return notFoundf("the record has no round of alarm %q: give --cluster and --criticality instead", alarm)
	}
	judge.AskAs(req, last)
	return nil
}

// planFor has a worker plan a request, and returns the plan.
func (s *session) planFor(ctx context.Context, req preemption.WorkflowRequest) (r preemptapi.RoundResult, err error) {
	req.ID = uuid.NewString()
	run, err := s.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "preemption-plan-" + req.ID, TaskQueue: s.app.target.queue, WorkflowExecutionTimeout: planLimit,
		StaticSummary: "Dry run: " + summary(req), Memo: memo(req, "planning"),
	}, preemptapi.PlanType, req)
	if err != nil {
		return r, fmt.Errorf("ask for a plan: %w", err)
	}
	err = run.Get(ctx, &r)
	kind := preemptapi.KindOf(err)
	if r, err = preemptapi.ResultOf(err, r); err != nil {
		return r, s.app.notPlanned(ctx, s, run.GetID(), err)
	}
	if r.State == preemptapi.RoundFailed {
		return r, unplanned(r, kind)
	}
	return r, nil
}

// pastShown is how many of the last things that happened to a VM are listed.
const pastShown = 10

func (a *app) explainTable(t *table, x explained) {
	t.row("VM", vmName(x.Name, x.VM))
	t.row("now", x.Words)
	t.row("planned for", x.Criteria+", "+cmp.Or(x.Cluster, "everything tagged"))
	rec := x.Record
	if rec == nil {
		t.row("happened", "nothing that is kept")
		usageTable(t, x.Usage)
		return
	}
	if len(rec.Groups) > 0 {
		t.row("groups", strings.Join(rec.Groups, ", "))
	}
	if rec.Off != nil {
		t.row("off since", timestamp(rec.Off.Since)+", by "+cmp.Or(rec.Off.Alarm, rec.Off.By, "a person"))
	}
	if back, ok := backOf(*rec); ok {
		t.row("back", back.Words)
	}
	var down time.Duration
	for _, d := range rec.Downs {
		if until := d.Until; !d.Unknown && !d.Throttled {
			if until.IsZero() {
				until = a.Now()
			}
			down += until.Sub(d.Since)
		}
	}
	t.row("down", fmt.Sprintf("%s in all, %d times", brief(down), len(rec.Downs)))
	usageTable(t, x.Usage)
	t.section("WHEN", "WHAT", "BECAME", "WHY", "CAUSE", "ID").spare("CAUSE", "ID")
	for _, p := range rec.Past[:min(len(rec.Past), pastShown)] {
		t.row(timestamp(p.At), string(p.Entry.Kind), p.VM.Words, orDash(cmp.Or(p.VM.Reason, p.VM.Why)), cmp.Or(p.Entry.Alarm, p.Entry.By, "by hand"), p.Entry.ID)
	}
}
