package vcenter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const (
	pollSeconds    = 1                      // how long vCenter holds a call open without changes
	glance         = 200 * time.Millisecond // of all waits together, between looks while other calls need all places
	longestGlance  = 2 * time.Second        // the same, of one wait
	coalesce       = 30 * time.Millisecond  // so that a burst of power-offs takes few calls
	firstBackoff   = 250 * time.Millisecond
	longestBackoff = 5 * time.Second
	annotateFirst  = 200 * time.Millisecond // the collector can wait, but the steps after a power-off cannot
	patience       = 3                      // failures in a row that are not outages
)

// AwaitOff waits until each VM is off or suspended, its task has failed or it no longer exists, and reports each VM
// once, as soon as vCenter says so; report is called from one goroutine and should return quickly. One
// collector follows all VMs: a call to start, one per burst of changes, one per idle second. It waits through a lost
// session or a restart of vCenter. It returns nil if all are reported, else the
// context's error, or vCenter's if it refuses the calls.
func (g *Gateway) AwaitOff(ctx context.Context, waits []Wait, report func(ref vsphere.Ref, r WaitResult)) error {
	return g.await(ctx, newWaiting(waits, g.names.describe, report))
}

// AwaitOn is AwaitOff for VMs that are being powered on: it waits until each is on, its task has failed or
// it is gone. For a VM without a task that stays off, it waits until the context ends.
func (g *Gateway) AwaitOn(ctx context.Context, waits []Wait, report func(ref vsphere.Ref, r WaitResult)) error {
	w := newWaiting(waits, g.names.describe, report)
	w.goal, w.op = goalOn, "power on"
	return g.await(ctx, w)
}

// awaitTasks waits until each task has ended, and returns those that failed and why, by the VM or other
// object that Wait names. A task that vCenter no longer knows, as after a restart, counts as failed. If the wait itself ends in
// an error, so does each task that had not ended by then.
func (g *Gateway) awaitTasks(ctx context.Context, op string, waits []Wait) (map[vsphere.Ref]error, error) {
	failed := make(map[vsphere.Ref]error)
	w := newWaiting(waits, g.names.describe, func(ref vsphere.Ref, r WaitResult) {
		if r.Err == nil && !r.ByTask {
			r.Err = &Error{Op: op, Object: g.names.describe(ref), Kind: TaskFailed, Err: errTaskLost}
		}
		if r.Err != nil {
			failed[ref] = r.Err
		}
	})
	w.goal, w.op = goalTask, op
	err := g.await(ctx, w)
	for _, a := range w.order {
		if err != nil && !a.done {
			failed[a.vm] = err
		}
	}
	return failed, err
}

// TaskLost reports whether vCenter no longer knows a task, as after a restart. Only the object shows what the task did.
func TaskLost(err error) bool { return errors.Is(err, errTaskLost) }

var errTaskLost = errors.New("vCenter no longer knows the task")

func (g *Gateway) await(ctx context.Context, w *waiting) error {
	g.waits.Add(1)
	defer g.waits.Add(-1)
	backoff, failures := firstBackoff, 0
	for w.open > 0 {
		before := w.rounds
		err := g.follow(ctx, w)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait until %d VMs are %v: %w", w.open, w.goal, ctx.Err())
		case w.rounds > before: // it had worked for a while
			backoff, failures = firstBackoff, 0
		}
		if kind := KindOf(err); !kind.Outage() && !errors.Is(err, errCollectorLost) {
			if failures++; failures >= patience || !kind.Retryable() {
				return err
			}
		}
		g.log.Debug("starting over to wait for VMs", "open", w.open, "reason", err)
		if !clock.Sleep(ctx, backoff) {
			return fmt.Errorf("wait until %d VMs are %v: %w", w.open, w.goal, ctx.Err())
		}
		backoff = min(2*backoff, longestBackoff)
	}
	return nil
}

// errCollectorLost means that the collector ended with its session or in a restart of vCenter.
var errCollectorLost = errors.New("vCenter no longer has our property collector")

// collector is a property collector of our own, bound to the session it was made in.
type collector struct {
	ref     types.ManagedObjectReference
	session *soapSession
	filter  types.ManagedObjectReference // of the wait under way
	done    bool                         // the wait has ended: vCenter holds none of its calls open
}

// collectors keeps a few idle collectors, so that a wait need not create one.
type collectors struct {
	mu   sync.Mutex
	idle []*collector
}

// idleCollectors is how many idle collectors are kept.
const idleCollectors = 2

// take returns an idle collector of the session, or nil. Those of earlier sessions ended with them.
func (c *collectors) take(session *soapSession) *collector {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.idle) > 0 {
		pc := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if pc.session == session {
			return pc
		}
	}
	return nil
}

// keep stores an idle collector; false means that there are enough.
func (c *collectors) keep(pc *collector) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) >= idleCollectors {
		return false
	}
	c.idle = append(c.idle, pc)
	return true
}

// follow opens a collector and takes news from it until nobody is waited for.
func (g *Gateway) follow(ctx context.Context, w *waiting) error {
	w.restart()
	pc, err := g.openCollector(ctx)
	if err != nil {
		return err
	}
	defer g.giveBack(ctx, pc)
	if err := g.addFilter(ctx, call{op: "watch", object: "VMs"}, pc, w.spec()); err != nil {
		return err
	}
	version, complete := "", false
	for {
		set, err := g.updates(ctx, pc, version)
		if err != nil {
			return err
		}
		if set == nil { // nothing new, which is news of a task that does not end
			if w.reportKnown(); w.open == 0 {
				pc.done = true
				return nil
			}
			continue
		}
		version = set.Version
		w.rounds++
		w.apply(set)
		if set.Truncated != nil && *set.Truncated {
			continue // the rest follows
		}
		if !complete { // the first complete answer names every existing object
			complete = true
			w.absent()
		}
		reported := w.reportKnown()
		if w.open == 0 {
			pc.done = true
			return nil
		}
		if reported > 0 {
			clock.Sleep(ctx, coalesce)
		}
	}
}

// inCollector makes one call on a collector, or fails if its session is no longer ours.
func (g *Gateway) inCollector(ctx context.Context, c call, pc *collector, f func(context.Context, *soapSession) error) error {
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		if s != pc.session {
			return errCollectorLost
		}
		return f(ctx, s)
	})
	var gone *types.ManagedObjectNotFound
	if _, ok := fault.As(err, &gone); ok && gone.Obj == pc.ref {
		return errCollectorLost
	}
	return err
}

func (g *Gateway) openCollector(ctx context.Context) (*collector, error) {
	if session, _, ok := g.soapSlot.peek(); ok {
		if pc := g.collectors.take(session); pc != nil {
			return pc, nil
		}
	}
	pc := &collector{}
	err := g.soap(ctx, call{op: "start", object: "a property collector"}, func(ctx context.Context, s *soapSession) error {
		res, err := methods.CreatePropertyCollector(ctx, s.client, &types.CreatePropertyCollector{
			This: s.client.ServiceContent.PropertyCollector,
		})
		if err == nil {
			pc.ref, pc.session = res.Returnval, s
		}
		return err
	})
	return pc, err
}

func (g *Gateway) addFilter(ctx context.Context, c call, pc *collector, spec types.PropertyFilterSpec) error {
	return g.inCollector(ctx, c, pc, func(ctx context.Context, s *soapSession) error {
		res, err := methods.CreateFilter(ctx, s.client, &types.CreateFilter{This: pc.ref, Spec: spec})
		if err == nil {
			pc.filter = res.Returnval
		}
		return err
	})
}

// updates returns what is new since the version; nil: nothing. It has vCenter hold the call open until there is news,
// unless other calls need its place: then it looks now and then.
func (g *Gateway) updates(ctx context.Context, pc *collector, version string) (set *types.UpdateSet, err error) {
	c, hold := call{op: "wait for", object: "VMs"}, int32(0)
	if version != "" { // the first answer comes at once
		if !g.whileCrowded(ctx, min(time.Duration(g.waits.Load())*glance, longestGlance)) {
			return nil, interrupted(c, ctx.Err())
		}
		if !g.limit.crowded() {
			c.wait, hold = true, pollSeconds
		}
	}
	return g.updatesWithin(ctx, c, pc, version, hold)
}

// updatesWithin returns what is new since the version, for which vCenter holds the call open for so many seconds; nil:
// nothing.
func (g *Gateway) updatesWithin(ctx context.Context, c call, pc *collector, version string, seconds int32) (set *types.UpdateSet, err error) {
	err = g.inCollector(ctx, c, pc, func(ctx context.Context, s *soapSession) error {
		res, err := methods.WaitForUpdatesEx(ctx, s.client, &types.WaitForUpdatesEx{
			This: pc.ref, Version: version,
			Options: &types.WaitOptions{MaxWaitSeconds: types.NewInt32(seconds)},
		})
		if err == nil {
			set = res.Returnval
		}
		return err
	})
	return set, err
}

// whileCrowded waits until calls leave a place again, for d at most; it is false if the context ended first.
func (g *Gateway) whileCrowded(ctx context.Context, d time.Duration) bool {
	for end := time.Now().Add(d); g.limit.crowded() && time.Now().Before(end); {
		if !clock.Sleep(ctx, crowdedFor/2) {
			return false
		}
	}
	return true
}

// giveBack ends the wait's filter and keeps the collector for the next wait, or destroys it if there
// are enough or its wait was interrupted.
func (g *Gateway) giveBack(ctx context.Context, pc *collector) {
	g.cleanUp(ctx, annotateFirst, func(ctx context.Context) error {
		if current, _, ok := g.soapSlot.peek(); !ok || current != pc.session {
			return nil // it ended with its session
		}
		if pc.done {
			_, err := methods.DestroyPropertyFilter(ctx, pc.session.client, &types.DestroyPropertyFilter{This: pc.filter})
			if err == nil && g.collectors.keep(&collector{ref: pc.ref, session: pc.session}) {
				return nil
			}
		}
		_, err := methods.DestroyPropertyCollector(ctx, pc.session.client, &types.DestroyPropertyCollector{This: pc.ref})
		return err
	})
}
