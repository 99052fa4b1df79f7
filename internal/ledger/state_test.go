package ledger

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }

func ask(id, scope string, rank int) AdmitRequest {
	return AdmitRequest{RequestID: id, Scope: scope, Owner: "round-" + id, Rank: rank}
}

func end(id, scope string, preempted, rank int) CompleteRequest {
	return CompleteRequest{Owner: "round-" + id, Scope: scope, Preempted: preempted, Rank: rank, Cooldown: time.Minute}
}

func TestAdmission(t *testing.T) {
	type step struct {
		at       int
		ask      *AdmitRequest
		complete *CompleteRequest
		want     Verdict
		until    int
	}
	a := func(sec int, r AdmitRequest, want Verdict) step { return step{at: sec, ask: &r, want: want} }
	cool := func(sec int, r AdmitRequest, until int) step {
		return step{at: sec, ask: &r, want: Cooldown, until: until}
	}
	c := func(sec int, r CompleteRequest) step { return step{at: sec, complete: &r} }
	cases := map[string][]step{
		"one round at a time in a scope":                       {a(0, ask("1", "c1", 3), Granted), a(1, ask("2", "c1", 3), Busy)},
		"two scopes do not hold each other back":               {a(0, ask("1", "c1", 3), Granted), a(1, ask("2", "c2", 3), Granted)},
		"everything overlaps every scope":                      {a(0, ask("1", "", 3), Granted), a(1, ask("2", "c1", 3), Busy)},
		"asked again after a lost answer it is granted":        {a(0, ask("1", "c1", 3), Granted), a(1, ask("1", "c1", 3), Granted)},
		"a request acted on is a duplicate":                    {a(0, ask("1", "c1", 3), Granted), c(1, end("1", "c1", 2, 3)), a(300, ask("1", "c1", 3), Duplicate)},
		"a cooldown follows a round that preempted":            {a(0, ask("1", "c1", 3), Granted), c(10, end("1", "c1", 2, 3)), cool(11, ask("2", "c1", 3), 70), a(71, ask("2", "c1", 3), Granted)},
		"an empty round starts no cooldown":                    {a(0, ask("1", "c1", 3), Granted), c(10, end("1", "c1", 0, 3)), a(11, ask("2", "c1", 3), Granted)},
		"what is refused does not extend the cooldown":         {a(0, ask("1", "c1", 3), Granted), c(10, end("1", "c1", 2, 3)), cool(60, ask("2", "c1", 3), 70), cool(69, ask("3", "c1", 3), 70), a(71, ask("4", "c1", 3), Granted)},
		"a raise is honoured at once":                          {a(0, ask("1", "c1", 1), Granted), c(10, end("1", "c1", 2, 1)), a(11, ask("2", "c1", 3), Granted)},
		"a flap buys no second set":                            {a(0, ask("1", "c1", 2), Granted), c(10, end("1", "c1", 2, 2)), a(11, ask("2", "c1", 3), Granted), c(12, end("2", "c1", 1, 3)), cool(13, ask("3", "c1", 3), 72)},
		"an empty repetition keeps the highest rank":           {a(0, ask("1", "c1", 3), Granted), c(10, end("1", "c1", 2, 3)), a(71, ask("2", "c1", 1), Granted), c(72, end("2", "c1", 0, 1)), a(73, ask("3", "c1", 1), Granted)},
		"a completion told twice counts once":                  {a(0, ask("1", "c1", 3), Granted), c(10, end("1", "c1", 2, 3)), c(40, end("1", "c1", 2, 3)), a(71, ask("2", "c1", 3), Granted)},
		"the cooldown of one scope holds everything back":      {a(0, ask("1", "c1", 3), Granted), c(10, end("1", "c1", 2, 3)), cool(11, ask("2", "", 3), 70)},
		"the cooldown of one scope does not hold back another": {a(0, ask("1", "c1", 3), Granted), c(10, end("1", "c1", 2, 3)), a(11, ask("2", "c2", 3), Granted)},
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			var s State
			for i, st := range steps {
				s = roundTrip(t, s)
				if st.complete != nil {
					s.Complete(at(st.at), *st.complete)
					continue
				}
				got := s.Admit(at(st.at), *st.ask)
				if got.Verdict != st.want {
					t.Fatalf("step %d: %+v, want %s", i, got, st.want)
				}
				if st.until > 0 && !got.Until.Equal(at(st.until)) {
					t.Errorf("step %d: until %s, want %s", i, got.Until, at(st.until))
				}
			}
		})
	}
}

// roundTrip sends the state through JSON, as continue-as-new does.
func roundTrip(t *testing.T, s State) State {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out State
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTwoWorkflowsNeverReserveOneVM(t *testing.T) {
	var s State
	if got := s.Reserve(ReserveRequest{Owner: "a", VMs: []string{"vm-1", "vm-2"}}); !got.Granted {
		t.Fatal(got)
	}
	got := s.Reserve(ReserveRequest{Owner: "b", VMs: []string{"vm-2", "vm-3"}})
	if got.Granted || !reflect.DeepEqual(got.Conflicts, []string{"vm-2"}) {
		t.Fatalf("want vm-2 in conflict and nothing granted, got %+v", got)
	}
	if got := s.Reserve(ReserveRequest{Owner: "a", VMs: []string{"vm-3"}}); !got.Granted {
		t.Fatalf("an owner may replace what it holds: %+v", got)
	}
	if got := s.Reserve(ReserveRequest{Owner: "b", VMs: []string{"vm-1", "vm-2"}}); !got.Granted {
		t.Fatalf("what an owner gave up is free: %+v", got)
	}
	s.Complete(t0, CompleteRequest{Owner: "b", Scope: "c1"})
	if got := s.Reserve(ReserveRequest{Owner: "a", VMs: []string{"vm-1", "vm-2", "vm-3"}}); !got.Granted {
		t.Fatalf("a completed round holds nothing: %+v", got)
	}
}

func TestWhatEndedOwnersHeldIsReleased(t *testing.T) {
	var s State
	s.Admit(t0, ask("1", "c1", 3))
	s.Reserve(ReserveRequest{Owner: "round-1", VMs: []string{"vm-1"}})
	if owners := s.Owners(t0); len(owners) != 0 {
		t.Fatalf("a round admitted a moment ago may not have started yet: %v", owners)
	}
	if owners := s.Owners(at(60)); !reflect.DeepEqual(owners, []string{"round-1"}) {
		t.Fatalf("owners %v", owners)
	}
	s.Drop([]string{"round-1"}, true)
	if got := s.Admit(at(61), ask("2", "c1", 3)); got.Verdict != Granted {
		t.Fatalf("the scope is still held: %+v", got)
	}
	if len(s.Reserved) != 0 {
		t.Fatalf("VMs are still held: %v", s.Reserved)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	var s State
	for i := range 3 * maxSeen {
		id := at(i).String()
		s.Admit(at(i), ask(id, "c1", 3))
		s.Complete(at(i), end(id, "c1", 0, 3))
	}
	if len(s.Seen) > maxSeen+1 {
		t.Errorf("%d requests are remembered", len(s.Seen))
	}
	s.Admit(at(0).Add(72*time.Hour), ask("late", "c2", 3))
	if len(s.Seen) != 1 || len(s.Scopes) != 1 {
		t.Errorf("after three days %d requests and %d scopes are remembered", len(s.Seen), len(s.Scopes))
	}
}

func TestARoundThatWasAdmittedAndNeverBeganMayBeginAfterAll(t *testing.T) {
	var s State
	req := AdmitRequest{RequestID: "r", Scope: "c", Owner: "round-1", Rank: 3}
	if got := s.Admit(t0, req); got.Verdict != Granted {
		t.Fatalf("first: %+v", got)
	}
	s.Drop([]string{"round-1"}, true) // its intake's worker died before it was started, and the sweep found nobody
	if got := s.Admit(t0.Add(time.Minute), req); got.Verdict != Granted || s.Scopes["c"].Active != "round-1" {
		t.Fatalf("asked again: %+v", got)
	}
	if got := s.Admit(t0.Add(time.Minute), AdmitRequest{RequestID: "r", Scope: "c", Owner: "round-2", Rank: 3}); got.Verdict != Duplicate {
		t.Errorf("another owner: %+v", got)
	}
	s.Complete(t0.Add(2*time.Minute), CompleteRequest{Owner: "round-1", Scope: "c"})
	if got := s.Admit(t0.Add(3*time.Minute), req); got.Verdict != Duplicate {
		t.Errorf("after its end: %+v", got)
	}
}
