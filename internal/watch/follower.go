package watch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// follower is one attempt of the activity.
type follower struct {
	*Activities
	timing     Timing
	checkpoint watchapi.Checkpoint
	log        *slog.Logger
	metrics    client.MetricsHandler     // of Temporal's SDK
	beat       func(watchapi.Checkpoint) // sends a heartbeat

	mu       sync.Mutex
	recorded watchapi.Checkpoint // what the heartbeat carries; guarded by mu

	reader    EventReader
	news      time.Time              // when there last was any
	more      bool                   // there is more to read than is read at once
	unhandled []vcenter.StreamEvent  // that were read, from the first on that is not handled
	pending   map[watchapi.Mark]bool // events that this poll is still to hand over: the checkpoint stays before them
	handled   *handledEvents
	accepted  int                 // events that Temporal has taken
	failures  map[string]*failure // by subject: events that Temporal has not taken yet
	aside     map[string]*aside   // by subject: events that were not taken although others were

	compared bool                // states were compared, since this attempt began or vCenter's clock was set back
	reopened int                 // of the reader, when states were last compared
	hidden   int                 // alarms that were up and not shown when states were last compared
	idle     map[instance]string // alarms that are up and about which rules do nothing, with their colour
	offset   time.Duration       // by how much vCenter's clock was ahead of ours when it was last read
}

// record puts the checkpoint into the heartbeat.
func (f *follower) record() {
	f.checkpoint.Seen = f.handled.newest()
	f.mu.Lock()
	f.recorded = f.checkpoint
	f.recorded.Levels = slices.Clone(f.checkpoint.Levels)
	f.mu.Unlock()
	f.heartbeat()
}

func (f *follower) heartbeat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beat(f.recorded)
}

// heartbeats repeats the last checkpoint while a poll takes long, until the function it returns is called.
func (f *follower) heartbeats() (stop func()) {
	f.record()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(min(f.timing.Heartbeat/4, time.Second))
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				f.heartbeat()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// closeTime bounds the destruction of the event collector.
const closeTime = 5 * time.Second

func (f *follower) close() {
	if f.reader == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	f.reader.Close(ctx)
}

// poll reads what is new and hands it over. What cannot be done now is logged once and tried again.
func (f *follower) poll(ctx context.Context) {
	err := f.catchUp(ctx)
	if ctx.Err() != nil {
		return
	}
	now := time.Now().UTC()
	if err == nil {
		f.checkpoint.LookedAt = now
		f.metrics.Gauge("preemption_watch_last_look_timestamp_seconds").Update(float64(now.UnixMilli()) / 1000)
		if f.checkpoint.Trouble != "" {
			f.log.Info("the watch goes on", "after", now.Sub(f.checkpoint.Since).Round(time.Second).String())
			f.checkpoint.Trouble, f.checkpoint.Since, f.checkpoint.Away = "", time.Time{}, false
		}
		return
	}
	if f.checkpoint.Trouble == "" {
		f.checkpoint.Since = now
		f.log.Warn("the watch cannot go on at the moment and tries again", "reason", err)
	}
	var away *vcenter.Error
	f.checkpoint.Trouble, f.checkpoint.Away = clip(err.Error()), errors.As(err, &away) && away.Kind.Outage()
}

// settled is how long after the last news the watch has vCenter tell it of the next. Before, it looks once in each interval:
// it reads a storm of events in few calls.
const settled = time.Second

// rest waits until it is time for another poll: until there are news, in quiet times, and else for an interval.
func (f *follower) rest(ctx context.Context) {
	switch {
	case f.checkpoint.Trouble == "" && f.more:
	case f.checkpoint.Trouble != "" || f.reader == nil || time.Since(f.news) < settled:
		clock.Sleep(ctx, f.timing.Poll)
	case f.reader.Await(ctx, 2*f.timing.Poll):
		f.news = time.Now()
	}
}

// overlap is how far before the checkpoint's time reading begins again: events of one moment may appear one
// after the other.
const overlap = 5 * time.Second

// maxUnhandled bounds how many events are read before they are handed over: each takes some 5 KB meanwhile, and as much again
// until the memory is collected.
const maxUnhandled = 5_000

// catchUp reads all that is new, compares the alarms' states where that is due, and hands over.
func (f *follower) catchUp(ctx context.Context) error {
	if err := f.read(ctx); err != nil {
		return err
	}
	if f.compareDue() {
		if err := f.checkClock(ctx); err != nil {
			return err
		}
	}
	f.pending = map[watchapi.Mark]bool{}
	fresh := f.decode(f.unhandled)
	fresh = append(f.asideDue(fresh), fresh...)
	if f.compareDue() {
		if err := f.compare(ctx, fresh); err != nil {
			return err
		}
	} else if err := f.handOver(ctx, f.withoutHandedOver(fresh), false); err != nil {
		return err
	}
	f.moveCheckpoint(f.unhandled)
	f.unhandled = nil
	f.handled.forget(f.checkpoint.Reached.Add(-2 * overlap))
	return nil
}

// read gathers what is new in vCenter's event history.
func (f *follower) read(ctx context.Context) error {
	if f.reader == nil {
		from := readFrom(f.checkpoint)
		if f.checkpoint.Reached.IsZero() {
			now, err := f.VCenter.ServerTime(ctx)
			if err != nil {
				return err
			}
			f.checkpoint.Reached, from = now.UTC(), now
		}
		f.open(ctx, from)
	}
	for f.more = true; len(f.unhandled) < maxUnhandled; {
		page, err := f.reader.Next(ctx)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			f.more = false
			break
		}
		f.news = time.Now()
		f.unhandled = append(f.unhandled, page...)
	}
	return nil
}

// open begins to read the events that rules are on.
func (f *follower) open(ctx context.Context, from time.Time) {
	var classes []string
	for _, class := range trigger.Classes(f.Engine.Rules) {
		classes = append(classes, string(class))
	}
	f.reader = f.VCenter.Events(ctx, from, classes)
}

// checkClock checks whether vCenter's clock was set back: the events to come have times before those that were read, and
// a collector that begins there would not return them. Reading goes on from vCenter's present, and the comparison of
// states makes up for the alarms that changed meanwhile.
func (f *follower) checkClock(ctx context.Context) error {
	now, err := f.VCenter.ServerTime(ctx)
	if err != nil {
		return err
	}
	f.offset = time.Until(now)
	ahead := f.checkpoint.Reached.Sub(now)
	if ahead <= overlap {
		return nil
	}
	f.log.Warn("vCenter's clock was set back; its events are read from its present on", "by", ahead.Round(time.Second).String())
	f.close()
	f.checkpoint.Reached, f.compared = now.UTC(), false
	f.open(ctx, now.Add(-overlap))
	return nil
}

// clip shortens what the state of the watch tells.
func clip(s string) string { return shown.Clip(s, 300) }
