package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// barOfTwo is how long two workers may take of the time of one.
const barOfTwo = 0.6

// workers measures the same reclaim with several workers, which alternate.
func workers(ctx context.Context, r *run) error {
	n, d := perRound, delay{call: 20 * time.Millisecond}
	if r.quick {
		n = manyTargets
	}
	t, done := r.table("workers", fmt.Sprintf("%d VMs at %s a call, %d calls at once for each worker", n, d.call, r.calls),
		"workers", "from a request", "× one worker", "calls", "bar", "met")
	defer done()
	s, err := r.newSite(ctx, simulation.Options{Clusters: 1, HostsPerCluster: 16, VMsPerCluster: n, Tagged: n})
	if err != nil {
		return err
	}
	defer s.close()
	took, calls := map[int]samples{}, map[int]int{}
	for range r.runs {
		for _, k := range r.workers {
			if err := s.startFor(ctx, k, false); err != nil {
				return err
			}
			one, err := s.reclaimOnce(ctx, d, false)
			if err != nil {
				return err
			}
			r.say("workers: %d take %s, %d calls", k, rounded(one.took), one.calls)
			took[k], calls[k] = append(took[k], one.took), one.calls
			s.stop()
		}
	}
	for _, k := range r.workers {
		of, bar, ok := "", "", ""
		if alone := took[1]; len(alone) > 0 {
			share := ratio(took[k].median(), alone.median())
			of = fmt.Sprintf("%.2f", share)
			if k == 2 {
				bar, ok = fmt.Sprint(barOfTwo), met(share <= barOfTwo)
			}
		}
		t.row(k, took[k], of, calls[k], bar, ok)
	}
	return nil
}
