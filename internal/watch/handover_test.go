package watch

import (
	"fmt"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// A rule that resizes at red ignores the fall; the next red may be missed by the history and found by its state.
func TestARedIsFoundAgainAfterAFallThatItsRuleIgnored(t *testing.T) {
	al := alarm.Alarm{
		Name: "cpu", Ref: alarm.Object{Type: "Alarm", Value: "alarm-1"}, Entity: alarm.Object{Type: "VirtualMachine", Value: "vm-7"},
		Time: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC),
	}
	f := newTestFollower(nil, nil)
	f.Engine.Rules = []trigger.Rule{{Alarm: "cpu"}}
	turn := func(from, to string, verdict trigger.Verdict) {
		al.From, al.To, al.Time = from, to, al.Time.Add(time.Minute)
		f.account(changeOf(t, al), outcome{res: trigger.Result{Verdict: verdict, Rule: "cpu"}}, false)
	}
	found := func() bool {
		e := changeOf(t, al)
		return f.missedRise(&e)
	}
	turn("green", "red", trigger.Sent)
	if len(f.checkpoint.Levels) != 1 || found() {
		t.Fatalf("a red that was handed over is handed over again: %+v", f.checkpoint.Levels)
	}
	turn("red", "green", trigger.Ignored)
	if len(f.checkpoint.Levels) != 0 {
		t.Errorf("the fall is to be told at every comparison: %+v", f.checkpoint.Levels)
	}
	al.To = alarm.Red
	if !found() {
		t.Error("the next red is taken for the first")
	}
}

func TestTheCheckpointStaysBeforeAnEventThatWasNotTaken(t *testing.T) {
	p := &fakeTemporal{fails: map[string]error{"bad": serviceerror.NewInternal("?")}}
	f := newTestFollower(p, &fakeVCenter{})
	at := time.Now().Add(-time.Hour).UTC()
	f.checkpoint.Reached = at.Add(-time.Hour)
	f.unhandled = []vcenter.StreamEvent{
		streamed(t, 1, at, "good", "red", "green"), streamed(t, 2, at.Add(time.Second), "bad", "red", "green"),
		streamed(t, 3, at.Add(2*time.Second), "later", "red", "green"),
	}
	if err := f.handOver(t.Context(), f.decode(f.unhandled), false); err == nil {
		t.Fatal("it is not reported")
	}
	if !f.checkpoint.Reached.Equal(at) || len(f.unhandled) != 2 || len(p.taken) != 2 || f.checkpoint.Events != 2 {
		t.Errorf("reached %s with %d left, taken %v, %d handled", f.checkpoint.Reached, len(f.unhandled), p.taken, f.checkpoint.Events)
	}
}

func TestEventsOfOneScopeWaitForEachOther(t *testing.T) {
	p := &fakeTemporal{fails: map[string]error{"cpu": serviceerror.NewInternal("?")}}
	f := newTestFollower(p, &fakeVCenter{})
	at := time.Now().UTC()
	first, second := falls(t, "cpu")[0].Event.Alarm, falls(t, "cpu")[0].Event.Alarm
	second.Entity.Value, second.Time = "host-2", at
	events := []event{changeOf(t, first, watchapi.Mark{Key: 1, Time: at}), changeOf(t, second, watchapi.Mark{Key: 2, Time: at})}
	if err := f.handOver(t.Context(), events, false); err == nil || len(p.asked) != 1 {
		t.Errorf("%v, asked %v", err, p.asked)
	}
	for range patience {
		_ = f.handOver(t.Context(), unhandled(f, events), false)
	}
	if len(f.aside) != 2 {
		t.Errorf("%d are aside, want both", len(f.aside))
	}
}

func TestInAnOutageNotEveryEventIsTried(t *testing.T) {
	p := &fakeTemporal{fails: map[string]error{"": serviceerror.NewUnavailable("away")}}
	f := newTestFollower(p, &fakeVCenter{})
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprint("alarm-", i))
	}
	if err := f.handOver(t.Context(), falls(t, names...), false); err == nil || len(p.asked) != atOnce {
		t.Errorf("%v, %d tried", err, len(p.asked))
	}
	behind := &fakeTemporal{fails: map[string]error{"": &trigger.BacklogError{}}} // each one's own workflow is behind
	if err := newTestFollower(behind, &fakeVCenter{}).handOver(t.Context(), falls(t, names...), false); err == nil || len(behind.asked) != len(names) {
		t.Errorf("%v, %d tried", err, len(behind.asked))
	}
}

// After a change of workers the comparison of states finds an alarm again; nothing finds a power-off.
func TestAPowerOffIsTriedMoreOftenThanAnAlarmBeforeItIsSetAside(t *testing.T) {
	for name, c := range map[string]struct {
		event vcenter.StreamEvent
		polls int
	}{
		"an alarm":    {streamed(t, 1, time.Now(), "bad", "red", "green"), patience},
		"a power-off": {poweredOff(t, 1, time.Now(), "vm-bad"), longPatience},
	} {
		p := &fakeTemporal{fails: map[string]error{"bad": serviceerror.NewInternal("?")}}
		f := newTestFollower(p, &fakeVCenter{})
		f.Engine.Rules = append(f.Engine.Rules, trigger.Rule{Class: alarm.ClassPoweredOff, Action: trigger.Reconfigure{}})
		polls := 1
		for ; f.handOver(t.Context(), f.decode([]vcenter.StreamEvent{c.event}), false) != nil; polls++ {
			if polls > 2*longPatience {
				t.Fatalf("%s is never set aside", name)
			}
		}
		if polls != c.polls || len(f.aside) != 1 {
			t.Errorf("%s is set aside after %d polls, want %d", name, polls, c.polls)
		}
	}
}

func TestANewerEventTakesThePlaceOfOneThatIsAside(t *testing.T) {
	f := newTestFollower(&fakeTemporal{}, &fakeVCenter{})
	old := falls(t, "cpu", "memory")
	for _, e := range old {
		f.setAside(e, serviceerror.NewInternal("?"))
		f.aside[e.about.Subject].next = time.Time{}
	}
	if due := f.asideDue(falls(t, "cpu")); len(due) != 1 || due[0].about.Subject != old[1].about.Subject {
		t.Errorf("due are %+v", due)
	}
	if err := f.handOver(t.Context(), falls(t, "cpu"), false); err != nil || len(f.aside) != 1 || f.checkpoint.AsideCount != 1 {
		t.Errorf("%v, %d aside", err, len(f.aside))
	}
}

func TestWhatWasHandedOverIsKnownByItsTimeOrWhenItWasCaught(t *testing.T) {
	at := time.Now().UTC()
	for name, c := range map[string]struct {
		level watchapi.Level
		to    string
		at    time.Time
		want  bool
	}{
		"the same change":                        {level("cpu", "red", at), "red", at, true},
		"another colour":                         {level("cpu", "red", at), "yellow", at, false},
		"the next change to this colour":         {level("cpu", "red", at), "red", at.Add(time.Second), false},
		"the event of a state that was caught":   {watchapi.Level{Caught: true}, "red", at.Add(30 * time.Second), true},
		"an event long after it was caught":      {watchapi.Level{Caught: true}, "red", at.Add(2 * time.Minute), false},
		"an alarm of which nothing was recorded": {level("memory", "red", at), "red", at, false},
	} {
		f := newTestFollower(nil, nil)
		if c.level.Caught {
			c.level = level("cpu", "red", at)
			c.level.Caught = true
		}
		f.checkpoint.Levels = []watchapi.Level{c.level}
		change := falls(t, "cpu")[0].Event.Alarm
		change.To, change.Time = c.to, c.at
		if got := f.handedOver(changeOf(t, change)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheCheckpointDoesNotMoveIntoTheFutureAndForgetsWhatIsLongOver(t *testing.T) {
	v := &fakeVCenter{}
	f := newTestFollower(&fakeTemporal{}, v)
	now := time.Now().UTC()
	f.checkpoint.Reached = now.Add(-time.Hour)
	f.handled.add(watchapi.Mark{Key: 1, Time: now.Add(-time.Hour)})
	v.pages = [][]vcenter.StreamEvent{{
		streamed(t, 2, now, "cpu", "red", "green"), streamed(t, 3, now.Add(time.Hour), "memory", "red", "green"), // stamped before the clock was set back
	}}
	if err := f.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !f.checkpoint.Reached.Equal(now) || f.checkpoint.Events != 2 || len(f.handled.newest()) != 2 {
		t.Errorf("reached %s, %d handled, known are %v", f.checkpoint.Reached, f.checkpoint.Events, f.handled.newest())
	}
}
