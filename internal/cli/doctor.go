package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

// shortRetention is the least recommended retention. With less, what happened in the last month cannot be shown.
const shortRetention = 30 * 24 * time.Hour

// diagnosis is what doctor prints.
type diagnosis struct {
	Address   string            `json:"address"`
	Namespace string            `json:"namespace"`
	TaskQueue string            `json:"taskQueue"`
	Worker    string            `json:"worker,omitempty"` // that checked
	Version   string            `json:"version,omitempty"`
	Checks    []doctorapi.Check `json:"checks"`
}

func (d *diagnosis) add(state doctorapi.State, name, text, remedy string) {
	d.Checks = append(d.Checks, doctorapi.Check{Name: name, State: state, Text: text, Remedy: remedy})
}

func (a *app) doctorCommand() *cobra.Command {
	var in doctorapi.Input
	cmd := &cobra.Command{
		Use: "doctor", Args: noArgs,
		Short: "Check that everything that preemption needs is there",
		Long: "Check whether Temporal answers, whether it has the namespace and the search attributes, whether a worker polls\n" +
			"the task queue, and whether every open workflow makes progress. Then that worker checks vCenter: connection,\n" +
			"certificate, login, clocks, the rules' alarms and tags, the custom attribute, and the privileges that each\n" +
			"feature needs. It also checks what only a live vCenter can answer: its API version, DRS, DPM and HA of each\n" +
			"cluster, how late power-off events are, and whether one query may ask for several objects. Last, the watch is\n" +
			"checked. Each check is one line, with a remedy if something is wrong. Privileges are checked on VMs that carry a\n" +
			"rule's tag, 100 at most.\n\n" +
			"Nothing is changed, unless --attribute-on names a VM. Then values of growing length are written into its custom\n" +
			"attribute, and removed again. The VM must not carry the attribute.\n\n" +
			"With -o json or yaml no name of a VM is printed, so that you can send the result to others. It does contain\n" +
			"names of alarms, tags, users, and hosts of Temporal and vCenter.\n\n" +
			exitCodes(", also when something is wrong; warnings are none", "no such VM", ""),
		Example: "  preemptctl doctor\n  preemptctl doctor -o json\n  preemptctl doctor --attribute-on test-vm",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd, planLimit, func(ctx context.Context, s *session) error {
				if err := a.attributeVM(ctx, s, in.AttributeVM); err != nil {
					return err
				}
				return a.doctor(ctx, cmd.Context(), s, in)
			})
		},
	}
	cmd.Flags().StringVar(&in.AttributeVM, "attribute-on", "", "try on this VM (its name, inventory path or MoRef) how long a value of the custom attribute may be")
	return cmd
}

// attributeVM refuses a VM that vCenter does not have, or has several times. That it cannot be asked shows the diagnosis.
func (a *app) attributeVM(ctx context.Context, s *session, vm string) error {
	if vm == "" {
		return nil
	}
	err := a.known(ctx, s, preemptapi.NamesInput{VMs: []string{vm}})
	if code := exitCodeOf(err); code == program.NotFound || code == program.Usage {
		return err
	}
	return nil
}

func (a *app) doctor(ctx, parent context.Context, s *session, in doctorapi.Input) error {
	d := &diagnosis{Address: a.target.address, Namespace: a.target.namespace, TaskQueue: a.target.queue}
	a.warnPaused(ctx, s)
	wrong := s.examine(ctx, d, in)
	if explained := a.explain(parent, ctx, wrong); explained != nil {
		if exitCodeOf(explained) == program.Interrupted {
			return explained
		}
		d.add(doctorapi.Failed, "Temporal", explained.Error(), "")
		d.add(doctorapi.Skipped, "the rest", "it needs Temporal", "")
	}
	if a.flags.output != formatTable {
		d.hideNames(in.AttributeVM)
	}
	err := a.show(view{
		value: d, msg: "diagnosis", attrs: []any{"checks", d.Checks, "worker", d.Worker},
		table: func(t *table) {
			for _, c := range d.Checks {
				t.row(string(c.State), c.Name, withRemedy(c.Text, c.Remedy))
			}
		},
	})
	if err = errors.Join(err, wrong); err != nil {
		return err
	}
	failed := 0
	for _, c := range d.Checks {
		if c.State == doctorapi.Failed {
			failed++
		}
	}
	if failed > 0 {
		return failedf("%d of %d checks failed", failed, len(d.Checks))
	}
	return nil
}

// examine runs the checks, first its own, then the worker's. After an error no further check is possible.
func (s *session) examine(ctx context.Context, d *diagnosis, in doctorapi.Input) error {
	a := s.app
	found, retention, err := s.lookAtNamespace(ctx)
	if err != nil {
		return err
	}
	if !found {
		return failedf("namespace %q does not exist on %s; make it: %s", d.Namespace, d.Address, a.command("setup"))
	}
	d.add(doctorapi.OK, "Temporal", "answers at "+d.Address, "")
	switch {
	case retention == 0:
		d.add(doctorapi.OK, "namespace "+d.Namespace, "its retention is not shown to us", "")
	case retention < shortRetention:
		d.add(doctorapi.Warning, "namespace "+d.Namespace, "retention "+hours(retention)+": what has ended cannot be looked at for long, and history, report and off reach no further",
			"temporal operator namespace update --namespace "+d.Namespace+" --retention 30d")
	default:
		d.add(doctorapi.OK, "namespace "+d.Namespace, "retention "+hours(retention), "")
	}
	types, err := s.attributeTypes(ctx)
	if err != nil {
		return err
	}
	for _, name := range preemptapi.SearchAttributes() {
		p := s.attributePart(name, types[name])
		switch p.State {
		case partExists:
			d.add(doctorapi.OK, p.Name, p.Text, "")
		case partMissing:
			d.add(doctorapi.Warning, p.Name, p.Text+": workflows run without", a.command("setup"))
		default:
			d.add(doctorapi.Failed, p.Name, p.Text, p.Remedy)
		}
	}
	return s.examineWorker(ctx, d, in)
}

func (s *session) examineWorker(ctx context.Context, d *diagnosis, in doctorapi.Input) error {
	polled, err := s.polled(ctx)
	if err != nil {
		return err
	}
	if !polled {
		d.add(doctorapi.Failed, "worker", fmt.Sprintf("no worker polls task queue %s in namespace %s", d.TaskQueue, d.Namespace),
			"start one, or compare its TEMPORAL_NAMESPACE and TEMPORAL_TASKQUEUE with --namespace and --queue")
		d.add(doctorapi.Skipped, "vCenter", "only a worker can check it", "")
		return nil
	}
	s.examineProgress(ctx, d)
	run, err := s.put(ctx, question{
		id: "diagnosis-" + uuid.NewString(), kind: doctorapi.Type, summary: "Looks at vCenter, its privileges and the rules",
		input: in, limit: workerLooks, unpolled: "nothing is looked at",
	})
	if err != nil {
		return err
	}
	var r doctorapi.Result
	if err := run.Get(ctx, &r); err != nil {
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return s.unanswered(ctx, run.GetID(), "diagnosis", "nothing was touched", err)
		}
		d.add(doctorapi.Failed, "worker", s.unanswered(ctx, run.GetID(), "diagnosis", "nothing was touched", err).Error(),
			"see its log; a worker of an older release cannot do it")
		d.add(doctorapi.Skipped, "vCenter", "only a worker can check it", "")
		return nil
	}
	d.Worker, d.Version = r.Worker, r.Version
	d.add(doctorapi.OK, "worker", r.Worker+" looked, of version "+r.Version, "")
	d.Checks = append(d.Checks, r.Checks...)
	return s.examineWatch(ctx, d, r.Rules)
}

// workerLooks is the time limit for the worker's checks.
const workerLooks = 80 * time.Second

func (s *session) examineWatch(ctx context.Context, d *diagnosis, rules int) error {
	a := s.app
	st, found, err := a.settledWatch(ctx, s)
	switch {
	case err != nil && exitCodeOf(err) == program.Failed && ctx.Err() == nil:
		d.add(doctorapi.Failed, "watch", err.Error(), "")
	case err != nil:
		return err
	case !found && rules == 0:
		d.add(doctorapi.OK, "watch", "none, as the worker has no rules", "")
	case !found:
		d.add(doctorapi.Failed, "watch", "no worker follows vCenter's events, although the worker has rules", a.command("watch", "start"))
	case st.State == watchFollowing:
		d.add(doctorapi.OK, "watch", "follows vCenter's events", "")
	case st.State == watchPaused:
		d.add(doctorapi.Warning, "watch", "paused since "+timestamp(st.PausedAt)+": "+orDash(st.PausedReason), a.command("watch", "start"))
	case st.State == watchStarting:
		d.add(doctorapi.Warning, "watch", st.Why, "look again")
	default:
		d.add(doctorapi.Failed, "watch", st.State+": "+st.Why, "")
	}
	return nil
}
