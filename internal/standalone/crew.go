package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/channel"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// silence is above every level of a log.
const silence = slog.Level(math.MaxInt)

// crew has the one worker that runs, and starts another when it was killed.
type crew struct {
	stack    *stack
	build    telemetry.Build
	fatal    func(error)
	sender   *notify.Sender
	channels *channel.Book

	mu      sync.Mutex
	started int        // workers so far
	now     *workerRun // nil: it was killed, and the next has not started yet
	next    time.Time  // when that is
}

// workerRun is one worker from its start to its end, with all that dies with it.
type workerRun struct {
	gateway *vcenter.Gateway
	client  client.Client
	worker  *worker.Worker
	level   *slog.LevelVar // of its log
	cancel  context.CancelFunc
	wg      sync.WaitGroup // of what it does beside its work
}

// newCrew prepares what all its workers share.
func (s *stack) newCrew(build telemetry.Build, fatal func(error)) (*crew, error) {
	sender, err := notify.New(s.set.File.Limits.ReplyAllow, 0)
	if err != nil {
		return nil, err
	}
	channels, err := worker.Channels(s.set.File, s.env, sender)
	if err != nil {
		return nil, err
	}
	return &crew{stack: s, build: build, fatal: fatal, sender: sender, channels: channels}, nil
}

// ready is an error while no worker runs that vCenter answers to.
func (c *crew) ready(ctx context.Context) error {
	c.mu.Lock()
	run := c.now
	c.mu.Unlock()
	if run == nil {
		return errors.New("no worker runs at the moment")
	}
	return worker.VCenterReady(run.gateway)(ctx)
}

// up reports whether a worker runs, and otherwise when the next one starts.
func (c *crew) up() (is bool, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now != nil, c.next
}

// start starts a worker.
func (c *crew) start(ctx context.Context) error {
	c.mu.Lock()
	c.started++
	n := c.started
	c.mu.Unlock()
	run, err := c.stack.newRun(ctx, c, n)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.next = run, time.Time{}
	return nil
}

// stop ends the worker in good order, if there is one.
func (c *crew) stop() {
	c.mu.Lock()
	run := c.now
	c.now = nil
	c.mu.Unlock()
	if run != nil {
		run.stop()
	}
}

// kill ends the worker as a process is killed, and starts another one after a while. It returns when that is, and
// whether there was a worker to kill.
func (c *crew) kill(ctx context.Context, after time.Duration) (next time.Time, killed bool) {
	c.mu.Lock()
	run := c.now
	if run == nil {
		defer c.mu.Unlock()
		return c.next, false
	}
	gone := run.kill()
	next = time.Now().Add(after)
	c.now, c.next = nil, next
	c.mu.Unlock()
	c.stack.out.say("worker", "was killed; another one starts in %s", after)
	c.stack.background(ctx, func(ctx context.Context) {
		if clock.Sleep(ctx, after) {
			<-gone // or the SDK would hand on what the dead one had in memory
			c.replace(ctx)
		}
	})
	return next, true
}

// replace starts the worker that follows one that was killed.
func (c *crew) replace(ctx context.Context) {
	if err := c.start(ctx); err != nil {
		if ctx.Err() == nil {
			c.fatal(fmt.Errorf("no worker could be started again: %w", err))
		}
		return
	}
	c.stack.out.say("worker", "another one polls task queue %s, and goes on", c.stack.queue())
}

// newRun starts the n-th worker. The first of a simulation logs in to vCenter ahead of need; the others may find it away.
func (s *stack) newRun(ctx context.Context, c *crew, n int) (_ *workerRun, err error) {
	life, cancel := context.WithCancel(ctx)
	run := &workerRun{level: &slog.LevelVar{}, cancel: cancel}
	run.level.Set(slog.LevelDebug) // as the log that it is part of
	log := slog.New(calm{Handler: s.log.Handler(), level: run.level})
	identity := fmt.Sprintf("standalone-%d", os.Getpid())
	if n > 1 {
		identity += fmt.Sprintf("-%d", n)
	}
	defer func() {
		if err != nil {
			run.stop()
		}
	}()
	if run.client, err = s.dial(identity, log); err != nil {
		return nil, err
	}
	if run.gateway, err = worker.Gateway(s.set, s.metrics, log); err != nil {
		return nil, err
	}
	if s.simulate && n == 1 {
		if err := run.gateway.Connect(ctx); err != nil {
			return nil, err
		}
	} else {
		run.wg.Go(func() { s.seekVCenter(life, run.gateway) })
	}
	set := s.preemption()
	cfg := worker.Config{
		Temporal: run.client, Namespace: s.temporal.Namespace(), TaskQueue: s.queue(), VCenter: run.gateway, VCenterHost: s.set.VCenter.Host(), Notify: c.sender,
		Preempt: set, Remediate: worker.Remediation(s.set.File, set), Rules: s.set.File.Rules, Channels: c.channels,
		Identity: identity, Version: c.build.String(), Log: log, Tracer: s.traces.Tracer(), TookOver: s.metrics.TookOver,
		OnFatal: func(err error) {
			if life.Err() == nil {
				c.fatal(fmt.Errorf("the worker cannot go on: %w", err))
			}
		},
	}
	if s.simulate {
		cfg.StopTimeout = simulateStop
	}
	w := worker.New(life, cfg)
	if err := s.checkAttributes(ctx, w.Preempt.Env); err != nil {
		return nil, err
	}
	if err := w.Start(); err != nil {
		return nil, fmt.Errorf("start the worker on task queue %s: %w", s.queue(), err)
	}
	run.worker = w
	run.wg.Go(func() { w.Preempt.CountPreempted(life, run.gateway, s.metrics.Preempted) })
	return run, nil
}

// stop ends the worker in good order: what is under way may finish.
func (r *workerRun) stop() {
	r.cancel()
	r.wg.Wait()
	if r.worker != nil {
		r.worker.Stop()
	}
	if r.gateway != nil {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		r.gateway.Close(ctx)
	}
	if r.client != nil {
		r.client.Close()
	}
}

// kill ends the worker as far as anybody outside can see as kill -9 does: from now on it tells Temporal nothing, asks
// nothing of vCenter, and does not log out. What vCenter was asked for before is done. gone is closed when nothing of it
// runs any more.
func (r *workerRun) kill() (gone <-chan struct{}) {
	r.level.Set(silence) // what it would complain of is what was asked for
	r.client.Close()
	r.cancel()
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	r.gateway.Close(dead)
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.wg.Wait()
		r.worker.Stop()
	}()
	return over
}
