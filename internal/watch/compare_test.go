package watch

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// level is an alarm on the host as a checkpoint has it after it was handed over.
func level(name, colour string, at time.Time) watchapi.Level {
	return watchapi.Level{
		Alarm:  watchapi.Object{Type: "Alarm", Value: "alarm-" + name, Name: name},
		Entity: watchapi.Object{Type: host.Type, Value: host.Value}, Scope: watchapi.Object{Type: cluster.Type, Value: cluster.Value},
		Colour: colour, Time: at,
	}
}

func TestTheStatesOfAlarmsMakeUpForWhatTheHistoryLacks(t *testing.T) {
	now := time.Now().UTC()
	before := now.Add(-time.Hour)
	for name, c := range map[string]struct {
		states, unseen []vcenter.AlarmState
		status         map[string]vcenter.AlarmState
		levels         []watchapi.Level
		fresh          []vcenter.StreamEvent
		want           []string // what was sent, of which alarm
		caught         int64
	}{
		"nothing is up":                               {},
		"an alarm is up of which no event tells":      {states: []vcenter.AlarmState{standing(t, now, "cpu", "red")}, want: []string{"cpu red"}, caught: 1},
		"an alarm rose further":                       {states: []vcenter.AlarmState{standing(t, now, "cpu", "red")}, levels: []watchapi.Level{level("cpu", "yellow", before)}, want: []string{"cpu red"}, caught: 1},
		"an alarm stands as it was handed over":       {states: []vcenter.AlarmState{standing(t, now, "cpu", "red")}, levels: []watchapi.Level{level("cpu", "red", before)}},
		"an alarm fell":                               {status: map[string]vcenter.AlarmState{"cpu": {Colour: "green", Time: now}}, levels: []watchapi.Level{level("cpu", "red", before)}, want: []string{"cpu green"}, caught: 1},
		"an alarm fell, by an older time":             {status: map[string]vcenter.AlarmState{"cpu": {Colour: "green", Time: before.Add(-time.Hour)}}, levels: []watchapi.Level{level("cpu", "red", before)}, want: []string{"cpu green"}, caught: 1},
		"an alarm, or its entity, is gone":            {levels: []watchapi.Level{level("cpu", "red", before)}, want: []string{"cpu green"}, caught: 1},
		"an alarm is up again this moment":            {status: map[string]vcenter.AlarmState{"cpu": {Colour: "yellow", Time: now}}, levels: []watchapi.Level{level("cpu", "red", before)}},
		"an alarm that vCenter does not show":         {unseen: []vcenter.AlarmState{{Alarm: vsphere.Ref{Type: "Alarm", Value: "alarm-cpu"}, Entity: host}}, levels: []watchapi.Level{level("cpu", "red", before)}},
		"an alarm rose and fell while nobody read":    {fresh: []vcenter.StreamEvent{streamed(t, 1, before, "cpu", "green", "red")}},
		"an event agrees with the state":              {states: []vcenter.AlarmState{standing(t, now, "cpu", "red")}, fresh: []vcenter.StreamEvent{streamed(t, 1, now, "cpu", "green", "red")}, want: []string{"cpu red"}},
		"an event is older than the state":            {states: []vcenter.AlarmState{standing(t, now, "cpu", "red")}, fresh: []vcenter.StreamEvent{streamed(t, 1, before, "cpu", "green", "yellow")}, want: []string{"cpu red"}, caught: 1},
		"a state that cannot be read":                 {states: []vcenter.AlarmState{{Name: "odd", Entity: host, JSON: []byte(`{}`)}, standing(t, now, "cpu", "red")}, want: []string{"cpu red"}, caught: 1},
		"a power-off that no rule is on":              {fresh: []vcenter.StreamEvent{poweredOff(t, 1, before, "vm-1")}},
		"a fall of an alarm that was not handed over": {fresh: []vcenter.StreamEvent{streamed(t, 1, before, "cpu", "red", "green")}, want: []string{"cpu green"}},
	} {
		t.Run(name, func(t *testing.T) {
			v, p := &fakeVCenter{states: c.states, unseen: c.unseen, status: c.status}, &fakeTemporal{}
			f := newTestFollower(p, v)
			f.reader, f.compared, f.checkpoint.Levels, f.unhandled = fakeReader{v}, false, c.levels, c.fresh
			if err := f.compare(t.Context(), f.decode(f.unhandled)); err != nil {
				t.Fatal(err)
			}
			var got []string
			if last := f.checkpoint.LastSent; last != nil {
				got = append(got, last.Alarm+" "+last.To)
			}
			if !slices.Equal(got, c.want) || len(p.taken) != len(c.want) || f.checkpoint.Caught != c.caught || !f.compared {
				t.Errorf("sent %v to %v, %d of them by states; want %v, %d", got, p.taken, f.checkpoint.Caught, c.want, c.caught)
			}
			if last := f.checkpoint.LastSent; last != nil && len(c.levels) > 0 && !last.Time.After(before) {
				t.Errorf("the change has the time %s, and the one before it %s", last.Time, before)
			}
			if again := f.compare(t.Context(), nil); again != nil || len(p.taken) != len(c.want) {
				t.Errorf("compared again: %v, sent %v", again, p.taken)
			}
		})
	}
}

func TestStatesThatCannotBeReadAreReadAgain(t *testing.T) {
	v, p := &fakeVCenter{err: errors.New("away")}, &fakeTemporal{}
	f := newTestFollower(p, v)
	f.reader, f.compared = fakeReader{v}, false
	if err := f.compare(t.Context(), nil); err == nil || f.compared {
		t.Errorf("%v, compared %v", err, f.compared)
	}
	v.err = nil
	f.checkpoint.Levels = []watchapi.Level{level("cpu", "red", time.Now())}
	if err := f.compare(t.Context(), nil); err != nil || len(p.taken) != 1 || len(f.checkpoint.Levels) != 0 {
		t.Errorf("%v, sent %v, levels %+v", err, p.taken, f.checkpoint.Levels)
	}
}

func TestStatesAreComparedAfterAGapAndNowAndThen(t *testing.T) {
	v := &fakeVCenter{}
	f := newTestFollower(&fakeTemporal{}, v)
	f.reader = fakeReader{v}
	if f.compareDue() {
		t.Error("due although they were compared just now")
	}
	v.reopened = 1
	if !f.compareDue() {
		t.Error("not due after a gap")
	}
	v.reopened, f.checkpoint.Compared = 0, time.Now().Add(-2*time.Hour)
	if !f.compareDue() {
		t.Error("not due after a long time")
	}
}

func TestAnAlarmThatFellAndRoseAgainBetweenTwoLooksHasRisen(t *testing.T) {
	at := time.Now().Add(-time.Minute).UTC()
	for colours, want := range map[string]string{
		"red green red":           "red-green green-red",
		"red yellow red":          "red-yellow yellow-red",
		"red green yellow":        "red-green green-yellow",
		"red yellow green red":    "red-green green-red",
		"red green red green red": "red-green green-red",
		"yellow red green yellow": "yellow-green green-yellow",
		"green yellow red":        "green-red",
		"green red yellow":        "green-yellow",
		"green red green":         "green-green",
		"red yellow green":        "red-green",
		"red gray red":            "red-red",
		"gray red":                "gray-red",
		"gray green red":          "gray-green green-red",
		"yellow red yellow gray":  "yellow-gray",
	} {
		had := strings.Fields(colours)
		var read []vcenter.StreamEvent
		for i, to := range had[1:] {
			read = append(read, streamed(t, int64(i+1), at.Add(time.Duration(i)*time.Second), "cpu", had[i], to))
		}
		var got []string
		marks := 0
		for _, e := range newTestFollower(&fakeTemporal{}, &fakeVCenter{}).decode(read) {
			got = append(got, e.Event.Alarm.From+"-"+e.Event.Alarm.To)
			marks += len(e.marks)
		}
		if strings.Join(got, " ") != want || marks != len(read) {
			t.Errorf("%s: %q with %d marks, want %q with %d", colours, got, marks, want, len(read))
		}
	}
}

func TestAnAlarmThatFallsAndRisesAgainSoonAfterItWasFoundUpHasRisen(t *testing.T) {
	p := &fakeTemporal{}
	f := newTestFollower(p, &fakeVCenter{})
	at := time.Now().Add(-time.Minute).UTC()
	if err := f.handOver(t.Context(), f.decode([]vcenter.StreamEvent{streamed(t, 1, at, "cpu", "green", "red")}), true); err != nil {
		t.Fatal(err)
	}
	again := []vcenter.StreamEvent{
		streamed(t, 2, at.Add(10*time.Second), "cpu", "red", "green"), streamed(t, 3, at.Add(11*time.Second), "cpu", "green", "red"),
	}
	if left := f.withoutHandedOver(f.decode(again)); len(left) != 2 {
		t.Errorf("of a fall and the next rise %d are to be handed over", len(left))
	}
	// The history holds the first rise too: it was handed over by its state, so what follows is no part of it.
	first := streamed(t, 5, at.Add(time.Second), "cpu", "green", "red")
	if left := f.withoutHandedOver(f.decode(append([]vcenter.StreamEvent{first}, again...))); len(left) != 2 || left[0].Event.Alarm.To != "green" {
		t.Errorf("of a rise that was found, its fall and the next rise these are to be handed over: %+v", left)
	}
	// And where the next rise was found, the first rise and the fall are over.
	found := newTestFollower(p, &fakeVCenter{})
	if err := found.handOver(t.Context(), found.decode(again[1:]), true); err != nil {
		t.Fatal(err)
	}
	found.handled.known = map[watchapi.Mark]bool{} // the state has no key
	if left := found.withoutHandedOver(found.decode(append([]vcenter.StreamEvent{first}, again...))); len(left) != 0 {
		t.Errorf("of a rise that was found, what was before it is handed over: %+v", left)
	}
	same := []vcenter.StreamEvent{streamed(t, 4, at.Add(time.Second), "cpu", "green", "red")}
	if left := f.withoutHandedOver(f.decode(same)); len(left) != 0 {
		t.Error("the event of the rise that was found is handed over again")
	}
}

func TestOfManyChangesOfOneAlarmTheLastCounts(t *testing.T) {
	at := time.Now().Add(-time.Minute).UTC()
	f := newTestFollower(&fakeTemporal{}, &fakeVCenter{})
	events := f.decode([]vcenter.StreamEvent{
		streamed(t, 1, at, "cpu", "green", "yellow"), poweredOff(t, 2, at, "vm-1"), poweredOff(t, 3, at, "vm-1"),
		streamed(t, 5, at.Add(2*time.Second), "cpu", "yellow", "red"), streamed(t, 4, at.Add(time.Second), "cpu", "red", "green"),
	})
	if len(events) != 3 {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	last := events[2]
	if last.Event.Alarm.From != "green" || last.Event.Alarm.To != "red" || len(last.marks) != 3 {
		t.Errorf("%+v", last)
	}
	if e, err := newEvent(trigger.Incoming{Event: alarm.Event{Class: "VmMigratedEvent"}}); err == nil {
		t.Errorf("an event of a class that nobody handles is taken: %+v", e)
	}
}

func TestWhatWasSetAsideIsDroppedWhenTheAlarmIsOver(t *testing.T) {
	v := &fakeVCenter{}
	f := newTestFollower(&fakeTemporal{}, v)
	f.reader = fakeReader{v}
	now := time.Now()
	for _, e := range f.decode([]vcenter.StreamEvent{streamed(t, 1, now, "cpu", "green", "red"), streamed(t, 2, now, "memory", "green", "red")}) {
		f.setAside(e, errors.New("no"))
	}
	v.states = []vcenter.AlarmState{standing(t, now, "memory", "red")}
	if err := f.compare(t.Context(), nil); err != nil || len(f.aside) != 1 || f.checkpoint.AsideCount != 1 {
		t.Errorf("%v, aside %+v", err, f.checkpoint.Aside)
	}
	if f.checkpoint.Sent != 0 {
		t.Error("what is aside is sent by the comparison as well")
	}
}

func TestTooManyEventsAsideAreGivenUp(t *testing.T) {
	f := newTestFollower(&fakeTemporal{}, &fakeVCenter{})
	var names []string
	for i := range maxAside + 2 {
		names = append(names, string(rune('a'+i%26))+time.Duration(i).String())
	}
	for _, e := range falls(t, names...) {
		f.setAside(e, errors.New("no"))
	}
	if len(f.aside) != maxAside || f.checkpoint.AsideCount != maxAside || len(f.checkpoint.Aside) != maxShown || f.checkpoint.Events != maxAside+2 {
		t.Errorf("%d aside, %d shown, %d handled", len(f.aside), len(f.checkpoint.Aside), f.checkpoint.Events)
	}
}

func TestAnAlarmWhoseEventWaitsIsNotMadeUpByItsState(t *testing.T) {
	now := time.Now()
	v, p := &fakeVCenter{states: []vcenter.AlarmState{standing(t, now, "cpu", "red")}}, &fakeTemporal{fails: map[string]error{"cpu": errors.New("odd")}}
	f := newTestFollower(p, v)
	f.reader, f.compared = fakeReader{v}, false
	f.unhandled = []vcenter.StreamEvent{streamed(t, 1, now, "cpu", "green", "red")}
	if err := f.compare(t.Context(), f.decode(f.unhandled)); err == nil || f.compared || len(p.asked) != 1 {
		t.Errorf("%v, compared %v, asked %v", err, f.compared, p.asked)
	}
}
