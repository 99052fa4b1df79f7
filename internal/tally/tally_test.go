package tally

import (
	"fmt"
	"testing"
)

func TestWhatIsCountedAgainByARetriedTaskCountsOnce(t *testing.T) {
	m := newMemory(10)
	for attempt := range 3 {
		for n := 1; n <= 5; n++ {
			if got := m.reach("run", "off", n); got != (attempt == 0) {
				t.Errorf("attempt %d, the %d-th: counted is %v", attempt+1, n, got)
			}
		}
	}
	if !m.reach("run", "off", 6) {
		t.Error("what goes beyond the attempts before was not counted")
	}
	if !m.reach("run", "spared", 1) || !m.reach("another run", "off", 1) {
		t.Error("another count, or another run, was taken for the same")
	}
}

func TestTheMemoryOfCountsStaysBounded(t *testing.T) {
	m := newMemory(10)
	for i := range 1000 {
		m.reach("kept", "off", i+1)
		m.reach(fmt.Sprint(i), "off", 1)
	}
	if m.last.Len() != 10 || len(m.runs) != 10 {
		t.Errorf("%d runs are remembered, in a list of %d, want 10", len(m.runs), m.last.Len())
	}
	if m.reach("kept", "off", 1000) {
		t.Error("a run that goes on counting was forgotten")
	}
}

func TestTheOrderOfTagsMakesNoOtherCount(t *testing.T) {
	tags := map[string]string{"action": "powerOff", "outcome": "failed", "kind": "x"}
	for range 50 {
		if keyOf("n", tags) != keyOf("n", map[string]string{"kind": "x", "outcome": "failed", "action": "powerOff"}) {
			t.Fatal("the same tags give two keys")
		}
	}
}
