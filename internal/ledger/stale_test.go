package ledger

import (
	"reflect"
	"testing"
)

func TestAStalePlanIsRefused(t *testing.T) {
	cases := map[string]struct {
		do    func(s *State) // after the facts of round a
		scope string         // of its plan
		stale bool
	}{
		"nothing changed":                                    {do: func(*State) {}, scope: "c1"},
		"another reserved in an overlapping scope":           {do: func(s *State) { s.scope("").Active = "c"; s.Reserve(reserving("c", "vm-1")) }, scope: "c1", stale: true},
		"another reserved in another scope":                  {do: func(s *State) { s.Reserve(reserving("b", "vm-1")) }, scope: "c1"},
		"another reserved, and the budget spans scopes":      {do: func(s *State) { s.Reserve(reserving("b", "vm-1")) }, stale: true},
		"one without a scope reserved to evict":              {do: func(s *State) { s.Reserve(reserving("c", "vm-1")) }, scope: "c1", stale: true},
		"one without a scope reserved and evicts nobody":     {do: func(s *State) { s.Reserve(ReserveRequest{Owner: "resize", VMs: []string{"vm-1"}}) }, scope: "c1"},
		"a refused reservation changes nothing":              {do: func(s *State) { s.Reserve(reserving("b", "held")) }},
		"a reservation of nobody changes nothing":            {do: func(s *State) { s.Reserve(ReserveRequest{Owner: "b"}) }},
		"an overlapping reservation was released":            {do: func(s *State) { s.Complete(at(2), completed("earlier", "c1")) }, scope: "c1", stale: true},
		"a reservation was released elsewhere":               {do: func(s *State) { s.Complete(at(2), completed("earlier", "c1")) }, scope: "c2"},
		"an owner that ended without a word was released":    {do: func(s *State) { s.Drop([]string{"earlier"}, true) }, scope: "c1", stale: true},
		"a VM went that was not under way":                   {do: func(s *State) { s.Evicted(at(2), evicted("x", "c1", gone(2, "vm-1", 1))) }, scope: "c1", stale: true},
		"a VM went elsewhere that was not under way":         {do: func(s *State) { s.Evicted(at(2), evicted("b", "c2", gone(2, "vm-1", 1))) }, scope: "c1"},
		"a VM went that was under way":                       {do: func(s *State) { s.Evicted(at(2), evicted("earlier", "c1", gone(2, "held", 1))) }, scope: "c1"},
		"a VM went by another hand than was to evict it":     {do: func(s *State) { s.Evicted(at(2), evicted("x", "c1", gone(2, "held", 1))) }, scope: "c1", stale: true},
		"an eviction was told again":                         {do: func(s *State) { s.Evicted(at(2), evicted("old", "c1", gone(0, "vm-8", 1))) }, scope: "c1"},
		"the scope that changed was forgotten since":         {do: func(s *State) { s.Evicted(at(2), evicted("x", "c3", gone(2, "vm-1", 1))); s.forget(at(2)) }, scope: "c3", stale: true},
		"a scope was forgotten that had changed long before": {do: func(s *State) { s.forget(at(2)) }, scope: "c1"},
		"the facts were those of a ledger before this one":   {do: func(s *State) { *s = twoRounds() }, scope: "c1", stale: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := twoRounds()
			s.Evicted(t0, evicted("old", "c1", gone(0, "vm-8", 1)))
			s.Evicted(t0, evicted("old", "c3", gone(0, "vm-9", 1)))
			s.scope("c3").Changed = s.Version
			s.scope("c1").Active = "earlier"
			s.Reserve(reserving("earlier", "held"))
			facts := s.Facts(at(1), FactsRequest{Owner: "a", Scope: c.scope})
			c.do(&s)
			s = roundTrip(t, s)
			want := roundTrip(t, s)
			r := reserving("a", "vm-2")
			r.Seen, r.Scope = facts.Version, c.scope
			got := s.Reserve(r)
			if got.Stale != c.stale || got.Granted == c.stale {
				t.Fatalf("%+v, want stale: %v", got, c.stale)
			}
			if c.stale && !reflect.DeepEqual(s, want) {
				t.Errorf("a refusal changed the state: %+v, was %+v", s, want)
			}
			r.Seen = s.Facts(at(3), FactsRequest{Owner: "a", Scope: c.scope}).Version
			if got := s.Reserve(r); !got.Granted {
				t.Errorf("planned again: %+v", got)
			}
		})
	}
}

func TestOnlyRequestsThatTellWhatTheySawAreRefusedAsStale(t *testing.T) {
	s := twoRounds()
	s.Facts(t0, FactsRequest{Owner: "a", Scope: "c1"})
	s.Reserve(reserving("c", "vm-1"))
	if got := s.Reserve(reserving("a", "vm-2")); !got.Granted || got.Stale {
		t.Errorf("%+v", got)
	}
}

func TestOfTwoPlansAtOnceOneIsMadeAgain(t *testing.T) {
	s := twoRounds()
	first := s.Facts(t0, FactsRequest{Owner: "a", Scope: "c1"})
	second := s.Facts(t0, FactsRequest{Owner: "b", Scope: "c2"})
	ra, rb := reserving("a", "web-1"), reserving("b", "web-2") // of one application group
	ra.Seen, rb.Seen = first.Version, second.Version
	if got := s.Reserve(ra); !got.Granted {
		t.Fatalf("the first: %+v", got)
	}
	if got := s.Reserve(rb); got.Granted || !got.Stale {
		t.Fatalf("the second: %+v", got)
	}
	again := s.Facts(t0, FactsRequest{Owner: "b", Scope: "c2"})
	if !reflect.DeepEqual(again.Reserved, []string{"web-1"}) {
		t.Errorf("the second does not learn of the first: %+v", again)
	}
}

func TestAStaleRequestLearnsOfConflictsToo(t *testing.T) {
	s := twoRounds()
	seen := s.Facts(t0, FactsRequest{Owner: "a"}).Version
	s.Reserve(reserving("b", "vm-1"))
	r := reserving("a", "vm-1", "vm-2")
	r.Seen = seen
	if got, want := s.Reserve(r), (Reservation{Stale: true, Conflicts: []string{"vm-1"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
