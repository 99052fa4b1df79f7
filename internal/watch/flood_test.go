package watch

import (
	"fmt"
	"runtime"
	"testing"
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
