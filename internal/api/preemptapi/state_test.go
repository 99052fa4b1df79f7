package preemptapi

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEachStateAndOutcomeHasWords(t *testing.T) {
	for _, s := range RoundStates() {
		if !strings.HasPrefix(s.Words(), string(s)) {
			t.Errorf("the words of %s are %q", s, s.Words())
		}
	}
	for _, o := range RestoreOutcomes() {
		if restoreOutcomeWords[o] == "" {
			t.Errorf("%s has no words", o)
		}
	}
	if got := RestoreOutcome("left_for_good").Words(); got != "left for good" {
		t.Errorf("an unknown outcome is %q", got)
	}
}

func TestARoundThatHasEndedHasActedOnEverything(t *testing.T) {
	for _, s := range FinalRoundStates() {
		if !s.Settled() {
			t.Errorf("%s is final, and not settled", s)
		}
	}
	if RoundWaiting.Settled() || !RoundWatching.Settled() || !RoundState("later").Settled() {
		t.Error("other states are settled")
	}
}

func TestStatesAreStringsOnTheWire(t *testing.T) {
	for value, want := range map[any]string{
		RoundNotified: `"notified"`, RestoreRefused: `"refused"`, OutcomeWouldPowerOn: `"would_powerOn"`, HandedOn: `"handed_on"`, IntakeIdle: `"idle"`,
	} {
		if got, err := json.Marshal(value); err != nil || string(got) != want {
			t.Errorf("%v: %s, %v", value, got, err)
		}
	}
}
