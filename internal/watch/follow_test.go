package watch

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// attempt is one attempt of the activity beside a fake vCenter and a fake Temporal.
type attempt struct {
	t        *testing.T
	vcenter  *fakeVCenter
	temporal *fakeTemporal
	rules    []trigger.Rule
	timing   Timing
	env      *testsuite.TestActivityEnvironment
	stop     chan struct{} // closed when the worker stops
}

func newAttempt(t *testing.T) *attempt {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(slog.New(slog.DiscardHandler))
	a := &attempt{
		t: t, vcenter: &fakeVCenter{}, temporal: &fakeTemporal{}, env: suite.NewTestActivityEnvironment(), stop: make(chan struct{}),
		rules:  []trigger.Rule{{Alarm: "cpu*", Action: trigger.Preempt{Tag: "spot"}}, {Class: alarm.ClassPoweredOff, Action: trigger.Reconfigure{}}},
		timing: Timing{Poll: 5 * time.Millisecond, Compare: 50 * time.Millisecond, Heartbeat: 20 * time.Millisecond, Lease: 150 * time.Millisecond},
	}
	a.env.SetWorkerStopChannel(a.stop)
	return a
}

// follow runs the activity until its lease ends.
func (a *attempt) follow(c watchapi.Checkpoint) (watchapi.Checkpoint, error) {
	a.t.Helper()
	activities := &Activities{
		VCenter: a.vcenter, Engine: &trigger.Engine{Temporal: a.temporal, TaskQueue: "q", Rules: a.rules},
		Source: "https://vc/sdk", Log: slog.New(slog.DiscardHandler),
	}
	a.env.RegisterActivity(activities.Checked(func(any) error { return nil }).Follow)
	value, err := a.env.ExecuteActivity(activities.Follow, FollowInput{Checkpoint: c, Timing: a.timing})
	if err != nil {
		return watchapi.Checkpoint{}, err
	}
	var out watchapi.Checkpoint
	if err := value.Get(&out); err != nil {
		a.t.Fatal(err)
	}
	return out, nil
}

func TestAnEventIsHandedOverAsSoonAsVCenterTellsOfIt(t *testing.T) {
	a := newAttempt(t)
	a.timing.Poll, a.timing.Lease = time.Hour, time.Hour
	a.vcenter.tells = make(chan []vcenter.StreamEvent)
	told := make(chan []string)
	go func() {
		a.vcenter.tells <- []vcenter.StreamEvent{streamed(t, 1, time.Now(), "cpu", "green", "red")}
		var ids []string
		for end := time.Now().Add(10 * time.Second); len(ids) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			ids = a.temporal.ids()
		}
		close(a.stop)
		told <- ids
	}()
	if _, err := a.follow(watchapi.Checkpoint{Reached: time.Now().Add(-time.Second)}); err != nil {
		t.Fatal(err)
	}
	if got := <-told; !slices.Equal(got, []string{"cpu@domain-c7@q"}) {
		t.Errorf("signalled were %v", got)
	}
}

func TestEventsAreHandedToTheirRulesAndTheCheckpointMovesBehindThem(t *testing.T) {
	a := newAttempt(t)
	now := time.Now()
	a.vcenter.pages = [][]vcenter.StreamEvent{
		{streamed(t, 1, now.Add(-3*time.Second), "cpu", "green", "yellow"), poweredOff(t, 2, now.Add(-2*time.Second), "vm-7")},
		{streamed(t, 3, now.Add(-time.Second), "cpu", "yellow", "red"), streamed(t, 4, now, "memory", "green", "red")},
	}
	a.vcenter.states = []vcenter.AlarmState{standing(t, now.Add(-time.Second), "cpu", "red"), standing(t, now, "memory", "red")}
	c, err := a.follow(watchapi.Checkpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.temporal.ids(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"cpu@domain-c7@q", "reconfigure@vm-7@q"}) {
		t.Errorf("signalled were %v", got)
	}
	if c.Events != 4 || c.Sent != 2 || c.Refused != 0 || c.VCenter != "https://vc/sdk" || c.Worker == "" || c.LookedAt.IsZero() {
		t.Errorf("%+v", c)
	}
	if len(c.Levels) != 1 || c.Levels[0].Colour != "red" || c.Reached.Before(now.Add(-time.Minute)) {
		t.Errorf("levels %+v, reached %s", c.Levels, c.Reached)
	}
	if !slices.Equal(a.vcenter.classes, []string{"AlarmStatusChangedEvent", "VmPoweredOffEvent"}) || a.vcenter.closed != 1 {
		t.Errorf("read were %v, %d readers closed", a.vcenter.classes, a.vcenter.closed)
	}
}

func TestAnotherAttemptGoesOnFromTheHeartbeat(t *testing.T) {
	a := newAttempt(t)
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	a.env.SetHeartbeatDetails(watchapi.Checkpoint{Reached: at, Seen: []watchapi.Mark{{Key: 1, Time: at}}, Events: 1})
	a.vcenter.pages = [][]vcenter.StreamEvent{{poweredOff(t, 1, at, "vm-1"), poweredOff(t, 2, at.Add(time.Second), "vm-2")}}
	c, err := a.follow(watchapi.Checkpoint{Reached: at.Add(-time.Hour)})
	if err != nil || c.Events != 2 || c.Sent != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if got := a.temporal.ids(); !slices.Equal(got, []string{"reconfigure@vm-2@q"}) {
		t.Errorf("an event that was handled is handed over again: %v", got)
	}
	if len(a.vcenter.opened) != 1 || !a.vcenter.opened[0].Equal(at.Add(-overlap)) {
		t.Errorf("read since %v, want %s", a.vcenter.opened, at.Add(-overlap))
	}
}

func TestAWorkerWithoutRulesLeavesTheWatchToAnother(t *testing.T) {
	a := newAttempt(t)
	a.rules = nil
	_, err := a.follow(watchapi.Checkpoint{})
	var failed *temporal.ApplicationError
	if !errors.As(err, &failed) || failed.Type() != errNoRules || failed.NextRetryDelay() == 0 {
		t.Errorf("%v", err)
	}
}

func TestAWorkerThatStopsReturnsItsCheckpoint(t *testing.T) {
	a := newAttempt(t)
	a.timing.Lease = time.Hour
	time.AfterFunc(30*time.Millisecond, func() { close(a.stop) })
	c, err := a.follow(watchapi.Checkpoint{})
	if err != nil || c.LookedAt.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWhileVCenterIsAwayTheWatchStaysAndSaysWhy(t *testing.T) {
	a := newAttempt(t)
	a.vcenter.err = &vcenter.Error{Op: "read", Object: "events", Kind: vcenter.Unavailable, Err: errors.New("no route")}
	c, err := a.follow(watchapi.Checkpoint{})
	if err != nil || !c.Away || !strings.Contains(c.Trouble, "no route") || c.Since.IsZero() || !c.LookedAt.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	b := newAttempt(t)
	b.vcenter.err = errors.New("odd")
	time.AfterFunc(50*time.Millisecond, func() { b.vcenter.change(func() { b.vcenter.err = nil }) })
	if c, err := b.follow(watchapi.Checkpoint{}); err != nil || c.Trouble != "" || c.Away || c.LookedAt.IsZero() {
		t.Errorf("after it is back: %+v, %v", c, err)
	}
}

func TestAnEventThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	a := newAttempt(t)
	now := time.Now()
	a.vcenter.pages = [][]vcenter.StreamEvent{{
		{Key: 1, Class: string(alarm.ClassAlarm), Time: now, JSON: []byte(`{`)},
		{Key: 2, Class: "DrsVmPoweredOnEvent", Time: now, JSON: poweredOff(t, 2, now, "vm-1").JSON},
		poweredOff(t, 3, now, "vm-2"),
	}}
	c, err := a.follow(watchapi.Checkpoint{})
	if got := a.temporal.ids(); err != nil || c.Events != 3 || !slices.Equal(got, []string{"reconfigure@vm-2@q"}) {
		t.Errorf("%v, %+v, %v", got, c, err)
	}
}

func TestAnEventThatCanNeverBeActedUponIsReported(t *testing.T) {
	a := newAttempt(t)
	a.rules = []trigger.Rule{{Alarm: "*", Action: trigger.Resize{}}}
	now := time.Now()
	a.vcenter.states = []vcenter.AlarmState{standing(t, now, "cpu", "red")}
	c, err := a.follow(watchapi.Checkpoint{})
	if err != nil || c.Refused != 1 || c.LastRefused == nil || !strings.Contains(c.LastRefused.Reason, "a resize wants an alarm on a VM") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAClockThatIsSetBackIsNoticed(t *testing.T) {
	a := newAttempt(t)
	reached := time.Now().Add(time.Hour)
	c, err := a.follow(watchapi.Checkpoint{Reached: reached})
	if err != nil || c.Reached.After(time.Now().Add(time.Second)) {
		t.Errorf("reached %s, %v", c.Reached, err)
	}
	if len(a.vcenter.opened) != 2 || a.vcenter.closed != 2 || a.vcenter.opened[1].After(time.Now()) {
		t.Errorf("read since %v, closed %d", a.vcenter.opened, a.vcenter.closed)
	}
}
