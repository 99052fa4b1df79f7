package cli

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// offFlags are the flags of off.
type offFlags struct{ since, cluster string }

// offVM is a VM that is off because of us, and what stands between it and its return.
type offVM struct {
	record.Off
	Back string `json:"back"` // when it comes back, in words
}

func (a *app) offCommand() *cobra.Command {
	var f offFlags
	cmd := &cobra.Command{
		Use: "off", Args: noArgs,
		Short: "Show which VMs are off because of us, and when they come back",
		Long: "Show which VMs are off, or throttled, because of us: since when, by which alarm or request, and when they come back. It\n" +
			"reads what Temporal keeps: what somebody did to a VM since then in vCenter shows when a restore looks at it, as\n" +
			"preemptctl restore --dry-run does at once.\n\n" + exitStatus("no such cluster", ""),
		Example: "  preemptctl off\n  preemptctl off --cluster cluster-a -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := since("since", f.since, a.Now())
			if err != nil {
				return err
			}
			return a.withSession(cmd, readLimit, func(ctx context.Context, s *session) error { return a.off(ctx, s, f, from) })
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.cluster, "cluster", "", "only in this cluster: its name, inventory path or MoRef")
	cmd.Flags().StringVar(&f.since, "since", "30d", "only those that went since: a duration such as 12h or 30d, a day or a time")
	return cmd
}

func (a *app) off(ctx context.Context, s *session, f offFlags, from time.Time) error {
	r := s.record()
	_, reach, err := a.read(ctx, r, record.Filter{Since: from})
	if err != nil {
		return err
	}
	now, err := r.Now(ctx)
	if err != nil {
		return err
	}
	if f.cluster, err = a.offCluster(ctx, s, r, f.cluster, from); err != nil {
		return err
	}
	a.warnPaused(ctx, s)
	a.warnReach(reach, from)
	list := []offVM{}
	for _, o := range now.Off {
		if f.cluster == "" || o.Cluster.Value == f.cluster || o.Cluster.String() == f.cluster || strings.EqualFold(o.ClusterName, f.cluster) {
			list = append(list, offVM{Off: o, Back: a.comesBack(o, now)})
		}
	}
	return a.show(view{
		value: list, msg: "VMs that are off because of us", attrs: []any{"vms", list},
		table: func(t *table) {
			if len(list) == 0 {
				t.row("off because of us", "no VM")
				return
			}
			t.section("VM", "MOREF", "IS", "SINCE", "FOR", "CAUSE", "CLUSTER", "ROUND", "COMES BACK").spare("ROUND", "MOREF", "FOR")
			for _, o := range list {
				is := "off"
				if o.Throttled {
					is = "throttled"
				}
				t.row(orDash(o.Name), o.VM.Value, is, timestamp(o.Since), brief(a.Now().Sub(o.Since)), cmp.Or(o.Alarm, o.By, "by hand"),
					orDash(cmp.Or(o.ClusterName, o.Cluster.Value)), o.RoundID, o.Back)
			}
		},
	})
}

// offCluster is the cluster that was named, as the record or else vCenter knows it.
func (a *app) offCluster(ctx context.Context, s *session, r *record.Reader, named string, from time.Time) (string, error) {
	known, _ := r.Known(record.Filter{Since: from})
	f := record.Filter{Cluster: strings.TrimSpace(named)}
	err := a.place(ctx, s, &f, known)
	return f.Cluster, err
}

// comesBack says what stands between a VM and its return.
func (a *app) comesBack(o record.Off, now record.Now) string {
	for _, e := range now.Open {
		if e.Kind == record.Restore && covers(e.Scope, o.Cluster) {
			return strings.TrimSpace("restore " + e.ID + " is " + e.State + ": " + cmp.Or(o.Why, e.Reason, "it has its turn"))
		}
	}
	for _, alarm := range now.Ledger.Alarms {
		if ref, _ := vsphere.ParseRef(alarm.Scope); alarm.Alarm != "" && covers(ref, o.Cluster) {
			return "when alarm " + alarm.Alarm + " has fallen, if its policy restores"
		}
	}
	if o.Why != "" {
		return "it stays off: " + o.Why
	}
	return "nothing brings it back by itself: " + a.command("restore", o.VM.String())
}

// covers reports whether a scope includes a cluster; either may be unknown.
func covers(scope, cluster vsphere.Ref) bool {
	return scope.Zero() || cluster.Zero() || scope == cluster || scope.Type != vsphere.TypeCluster
}
