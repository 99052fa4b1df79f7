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
	requests, err := s.watching(ctx)
	t.row("requests to the database a minute, with a watch", "", requests, "")
	return err
}

// watching counts what a worker that only watches costs Temporal's database in a minute.
func (s *site) watching(ctx context.Context) (requests int64, err error) {
	const quiet = 20 * time.Second
	defer s.stop()
	if err := s.startFor(ctx, 1, true); err != nil {
		return 0, err
	}
	if !clock.Sleep(ctx, 10*time.Second) { // the start, which asks more
		return 0, ctx.Err()
	}
	before := s.server.DatabaseRequests()
	if !clock.Sleep(ctx, quiet) {
		return 0, ctx.Err()
	}
	return (s.server.DatabaseRequests() - before) * int64(time.Minute/quiet), nil
}
