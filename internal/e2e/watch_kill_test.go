package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// TestOfAHundredAlarmsNoneIsLostOrDoubledThoughTheWorkerIsKilledTwentyTimes lets an alarm arise on each of a
// hundred hosts in twenty clusters, while the worker that watches and preempts is killed at random instants.
func TestOfAHundredAlarmsNoneIsLostOrDoubledThoughTheWorkerIsKilledTwentyTimes(t *testing.T) {
	t.Parallel()
	clusters, hosts, kills := sized(20, 5), 5, sized(20, 6)
	s := watched(t, withInventory(func(o *simulation.Options) {
		o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = clusters, hosts, 1, 1
	}))
	random := seeded(t)
	p := s.process()
	s.must(watch.Ensure(t.Context(), s.c, s.queue, quickWatch))
	s.follows()
	pauses := make([]time.Duration, clusters*hosts)
	for i := range pauses {
		pauses[i] = time.Duration(random.IntN(800)) * time.Millisecond
	}
	var posting sync.WaitGroup
	posting.Go(func() {
		for i, pause := range pauses {
			time.Sleep(pause)
			c := s.vc.Inventory().Clusters[i%clusters]
			_, err := s.vc.PostAlarm(t.Context(), simulation.AlarmChange{
				Name: s.id("cpu"), Entity: c.Hosts[i/clusters].Ref, From: "green", To: "red", Cluster: c.Ref,
			})
			s.must(err)
		}
	})
	for range kills {
		time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
		p.kill()
		p = s.process()
	}
	posting.Wait()
	for _, c := range s.vc.Inventory().Clusters {
		id := s.exists(s.intake("cpu", c.Name))
		r := s.untilWithin(3*time.Minute, id, "all its hosts are known to be in alarm and its round is over", func(r preemptapi.Response) bool {
			return len(r.Levels) == hosts && r.Round != nil && r.State != preemptapi.IntakeRunning
		})
		if r.Round.State != preemptapi.RoundCompleted {
			t.Errorf("cluster %s: round %s: %s", c.Name, r.Round.State, r.Round.Reason)
		}
	}
	var results []preemptapi.RoundResult
	for _, id := range s.rounds() {
		results = append(results, s.round(id))
	}
	if len(results) != clusters {
		t.Errorf("%d rounds for %d clusters in alarm", len(results), clusters)
	}
	s.agree(results...)
	if off := s.off(""); off != clusters {
		t.Errorf("%d VMs are off, want %d", off, clusters)
	}
}

// seeded returns a source of random instants, whose seed E2E_SEED may give.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("E2E_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("E2E_SEED=%d repeats the instants", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
