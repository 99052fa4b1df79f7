package watch

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// TestAFloodOfEventsIsNotCopiedForEachBatch hands over as many events as are read at once. A copy of what is left for
// each batch would take gigabytes.
func TestAFloodOfEventsIsNotCopiedForEachBatch(t *testing.T) {
	events := make([]event, maxUnhandled)
	place := map[string]int{}
	for i := range events {
		events[i].about.Queue, events[i].about.Subject = fmt.Sprint("queue ", i%1000), fmt.Sprint(i)
		place[events[i].about.Subject] = i
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	last, given := map[string]int{}, 0
	for rest := events; len(rest) > 0; {
		var batch []event
		batch, rest = sideBySide(rest)
		seen := map[string]bool{}
		for _, e := range batch {
			i := place[e.about.Subject]
			if earlier, ok := last[e.about.Queue]; ok && earlier >= i {
				t.Fatalf("event %d came after %d of the same queue", i, earlier)
			}
			if seen[e.about.Queue] {
				t.Fatalf("two events of %s are side by side", e.about.Queue)
			}
			seen[e.about.Queue], last[e.about.Queue] = true, i
		}
		given += len(batch)
	}
	runtime.ReadMemStats(&after)
	if given != len(events) {
		t.Fatalf("%d events of %d were given", given, len(events))
	}
	if most, took := uint64(100<<20), after.TotalAlloc-before.TotalAlloc; took > most {
		t.Errorf("%d MB were allocated for %d events", took>>20, given)
	}
}

func TestAnAlarmThatFellInWhatIsStillToBeReadStartsNothing(t *testing.T) {
	p, v := &fakeTemporal{}, &fakeVCenter{}
	f := newTestFollower(p, v)
	at := time.Now().Add(-time.Minute)
	var others []vcenter.StreamEvent
	for i := range maxUnhandled - 1 {
		others = append(others, poweredOff(t, int64(i+1), at, fmt.Sprint("vm-", i)))
	}
	v.pages = append(v.pages, others,
		[]vcenter.StreamEvent{streamed(t, maxUnhandled, at.Add(time.Second), "cpu", "green", "red")},
		[]vcenter.StreamEvent{streamed(t, maxUnhandled+1, at.Add(2*time.Second), "cpu", "red", "green")})
	for range 3 {
		f.poll(t.Context())
	}
	if sent := f.checkpoint.LastSent; f.checkpoint.Events != maxUnhandled+1 || f.checkpoint.Sent > 1 || sent != nil && sent.To != "green" {
		t.Errorf("of %d events, %d were handed over, the last was %+v", f.checkpoint.Events, f.checkpoint.Sent, sent)
	}
}

func TestWhileAFloodIsHandedOverLittleMemoryIsHeld(t *testing.T) {
	v := &fakeVCenter{}
	f := newTestFollower(&fakeTemporal{}, v)
	f.Engine.Rules = []trigger.Rule{{Alarm: "another", Action: trigger.Preempt{Tag: "spot"}}}
	at, page := time.Now().Add(-time.Minute), []vcenter.StreamEvent(nil)
	for i := range 4 * maxUnhandled {
		page = append(page, streamed(t, int64(i+1), at, fmt.Sprint("cpu ", i), "red", "green"))
		if len(page) == 1000 {
			v.pages, page = append(v.pages, page), nil
		}
	}
	all, most, before := slices.Clone(v.pages), uint64(0), inUse()
	f.beat = func(watchapi.Checkpoint) {
		if most == 0 && len(f.unhandled) > 0 {
			most = max(1, inUse()-min(before, inUse()))
		}
	}
	for range 5 {
		f.poll(t.Context())
	}
	if f.checkpoint.Events != 4*maxUnhandled {
		t.Fatalf("%d events were handled", f.checkpoint.Events)
	}
	runtime.KeepAlive(all)
	if t.Logf("%d MB", most>>20); most > 32<<20 {
		t.Errorf("%d MB are held while events are handed over", most>>20)
	}
}

// inUse is the memory that is in use.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
