package bench

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// What each cluster in alarm has, and how many changes come in the second of many.
const (
	hostsInAlarm, vmsInAlarm = 2, 3
	changesPerCluster        = 10
)

// alarms measures many alarms at once, with several numbers of workers.
func alarms(ctx context.Context, r *run) error {
	t, done := r.table("alarms", fmt.Sprintf("alarms on %d clusters, %d VMs each", r.clusters, vmsInAlarm),
		"what happens", "workers", "rounds", "all VMs off and annotated after", "all quiet after", "rounds a second",
		"updates of the ledger", "most in one workflow task", "longest history: ledger", "of an intake", "requests to the database a round")
	defer done()
	for _, k := range r.workers {
		if err := r.alarmsWith(ctx, t, k); err != nil {
			return fmt.Errorf("%d workers: %w", k, err)
		}
	}
	return nil
}

func (r *run) alarmsWith(ctx context.Context, t *table, k int) error {
	s, err := r.newSite(ctx, simulation.Options{Clusters: r.clusters, HostsPerCluster: hostsInAlarm, VMsPerCluster: vmsInAlarm, Tagged: vmsInAlarm})
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.startFor(ctx, k, true); err != nil {
		return err
	}
	clusters := s.vc.Inventory().Clusters
	for _, all := range []struct {
		what    string
		changes int // of each cluster
	}{{"all red at once", 1}, {fmt.Sprintf("%d changes in a second", changesPerCluster*len(clusters)), changesPerCluster}} {
		began := time.Now()
		before, err := s.ledger(ctx)
		if err != nil {
			return err
		}
		requests := s.server.DatabaseRequests()
		off, quiet, err := s.flap(ctx, clusters, all.changes)
		if err != nil {
			return fmt.Errorf("%s: %w", all.what, err)
		}
		requests = s.server.DatabaseRequests() - requests
		rounds, err := s.rounds(ctx, began)
		if err != nil {
			return err
		}
		after, err := s.ledger(ctx)
		if err != nil {
			return err
		}
		longest, err := s.longestIntake(ctx, clusters)
		if err != nil {
			return err
		}
		r.say("alarms: %s, %d workers: off after %s, quiet after %s, %d rounds", all.what, k, rounded(off), rounded(quiet), rounds)
		t.row(all.what, k, rounds, rounded(off), rounded(quiet), fmt.Sprintf("%.1f", float64(rounds)/quiet.Seconds()),
			after.updates-before.updates, after.together, after.longest, longest, requests/int64(max(1, rounds)))
		if err := s.calm(ctx, clusters); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) ledger(ctx context.Context) (recorded, error) {
	return s.recordOf(ctx, ledger.WorkflowID(s.queue))
}

// longestIntake is the longest history of the clusters' intakes.
func (s *site) longestIntake(ctx context.Context, clusters []simulation.Cluster) (longest int, err error) {
	for _, c := range clusters {
		record, err := s.recordOf(ctx, s.intake(c))
		if err != nil {
			return 0, err
		}
		longest = max(longest, record.longest)
	}
	return longest, nil
}

// flap changes the alarm so many times on each cluster, on one host after the other, and leaves it red: all changes within
// a second, or at once if there is one. It measures from the first change until all VMs are off and annotated, and until
// the intakes know of all changes and no round runs.
func (s *site) flap(ctx context.Context, clusters []simulation.Cluster, changes int) (off, quiet time.Duration, err error) {
	vms := s.vc.TaggedVMs("")
	before, began, last := s.texts(vms), time.Now(), map[string]int64{}
	colours := []string{"green", "red"}
	for i := range changes * len(clusters) {
		c, n := clusters[i%len(clusters)], i/len(clusters)
		turn := n / hostsInAlarm
		if changes > 1 && !clock.Sleep(ctx, time.Until(began.Add(time.Duration(i)*time.Second/time.Duration(changes*len(clusters))))) {
			return 0, 0, ctx.Err()
		}
		ev, err := s.turn(ctx, c, n%hostsInAlarm, colours[turn%2], colours[(turn+1)%2])
		if err != nil {
			return 0, 0, err
		}
		last[c.Hosts[n%hostsInAlarm].Ref.Value+"@"+c.Ref.Value] = int64(ev.Key)
	}
	posted := time.Since(began)
	if err := s.gone(ctx, vms, before); err != nil {
		return 0, 0, err
	}
	off = time.Since(began)
	if posted > 1500*time.Millisecond {
		s.say("alarms: the simulator took %s for the changes", rounded(posted))
	}
	for _, c := range clusters {
		if err := s.until(ctx, "the intake knows of all changes", func() error { return s.knows(ctx, c, last) }); err != nil {
			return 0, 0, err
		}
	}
	return off, time.Since(began), nil
}

// knows is nil when an intake knows of the last change on each host and no round runs.
func (s *site) knows(ctx context.Context, c simulation.Cluster, last map[string]int64) error {
	r, err := s.state(ctx, s.intake(c))
	if err != nil {
		return err
	}
	known := map[int64]bool{}
	for _, l := range r.Levels {
		known[l.EventKey] = true
	}
	for _, h := range c.Hosts {
		if key, changed := last[h.Ref.Value+"@"+c.Ref.Value]; changed && !known[key] {
			return fmt.Errorf("it does not know of event %d on %s", key, h.Name)
		}
	}
	if r.State == preemptapi.IntakeRunning {
		return fmt.Errorf("its round runs")
	}
	return nil
}

// rounds counts the rounds of this site that began since then.
func (s *site) rounds(ctx context.Context, since time.Time) (int64, error) {
	time.Sleep(time.Second) // the list follows a moment later
	n, err := s.client.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = %q AND TaskQueue = %q AND StartTime >= %q", preemptapi.RoundType, s.queue, since.UTC().Format(time.RFC3339Nano)),
	})
	if err != nil {
		return 0, fmt.Errorf("count the rounds: %w", err)
	}
	return n.GetCount(), nil
}

// calm turns the alarm green on all hosts, and the VMs on.
func (s *site) calm(ctx context.Context, clusters []simulation.Cluster) error {
	for _, c := range clusters {
		for host := range c.Hosts {
			if _, err := s.turn(ctx, c, host, "red", "green"); err != nil {
				return err
			}
		}
	}
	for _, c := range clusters {
		if err := s.until(ctx, "the fall is known", func() error { return s.calmed(ctx, c) }); err != nil {
			return err
		}
	}
	return s.powerOn(s.vc.VMs())
}

func (s *site) calmed(ctx context.Context, c simulation.Cluster) error {
	r, err := s.state(ctx, s.intake(c))
	if err == nil && len(r.Levels) > 0 {
		err = fmt.Errorf("the intake knows of %v", r.Levels)
	}
	return err
}
