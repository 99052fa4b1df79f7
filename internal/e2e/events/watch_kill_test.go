package events

import (
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// TestOfAHundredAlarmsNoneIsLostOrDoubledThoughTheWorkerIsKilledTwentyTimes lets an alarm arise on each of a
// hundred hosts in twenty clusters, while the worker that watches and preempts is killed at random instants.
func TestOfAHundredAlarmsNoneIsLostOrDoubledThoughTheWorkerIsKilledTwentyTimes(t *testing.T) {
	// Not parallel: it takes all processors, and what runs beside it would be late.
	clusters, hosts, kills := sitetest.Sized(20, 5), 5, sitetest.Sized(20, 6)
	s := sitetest.Watched(t, sitetest.WithInventory(func(o *simulation.Options) {
		o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = clusters, hosts, 1, 1
	}))
	random := sitetest.Seeded(t)
	p := s.Process()
	s.Must(watch.Ensure(t.Context(), s.Temporal, s.Queue, sitetest.QuickWatch))
	s.Follows()
	pauses := make([]time.Duration, clusters*hosts)
	for i := range pauses {
		pauses[i] = time.Duration(random.IntN(800)) * time.Millisecond
	}
	var posting sync.WaitGroup
	posting.Go(func() {
		for i, pause := range pauses {
			time.Sleep(pause)
			c := s.VC.Inventory().Clusters[i%clusters]
			_, err := s.VC.PostAlarm(t.Context(), simulation.AlarmChange{
				Name: s.ID("cpu"), Entity: c.Hosts[i/clusters].Ref, From: "green", To: "red", Cluster: c.Ref,
			})
			s.Must(err)
		}
	})
	for range kills {
		time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
		p.Kill()
		p = s.Process()
	}
	posting.Wait()
	for _, c := range s.VC.Inventory().Clusters {
		id := s.Exists(s.Intake("cpu", c.Name))
		r := s.UntilWithin(3*time.Minute, id, "all its hosts are known to be in alarm and its round is over", func(r preemptapi.Response) bool {
			return len(r.Levels) == hosts && r.Round != nil && r.State != preemptapi.IntakeRunning
		})
		if r.Round.State != preemptapi.RoundCompleted {
			t.Errorf("cluster %s: round %s: %s", c.Name, r.Round.State, r.Round.Reason)
		}
	}
	var results []preemptapi.RoundResult
	for _, id := range s.Rounds() {
		results = append(results, s.Round(id))
	}
	if len(results) != clusters {
		t.Errorf("%d rounds for %d clusters in alarm", len(results), clusters)
	}
	s.Agree(results...)
	if off := s.OffIn(""); off != clusters {
		t.Errorf("%d VMs are off, want %d", off, clusters)
	}
}
