package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// barOfReclaim is how much longer a reclaim may take than its bound, where vCenter has latency and there are many VMs.
const barOfReclaim, manyTargets = 1.15, 100

// reclaimed is one measured reclaim.
type reclaimed struct {
	took  time.Duration // until the last VM was off and annotated
	calls int           // to vCenter
}

// bound is the least time that calls take at this many at once, and one task after them.
func (d delay) bound(calls, atOnce int) time.Duration {
	return time.Duration(calls)*d.call/time.Duration(atOnce) + d.task
}

// reclaim measures rounds of all sizes at all delays.
func reclaim(ctx context.Context, r *run) error {
	t, done := r.table("reclaim", "from a request, and from an alarm in vCenter, to the last VM off and annotated",
		"VMs", "delay of vCenter", "calls", "bound", "from a request", "× bound", "from an alarm", "× bound", fmt.Sprintf("at most %.2f", barOfReclaim))
	defer done()
	for _, n := range r.targets {
		if err := r.reclaimOf(ctx, t, n); err != nil {
			return err
		}
	}
	return nil
}

// reclaimOf measures one number of targets. The delays alternate, first by request and then, with a worker that
// watches, by alarm.
func (r *run) reclaimOf(ctx context.Context, t *table, n int) error {
	s, err := r.newSite(ctx, simulation.Options{
		Clusters: max(1, n/perRound), HostsPerCluster: 16, VMsPerCluster: min(n, perRound), Tagged: min(n, perRound),
	})
	if err != nil {
		return err
	}
	defer s.close()
	runs := r.runs
	if n > perRound {
		runs = 1
	}
	asked, alarmed, calls := map[delay]samples{}, map[delay]samples{}, map[delay]int{}
	for _, byAlarm := range []bool{false, true} {
		if err := s.startFor(ctx, 1, byAlarm); err != nil {
			return err
		}
		for range runs {
			for _, d := range r.delays {
				one, err := s.reclaimOnce(ctx, d, byAlarm)
				if err != nil {
					return err
				}
				r.say("reclaim %d VMs, delay %s, by alarm %t: %s, %d calls", n, d, byAlarm, rounded(one.took), one.calls)
				if byAlarm {
					alarmed[d] = append(alarmed[d], one.took)
				} else {
					asked[d], calls[d] = append(asked[d], one.took), one.calls
				}
			}
		}
		s.stop()
	}
	for _, d := range r.delays {
		bound, of := "none", [3]string{"", "", ""}
		if b := d.bound(calls[d], r.calls); b > 0 {
			byRequest, byAlarm := ratio(asked[d].median(), b), ratio(alarmed[d].median(), b)
			bound, of[0], of[1] = rounded(b), fmt.Sprintf("%.2f", byRequest), fmt.Sprintf("%.2f", byAlarm)
			if n >= manyTargets {
				of[2] = fmt.Sprintf("request %s, alarm %s", met(byRequest <= barOfReclaim), met(byAlarm <= barOfReclaim))
			}
		}
		t.row(n, d, calls[d], bound, asked[d], of[0], alarmed[d], of[1], of[2])
	}
	return nil
}

// startFor starts workers, with a watch or without, and lets them do one round that is not measured: sessions and caches
// are warm in any worker that has run before.
func (s *site) startFor(ctx context.Context, workers int, watch bool) error {
	file, err := s.file(perRound, 0, watch)
	if err != nil {
		return err
	}
	if err := s.start(ctx, workers, file); err != nil {
		return err
	}
	_, err = s.reclaimOnce(ctx, delay{}, watch)
	return err
}

// reclaimOnce has the VMs of all clusters powered off, and leaves them on again.
func (s *site) reclaimOnce(ctx context.Context, d delay, byAlarm bool) (one reclaimed, err error) {
	clusters, vms := s.vc.Inventory().Clusters, s.vc.TaggedVMs("")
	before := s.texts(vms)
	s.vc.SetLatency(d.call)
	s.vc.SetTaskDelay(d.task)
	if byAlarm { // at any instant when the watch has had no news for a while
		time.Sleep(5*time.Second + time.Duration(rand.Int64N(int64(2*time.Second))))
	}
	s.vc.ResetCalls()
	began := time.Now()
	for _, c := range clusters {
		if byAlarm {
			_, err = s.turn(ctx, c, 0, "green", "red")
		} else {
			err = s.request(ctx, c)
		}
		if err != nil {
			return one, err
		}
	}
	if err := s.gone(ctx, vms, before); err != nil {
		return one, err
	}
	one.took = time.Since(began)
	off := 0
	for _, c := range clusters {
		result, err := s.over(ctx, s.intake(c))
		if err != nil {
			return one, err
		}
		if result.State != preemptapi.RoundCompleted {
			return one, fmt.Errorf("round %s on %s ended as %s: %s", result.RoundID, c.Name, result.State, result.Reason)
		}
		off += len(result.Preempted())
	}
	if off != len(vms) {
		return one, fmt.Errorf("%d VMs are off, and the rounds report %d", len(vms), off)
	}
	time.Sleep(300*time.Millisecond + d.call) // a round's collector is destroyed a moment later
	one.calls = s.vc.TotalCalls()
	s.vc.SetLatency(0)
	if err := s.powerOn(vms); err != nil {
		return one, err
	}
	return one, s.eased(ctx, clusters, byAlarm)
}
