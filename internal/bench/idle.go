package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// The bars of a worker that does nothing.
const (
	barOfIdle = 32 << 20   // bytes of memory
	barOfSize = 36_000_000 // bytes of the stripped program
)

// idle measures a worker that does nothing.
func idle(ctx context.Context, r *run) error {
	t, done := r.table("idle", "a worker that does nothing", "figure", "bar", "measured", "met")
	defer done()
	s, err := r.newSite(ctx, simulation.Options{})
	if err != nil {
		return err
	}
	defer s.close()
	var starts samples
	var memory []int64
	for range max(3, r.runs) {
		began := time.Now()
		if err := s.start(ctx, 1, ""); err != nil {
			return err
		}
		starts = append(starts, time.Since(began))
		if !clock.Sleep(ctx, 5*time.Second) {
			return ctx.Err()
		}
		now, _, err := s.workers[0].Memory()
		if err != nil {
			return err
		}
		r.say("idle: polls after %s, %s MiB", rounded(starts[len(starts)-1]), mib(now))
		memory = append(memory, now)
		s.stop()
	}
	info, err := os.Stat(filepath.Join(r.dir, "worker"))
	if err != nil {
		return fmt.Errorf("measure the built worker: %w", err)
	}
	middle, least, most := spread(memory)
	t.row("resident memory, 5 s after the start", mib(barOfIdle)+" MiB", fmt.Sprintf("%s MiB; %s to %s", mib(middle), mib(least), mib(most)), met(middle <= barOfIdle))
	t.row("stripped program", "36.0 MB", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), met(info.Size() <= barOfSize))
	t.row("start to polling", "", starts, "")
	return nil
}
