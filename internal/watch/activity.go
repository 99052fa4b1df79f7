package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Activities are the steps of the watch that reach outside.
type Activities struct {
	VCenter *vcenter.Gateway
	Engine  *trigger.Engine
	Source  string // of the events: https://<vCenter>/sdk
	Log     *slog.Logger
}

// NewActivities returns the activities of a worker of the task queue; host is vCenter's host and port.
func NewActivities(g *vcenter.Gateway, c client.Client, taskQueue string, rules []trigger.Rule, host string, log *slog.Logger) *Activities {
	return &Activities{
		VCenter: g, Engine: &trigger.Engine{Temporal: c, TaskQueue: taskQueue, Rules: rules},
		Source: "https://" + host + "/sdk", Log: log,
	}
}

// Checked has the rules ask, before they send something, whether the workflow would take it.
func (a *Activities) Checked(takes func(payload any) error) *Activities {
	a.Engine.Check = takes
	return a
}

// FollowInput says from where to follow the events.
type FollowInput struct {
	Checkpoint watchapi.Checkpoint `json:"checkpoint"`
	Timing     Timing              `json:"timing"`
}

// errNoRules is the type of the error of a worker that has no rules: another may have some.
const errNoRules = "NoRules"

// Follow reads vCenter's events and hands them to the rules until it is cancelled or its lease ends, and
// returns its checkpoint. Its heartbeat carries the checkpoint, from which another attempt goes on. While
// vCenter or Temporal is away it stays and tries again.
func (a *Activities) Follow(ctx context.Context, in FollowInput) (watchapi.Checkpoint, error) {
	c := in.Checkpoint
	if activity.HasHeartbeatDetails(ctx) {
		var last watchapi.Checkpoint
		if err := activity.GetHeartbeatDetails(ctx, &last); err == nil {
			c = last
		}
	}
	if len(a.Engine.Rules) == 0 {
		return c, temporal.NewApplicationErrorWithOptions(
			"this worker's configuration has no rules: the watch waits for a worker that has some; preemptctl watch stop ends the wait",
			errNoRules, temporal.ApplicationErrorOptions{NextRetryDelay: 5 * time.Second})
	}
	f := &follower{Activities: a, ctx: ctx, timing: in.Timing, point: c, log: a.logger(ctx), metrics: activity.GetMetricsHandler(ctx), idle: map[[2]string]string{}, dealt: newDealt(c.Seen)}
	f.point.VCenter, f.point.Worker = a.Source, here()
	defer f.close()
	defer f.beat()()
	looking, stopLooking := context.WithCancel(ctx)
	defer stopLooking()
	stopping := activity.GetWorkerStopChannel(ctx)
	go func() {
		select {
		case <-stopping:
			stopLooking()
		case <-looking.Done():
		}
	}()
	end := time.NewTimer(in.Timing.Lease)
	defer end.Stop()
	poll := time.NewTicker(in.Timing.Poll)
	defer poll.Stop()
	for {
		f.look(looking)
		f.record()
		select {
		case <-poll.C:
		case <-end.C:
			return f.point, nil
		case <-looking.Done():
			return f.point, f.ended(ctx)
		}
	}
}

// ended tells why the follower may not go on: nil where that was asked for, or where its worker stops and the
// next activity takes the checkpoint from its result.
func (f *follower) ended(ctx context.Context) error {
	if ctx.Err() == nil || temporal.IsCanceledError(context.Cause(ctx)) {
		return nil
	}
	return fmt.Errorf("the watch lost touch with Temporal: %w", context.Cause(ctx))
}

// record puts the checkpoint into the heartbeat.
func (f *follower) record() {
	f.point.Seen = f.dealt.newest()
	f.mu.Lock()
	f.recorded = f.point
	f.recorded.Levels = slices.Clone(f.point.Levels)
	f.mu.Unlock()
	f.heartbeat()
}

func (f *follower) heartbeat() {
	if f.ctx == nil {
		return // followed outside an activity
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	activity.RecordHeartbeat(f.ctx, f.recorded)
}

// beat repeats the last checkpoint while a look takes long, until the function it returns is called.
func (f *follower) beat() (stop func()) {
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

// here names this process as Temporal's list of pollers does.
func here() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%d@%s", os.Getpid(), host)
}

func (a *Activities) logger(ctx context.Context) *slog.Logger {
	info := activity.GetInfo(ctx)
	return a.Log.With("workflow_id", info.WorkflowExecution.ID, "run_id", info.WorkflowExecution.RunID)
}

// follower is one attempt of the activity.
type follower struct {
	*Activities
	ctx    context.Context // the activity's
	timing Timing
	point  watchapi.Checkpoint
	log    *slog.Logger

	metrics client.MetricsHandler // of Temporal's SDK

	mu       sync.Mutex
	recorded watchapi.Checkpoint // what the heartbeat carries; guarded by mu

	reader   *vcenter.EventReader
	reopened int // of the reader, when states were last compared
	behind   []vcenter.StreamEvent
	settled  bool // states were compared by this attempt
	dealt    *dealt
	aside    map[string]*aside      // by event: could not be handed over, although others could
	tried    map[string]*failure    // by event: what was not taken yet
	took     int                    // events that Temporal has taken
	todo     map[watchapi.Mark]bool // events that this look is still to hand over: the checkpoint stays before them
	idle     map[[2]string]string   // alarms that are up and of which rules make nothing, with their colour
	offset   time.Duration          // by how much vCenter's clock was ahead of ours when it was last looked at
	unseen   int                    // alarms that were up and not shown when states were last compared
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

// look reads what is new and deals with it. What cannot be done now is said once and tried again.
func (f *follower) look(ctx context.Context) {
	err := f.catchUp(ctx)
	if ctx.Err() != nil {
		return
	}
	now := time.Now().UTC()
	if err == nil {
		f.point.LookedAt = now
		f.metrics.Gauge("preemption_watch_last_look_timestamp_seconds").Update(float64(now.UnixMilli()) / 1000)
		if f.point.Trouble != "" {
			f.log.Info("the watch goes on", "after", now.Sub(f.point.Since).Round(time.Second).String())
			f.point.Trouble, f.point.Since, f.point.Away = "", time.Time{}, false
		}
		return
	}
	if f.point.Trouble == "" {
		f.point.Since = now
		f.log.Warn("the watch cannot go on at the moment and tries again", "reason", err)
	}
	var away *vcenter.Error
	f.point.Trouble, f.point.Away = clip(err.Error()), errors.As(err, &away) && away.Kind.Outage()
}

// overlap is how far before the checkpoint's time reading begins again: events of one moment may appear one
// after the other.
const overlap = 5 * time.Second

// maxBehind bounds how many unread events are gathered before they are dealt with.
const maxBehind = 20_000

// catchUp reads all that is new, compares the alarms' states where that is due, and hands over.
func (f *follower) catchUp(ctx context.Context) error {
	if f.reader == nil {
		from := since(f.point)
		if f.point.Reached.IsZero() {
			now, err := f.VCenter.ServerTime(ctx)
			if err != nil {
				return err
			}
			f.point.Reached, from = now.UTC(), now
		}
		f.reader = f.VCenter.Events(ctx, from, trigger.Classes(f.Engine.Rules))
	}
	for len(f.behind) < maxBehind {
		page, err := f.reader.Next(ctx)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		f.behind = append(f.behind, page...)
	}
	if f.compareDue() {
		if err := f.checkClock(ctx); err != nil {
			return err
		}
	}
	f.todo = map[watchapi.Mark]bool{}
	fresh := f.decode(f.behind)
	fresh = append(f.again(fresh), fresh...)
	if f.compareDue() {
		if err := f.compare(ctx, fresh); err != nil {
			return err
		}
	} else if err := f.handOver(ctx, f.unknown(fresh), false); err != nil {
		return err
	}
	f.reached(f.behind)
	f.behind = nil
	f.dealt.forget(f.point.Reached.Add(-2 * overlap))
	return nil
}

// checkClock looks whether vCenter's clock was set back: the events to come have times before those that were read, and
// a collector that begins there would not tell of them. Reading goes on from vCenter's present, and the comparison of
// states makes up for the alarms that changed meanwhile.
func (f *follower) checkClock(ctx context.Context) error {
	now, err := f.VCenter.ServerTime(ctx)
	if err != nil {
		return err
	}
	f.offset = time.Until(now)
	ahead := f.point.Reached.Sub(now)
	if ahead <= overlap {
		return nil
	}
	f.log.Warn("vCenter's clock was set back; its events are read from its present on", "by", ahead.Round(time.Second).String())
	f.close()
	f.point.Reached, f.settled = now.UTC(), false
	f.reader = f.VCenter.Events(ctx, now.Add(-overlap), trigger.Classes(f.Engine.Rules))
	return nil
}

// compareDue tells whether states are to be compared: at the start, after a gap, and on a slow timer.
func (f *follower) compareDue() bool {
	return !f.settled || f.reader.Reopened() != f.reopened || time.Since(f.point.Compared) >= f.timing.Compare
}

// decode makes of the events what the rules understand, oldest first: without those dealt with before, and
// of each alarm on each entity the last change alone, for what went before it is over.
func (f *follower) decode(events []vcenter.StreamEvent) []news {
	var all []news
	last := map[[2]string]int{}
	for _, e := range events {
		if f.dealt.known[markOf(e)] {
			continue
		}
		in, err := f.incoming(e.Class, e.JSON)
		if err != nil {
			f.log.Warn("an event of vCenter's history cannot be read", "class", e.Class, "key", e.Key, "reason", err)
			continue
		}
		n := news{in, []watchapi.Mark{markOf(e)}}
		if in.Event.Class == alarm.ClassAlarm {
			id := identity(in.Event.Alarm)
			if i, ok := last[id]; ok && !later(n.Event.Alarm, all[i].Event.Alarm) { // vCenter's clock was set back between them
				all[i].marks = append(all[i].marks, n.marks...)
				continue
			}
			if i, ok := last[id]; ok {
				n.Event.Alarm.From = all[i].Event.Alarm.From
				n.marks = append(all[i].marks, n.marks...)
				all[i] = news{}
			}
			last[id] = len(all)
		}
		all = append(all, n)
	}
	return slices.DeleteFunc(all, func(n news) bool { return n.Event.Class == "" })
}

// later reports whether a change of an alarm came after another one.
func later(a, b alarm.Alarm) bool {
	return alarm.After(a.EventKey, a.Time, b.EventKey, b.Time, time.Now())
}

// identity tells alarms on entities apart.
func identity(a alarm.Alarm) [2]string { return [2]string{a.Ref.Value, a.Entity.Ref()} }

// incoming dresses an event of vCenter as a CloudEvent, as Knative's vSphere source does.
func (f *follower) incoming(class string, data []byte) (trigger.Incoming, error) {
	typ := "com.vmware.vsphere." + class + ".v0"
	ev, err := alarm.Decode(alarm.Message{Type: typ, Source: f.Source, Data: data})
	if err != nil {
		return trigger.Incoming{}, err
	}
	name, at := strconv.FormatInt(ev.Alarm.EventKey, 10), ev.Alarm.Time
	switch {
	case class != alarm.ClassAlarm:
		name, at = strconv.FormatInt(ev.Power.EventKey, 10), ev.Power.Time
	case ev.Alarm.EventKey == 0: // known by its state alone
		name = ev.Alarm.Ref.Value + "." + ev.Alarm.Entity.Value
	}
	id := fmt.Sprintf("%s@%d", name, at.UnixMilli())
	raw, err := json.Marshal(struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Subject     string          `json:"subject"`
		EventClass  string          `json:"eventclass"`
		Time        time.Time       `json:"time,omitzero"`
		MediaType   string          `json:"datacontenttype"`
		Data        json.RawMessage `json:"data"`
	}{"1.0", id, f.Source, typ, class, class, at.UTC(), "application/json", data})
	return trigger.Incoming{Event: ev, CloudEvent: raw}, err
}

// clip shortens what the state of the watch tells.
func clip(s string) string { return shown.Clip(s, 300) }
