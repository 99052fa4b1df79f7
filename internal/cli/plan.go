package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// planLimit is how long to wait for a plan without --timeout.
const planLimit = 2 * time.Minute

// planFlags are the flags of plan.
type planFlags struct {
	requestFlags
	where     whereFlags
	room      roomFlags
	timeout   time.Duration
	failEmpty bool
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use: "plan", Args: noArgs,
		Short: "Show which VMs would be turned off, and why the others stay on",
		Long: "Show which VMs a preemption would turn off, in which order, and why each other candidate stays on. Nothing is\n" +
			"reserved, and no VM is touched. With --cluster only VMs of that cluster are candidates, as for its alarm.\n\n" +
			"With --room-for, or with --room-cpus and --room-memory, show who would have to go so that a VM fits on one host:\n" +
			"which host costs least, what each costs, and why a host cannot take it. Only VMs of a lower preemption-priority than\n" +
			"the VM's would go.\n\n" +
			exitStatus("no such tag, VM, cluster or policy", "no VM would go, with --fail-empty, or no host can have the room"),
		Example: "  preemptctl workflow plan\n  preemptctl workflow plan --tag spot --criticality HIGH -o json\n" +
			"  preemptctl workflow plan --event @alarm.json\n  preemptctl workflow plan --cluster cluster-a --headroom  # exit code 1 where the policy has none\n" +
			"  preemptctl workflow plan --room-for db-1\n" +
			"  preemptctl workflow plan --room-cpus 8 --room-memory 24GiB --cluster cluster-a",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.timeout < 0 {
				return usagef("--timeout %s is negative", f.timeout)
			}
			return a.plan(cmd, f)
		},
	}
	f.register(cmd)
	clusterFlag(cmd, &f.where.cluster, "only VMs of this cluster, or room in it", "wherever they run")
	headroomFlag(cmd, &f.where.headroom)
	f.room.register(cmd)
	cmd.Flags().DurationVar(&f.timeout, "timeout", planLimit, "how long to wait for the plan")
	cmd.Flags().BoolVar(&f.failEmpty, "fail-empty", false, "exit 4 when no VM would go")
	return cmd
}

func (a *app) plan(cmd *cobra.Command, f planFlags) error {
	room, err := f.room.room(cmd)
	if err != nil {
		return err
	}
	if err := f.where.check(f.event); err != nil {
		return err
	}
	req, err := a.request(f.requestFlags)
	if err != nil {
		return err
	}
	if req.Room = room; room != nil {
		room.Cluster, f.where.cluster = f.where.cluster, ""
	}
	return a.planOf(cmd, f, req)
}

// planOf plans a request and shows which VMs would be turned off.
func (a *app) planOf(cmd *cobra.Command, f planFlags, req preemption.WorkflowRequest) error {
	if f.timeout == 0 {
		f.timeout = planLimit
	}
	return a.withSession(cmd, f.timeout+3*namesLimit, func(ctx context.Context, s *session) error {
		polled, err := s.polled(ctx)
		if err != nil {
			return err
		}
		if !polled {
			return a.noWorker(a.startOne(noPlans))
		}
		if err := f.named(ctx, a, s, &req); err != nil {
			return err
		}
		if s.unheeded != nil {
			return s.unheeded
		}
		ctx, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		run, err := s.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: "preemption-plan-" + uuid.NewString(), TaskQueue: a.target.queue, WorkflowExecutionTimeout: f.timeout,
			StaticSummary: "Dry run: " + summary(req), Memo: memo(req, "planning"),
		}, preemptapi.PlanType, req)
		if err != nil {
			return fmt.Errorf("ask for a plan: %w", err)
		}
		var r preemptapi.RoundResult
		err = run.Get(ctx, &r)
		kind := preemptapi.KindOf(err)
		if r, err = preemptapi.ResultOf(err, r); err != nil {
			return a.notPlanned(ctx, s, run.GetID(), err)
		}
		if r.State == preemptapi.RoundFailed {
			return unplanned(r, kind)
		}
		if err := a.showPlan(r); err != nil {
			return err
		}
		switch {
		case req.VM != "":
			return evictVerdict(r, req.VM)
		case len(r.Rooms) > 0 && r.Rooms[0].Refusal != "":
			return refusedf("no room: %s", r.Rooms[0].Refusal)
		case len(r.Rooms) > 0:
			return nil
		}
		return verdict(r, f.failEmpty)
	})
}

// named looks up what a request names, and puts its clusters in by their MoRefs.
func (f planFlags) named(ctx context.Context, a *app, s *session, req *preemption.WorkflowRequest) error {
	if err := f.where.in(ctx, a, s, req); err != nil {
		return err
	}
	if err := a.known(ctx, s, namesOf(*req)); err != nil || req.Room == nil {
		return err
	}
	ref, err := a.clusterNamed(ctx, s, req.Room.Cluster)
	req.Room.Cluster = ref.Value
	return err
}

// namesOf is what a request names.
func namesOf(req preemption.WorkflowRequest) preemptapi.NamesInput {
	in := preemptapi.NamesInput{Tag: req.Tag, Policy: req.Policy}
	if req.VM != "" {
		in.VMs = append(in.VMs, req.VM)
	}
	if req.Room != nil && req.Room.For != "" {
		in.VMs = append(in.VMs, req.Room.For)
	}
	return in
}

// unplanned returns the error of a plan that failed; kind is the type of its error.
func unplanned(r preemptapi.RoundResult, kind string) error {
	if err := notThatVM(r, kind); err != nil {
		return err
	}
	return failedf("no plan: %s", r.Reason)
}

// noPlans is what follows where no worker polls.
const noPlans = "nothing can be planned until one starts"

// notPlanned explains why there is no plan, and ends a plan for which nobody waits any more.
func (a *app) notPlanned(ctx context.Context, s *session, id string, err error) error {
	if ctx.Err() != nil || timedOut(err) {
		untaken := s.untaken(ctx, id, a.startOne(noPlans))
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.CancelWorkflow(clean, id, "")
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return interruptedf("interrupted: nothing was touched")
		}
		if untaken != nil {
			return untaken
		}
		return failedf("no plan within the time given: is the worker running, and can it reach vCenter?")
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return failedf("no plan: %s", app.Message())
	}
	return failedf("no plan: %w", err)
}

func (a *app) showPlan(r preemptapi.RoundResult) error {
	return a.show(view{
		value: r, msg: "planned", attrs: []any{"plan", r},
		table: func(t *table) { planTable(t, r) },
	})
}
