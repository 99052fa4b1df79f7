package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// filterFlags choose from what happened: the flags of every command that lists it.
type filterFlags struct{ since, vm, cluster, alarm, state string }

// register adds the flags. back is how far back the command looks by default, and otherwise says so where it is not a time.
func (f *filterFlags) register(cmd *cobra.Command, back, otherwise string) {
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", back, "how far back: a duration such as 12h or 30d, a day or a time"+otherwise)
	flags.StringVar(&f.vm, "vm", "", "only what concerns this VM: its name, inventory path or MoRef")
	flags.StringVar(&f.cluster, "cluster", "", "only in this cluster: its name, inventory path or MoRef; a host counts too")
	flags.StringVar(&f.alarm, "alarm", "", "only by this alarm, or by whatever else asked")
	flags.StringVar(&f.state, "state", "", "only in this state, such as completed, failed or withdrawn")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(everyState(), cobra.ShellCompDirectiveNoFileComp))
}

// filter is what the flags choose.
func (f filterFlags) filter(now time.Time) (out record.Filter, err error) {
	out = record.Filter{VM: strings.TrimSpace(f.vm), Cluster: strings.TrimSpace(f.cluster), Alarm: f.alarm, State: f.state}
	if f.since != "" {
		if out.Since, err = since("since", f.since, now); err != nil {
			return out, err
		}
	}
	if f.state != "" {
		err = oneOf("state", f.state, everyState())
	}
	return out, err
}

// reads reports whether the record must be read for what the flags choose.
func (f filterFlags) reads() bool {
	return f.vm != "" || f.cluster != "" || f.alarm != "" || f.state != ""
}

// everyState lists the states of all kinds of work, and of intakes.
func everyState() []string {
	all := append(record.States(), "requested") // of what no worker has begun
	for _, s := range preemptapi.IntakeStates() {
		all = append(all, string(s))
	}
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return slices.CompactFunc(all, strings.EqualFold)
}

// chosen reads the entries that a filter chooses. A VM or cluster that the record does not know by the name given is looked up by
// a worker, so that a path names it too, and a typing error is none of "nothing happened".
func (a *app) chosen(ctx context.Context, s *session, f *record.Filter) ([]record.Entry, record.Reach, error) {
	rec := s.record()
	entries, reach, err := a.read(ctx, rec, *f)
	if err != nil || len(entries) > 0 || f.VM == "" && f.Cluster == "" && f.Alarm == "" {
		return entries, reach, err
	}
	known, _ := rec.Known(record.Filter{Since: f.Since})
	if f.Alarm != "" {
		a.hintAlarm(f.Alarm, known)
	}
	if err := a.place(ctx, s, f, known); err != nil {
		return nil, reach, err
	}
	entries, reach = rec.Known(*f)
	return entries, reach, nil
}

// place replaces names that no entry has by the MoRefs that vCenter knows them by.
func (a *app) place(ctx context.Context, s *session, f *record.Filter, known []record.Entry) error {
	in := preemptapi.NamesInput{}
	if f.VM != "" && !isRef(f.VM) && !matched(known, record.Filter{VM: f.VM}) {
		in.VMs = []string{f.VM}
	}
	if f.Cluster != "" && !isRef(f.Cluster) && !matched(known, record.Filter{Cluster: f.Cluster}) {
		in.Place = f.Cluster
	}
	if len(in.VMs) == 0 && in.Place == "" {
		return nil
	}
	if polled, err := s.polled(ctx); err != nil {
		return err
	} else if !polled {
		a.notice("nothing that is kept names it, and only a worker can ask vCenter whether there is %s", strings.Join(append(in.VMs, in.Place), " "))
		return nil
	}
	out, err := a.lookUp(ctx, s, in)
	if err != nil {
		return whileReading(err)
	}
	if len(out.VMs) == 1 && !out.VMs[0].Zero() {
		f.VM = out.VMs[0].String()
	}
	if !out.Place.Zero() {
		f.Cluster = out.Place.String()
	}
	return nil
}

// whileReading is the error of a look-up for a command that only reads: it would start nothing anyway.
func whileReading(err error) error {
	if code := exitCodeOf(err); code == program.NotFound || code == program.Usage {
		return &exitError{code, errors.New(strings.TrimPrefix(err.Error(), startedNothing))}
	}
	return err
}

// isRef reports whether a text is a whole reference, such as VirtualMachine:vm-42.
func isRef(text string) bool {
	_, whole := vsphere.ParseRef(text)
	return whole
}

func matched(entries []record.Entry, f record.Filter) bool {
	return slices.ContainsFunc(entries, func(e record.Entry) bool { return f.Matches(e) })
}

// hintAlarm says which alarms did something, where none of the name did.
func (a *app) hintAlarm(alarm string, known []record.Entry) {
	if matched(known, record.Filter{Alarm: alarm}) {
		return
	}
	var names []string
	for _, e := range known {
		if e.Alarm != "" && !slices.Contains(names, e.Alarm) {
			names = append(names, e.Alarm)
		}
	}
	a.notice("nothing that is kept was caused by %q%s", alarm, meant(alarm, names))
}
