package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Limits of remediations by hand.
const (
	mostMaxCPUs     = 1024
	mostMaxMemoryMB = 64 << 20
	leastTarget     = 10 // percent
	mostTarget      = 95
)

var (
	resizeModes   = []string{placement.ModeRecommend, placement.ModeTag, placement.ModeHotAdd, placement.ModeHotOrOff, placement.ModePowerCycle}
	sizings       = []string{placement.SizingSteps, placement.SizingOriginal}
	resizable     = []string{placement.CPU, placement.Memory}
	ofResizesOnly = []string{"resource", "sizing", "max"}
)

// remedyFlags say what to remedy, and how.
type remedyFlags struct {
	datastore, resource, mode, sizing string
	move                              bool
	max, targetUsage                  int
	timeout                           time.Duration
}

func (f *remedyFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.resource, "resource", "", "of a resize: only "+strings.Join(resizable, " or ")+" (default: both)")
	flags.StringVar(&f.mode, "mode", "", "for a VM without a tag of category "+placement.CategoryMode+": "+strings.Join(resizeModes, ", ")+
		" (default "+placement.ModeHotOrOff+"); a move takes "+placement.ModeRecommend+" or none")
	flags.StringVar(&f.sizing, "sizing", placement.SizingSteps, "how the next size is computed: "+strings.Join(sizings, ", "))
	flags.IntVar(&f.max, "max", 0, "with --resource: largest number of virtual CPUs, or MB of memory (default: that of the sizing)")
	flags.BoolVar(&f.move, "move", false, "move the VM to another datastore")
	flags.StringVar(&f.datastore, "datastore", "", "move VMs off this datastore: its name, inventory path or MoRef")
	flags.IntVar(&f.targetUsage, "target-usage", placement.DefaultTargetUsage, "of a move: bring the usage of the datastore below this percentage")
	for name, words := range map[string][]string{"resource": resizable, "mode": resizeModes, "sizing": sizings} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
}

// aimed returns the object that the argument, or --datastore, names.
func (f remedyFlags) aimed(cmd *cobra.Command, args []string) (t aim, err error) {
	switch named := cmd.Flags().Changed("datastore"); {
	case named && len(args) > 0:
		return t, usagef("%s takes a VM or a datastore, got both %q and --datastore", cmd.CommandPath(), args[0])
	case named:
		name := strings.TrimSpace(f.datastore)
		if t = aimAt(name); t.kind != vsphere.TypeDatastore {
			t = aim{kind: vsphere.TypeDatastore, text: name}
		}
		return t, nameCheck("--datastore", name)
	case len(args) == 0:
		return t, usagef("%s takes a VM or a datastore: name a VM, give the MoRef of a datastore, or --datastore", cmd.CommandPath())
	}
	name := strings.TrimSpace(args[0])
	return aimAt(name), nameCheck("VM", name)
}

// check validates the flags. With dryRun nothing is done.
func (f remedyFlags) check(cmd *cobra.Command, move, dryRun bool) error {
	changed := cmd.Flags().Changed
	if err := f.checkMove(changed, move); err != nil {
		return err
	}
	return f.checkResize(changed, dryRun)
}

// checkMove looks at the flags that are of a move, and at those that are not.
func (f remedyFlags) checkMove(changed func(flag string) bool, move bool) error {
	for _, name := range ofResizesOnly {
		if move && changed(name) {
			return usagef("--%s is for a resize, and this is a move", name)
		}
	}
	switch {
	case !move && changed("target-usage"):
		return usagef("--target-usage is for a move: add --move, or name a datastore")
	case move && f.mode != "" && f.mode != placement.ModeRecommend:
		return usagef("--mode %q: a move takes %s, or none", f.mode, placement.ModeRecommend)
	case f.targetUsage < leastTarget || f.targetUsage > mostTarget:
		return usagef("--target-usage %d is not within %d to %d", f.targetUsage, leastTarget, mostTarget)
	}
	return nil
}

// checkResize looks at the flags that are of a resize.
func (f remedyFlags) checkResize(changed func(flag string) bool, dryRun bool) error {
	switch {
	case changed("resource") && !slices.Contains(resizable, f.resource):
		return usagef("--resource %q is not one of %s", f.resource, strings.Join(resizable, ", "))
	case changed("mode") && !slices.Contains(resizeModes, f.mode):
		return usagef("--mode %q is not one of %s", f.mode, strings.Join(resizeModes, ", "))
	case !slices.Contains(sizings, f.sizing):
		return usagef("--sizing %q is not one of %s", f.sizing, strings.Join(sizings, ", "))
	case changed("max") && f.resource == "":
		return usagef("--max needs --resource: it is a number of virtual CPUs, or of MB")
	case !dryRun && f.mode == placement.ModePowerCycle:
		return usagef("--mode %s is for rules, which have the time window for it: use %s, and turn the VM off", f.mode, placement.ModeTag)
	}
	most := mostMaxCPUs
	if f.resource == placement.Memory {
		most = mostMaxMemoryMB
	}
	if changed("max") && (f.max < 1 || f.max > most) {
		return usagef("--max %d is not within 1 to %d", f.max, most)
	}
	return nil
}

// requests makes the requests of the flags: one for each resource, or one for a move.
func (a *app) requests(f remedyFlags, t aim, move, dryRun bool) (all []placement.Request) {
	one := placement.Request{
		Cause: placement.Cause{Event: placement.ByHand, Entity: t.ref, Time: a.Now().UTC()}, DryRun: dryRun, TaskQueue: a.target.queue,
	}
	switch {
	case t.ref.Zero():
		one.Target, one.TargetType = t.text, t.kind
	case t.kind == vsphere.TypeDatastore:
		one.Source = t.ref
	default:
		one.VM = t.ref
	}
	if move {
		one.ID, one.Kind = uuid.NewString(), placement.KindMove
		one.Move = &placement.Move{
			TargetUsage: f.targetUsage, Mode: f.mode, Cooldown: clock.Duration(placement.DefaultMoveCooldown), OverCommit: placement.DefaultOverCommit,
		}
		return []placement.Request{one}
	}
	mode := f.mode
	if mode == "" {
		mode = placement.ModeHotOrOff
	}
	for _, resource := range resizable {
		if f.resource != "" && f.resource != resource {
			continue
		}
		one.ID, one.Kind = uuid.NewString(), placement.KindResize
		one.Resize = &placement.Resize{
			Resource: resource, Mode: mode, Sizing: f.sizing, Max: f.max, Cooldown: clock.Duration(placement.DefaultCooldown),
		}
		all = append(all, one)
	}
	return all
}

func (a *app) remediationPlanCommand() *cobra.Command {
	var f remedyFlags
	cmd := &cobra.Command{
		Use: "plan {VM|DATASTORE}", Args: arguments(0, 1, "one VM or datastore"),
		Short: "Show what a remediation would do",
		Long: "Show the size that a VM would get and how, or with --move its destination. For a datastore, show which VMs would\n" +
			"be moved to which other datastore, and why the others stay. Nothing is done. VM is a MoRef, an inventory path,\n" +
			"or a name that only one VM has. DATASTORE is one too; --datastore says that none\n" +
			"but a datastore is meant.\n\n" +
			exitStatus("no such VM or datastore", ""),
		Example: "  preemptctl remediation plan web-1\n  preemptctl remediation plan vm-12 --resource memory --max 32768\n" +
			"  preemptctl remediation plan web-1 --move\n  preemptctl remediation plan --datastore vmfs-1 --target-usage 70 -o json",
		RunE: func(cmd *cobra.Command, args []string) error { return a.remediationPlan(cmd, f, args) },
	}
	f.register(cmd)
	cmd.Flags().DurationVar(&f.timeout, "timeout", planLimit, "how long to wait for the plan")
	return cmd
}

func (a *app) remediationPlan(cmd *cobra.Command, f remedyFlags, args []string) error {
	t, err := f.aimed(cmd, args)
	if err != nil {
		return err
	}
	move := f.move || t.kind == vsphere.TypeDatastore
	if err := f.check(cmd, move, true); err != nil {
		return err
	}
	if f.timeout <= 0 {
		return usagef("--timeout %s is not above zero", f.timeout)
	}
	return a.withSession(cmd, f.timeout+namesLimit, func(ctx context.Context, s *session) error {
		t, err := a.aimFound(ctx, s, t)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		move := move || t.kind == vsphere.TypeDatastore
		if err := f.check(cmd, move, true); err != nil {
			return err
		}
		requests := a.requests(f, t, move, true)
		kind := requests[0].Kind
		run, err := s.put(ctx, question{
			id: remediationPlanPrefix + uuid.NewString(), kind: placement.WorkflowType(kind), summary: line("Dry run: %s of %s", kind, t.words()),
			input: remediateapi.Input{Requests: requests}, memo: remedyMemo(kind, t), limit: f.timeout, unpolled: "nothing can be planned until one starts",
		})
		if err != nil {
			return err
		}
		var r remediateapi.Report
		ended := run.Get(ctx, &r)
		if named := notNamed(ended); named != nil {
			return named
		}
		if r, err = remediateapi.ReportOf(ended, r); err != nil {
			return s.unanswered(ctx, run.GetID(), "plan", "nothing was touched", err)
		}
		if err := a.showReport(r); err != nil {
			return err
		}
		if err := verdictOf(r.Decisions); exitCodeOf(err) == program.Failed {
			return err
		}
		return nil // "nothing to do" is a valid answer here
	})
}

// showReport prints a remediation's decisions.
func (a *app) showReport(r remediateapi.Report) error {
	r.Decisions = nonNil(r.Decisions)
	return a.show(view{
		value: r, msg: "remediation", attrs: []any{"remediation", r},
		table: func(t *table) {
			for _, d := range r.Decisions {
				decisionTable(t, d)
			}
		},
	})
}
