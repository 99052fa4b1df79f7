package ledger

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// twoRounds is a state with a round a in scope c1 and a round b in scope c2.
func twoRounds() State {
	var s State
	s.Admit(t0, AdmitRequest{RequestID: "1", Scope: "c1", Owner: "a"})
	s.Admit(t0, AdmitRequest{RequestID: "2", Scope: "c2", Owner: "b"})
	return s
}

func load(n int64) Load { return Load{Host: "h1", CPUMHz: n, MemoryMB: 10 * n} }

// reserving asks for VMs that are to be evicted, each with a load.
func reserving(owner string, vms ...string) ReserveRequest {
	r := ReserveRequest{Owner: owner, VMs: vms, Loads: map[string]Load{}}
	for i, vm := range vms {
		r.Loads[vm] = load(int64(i + 1))
	}
	return r
}

func gone(second int, vm string, n int64) Evicted {
	return Evicted{VM: vm, Host: "h1", CPUMHz: n, MemoryMB: 10 * n, Time: at(second)}
}

func evicted(owner, scope string, e ...Evicted) EvictedRequest {
	return EvictedRequest{Owner: owner, Scope: scope, Evicted: e}
}

func completed(owner, scope string, e ...Evicted) CompleteRequest {
	return CompleteRequest{Owner: owner, Scope: scope, Preempted: len(e), Evicted: e, Cooldown: time.Minute}
}

// vms names who was evicted or is about to be, in the order of the answer.
func vms(f Facts) (names []string) {
	for _, e := range f.Evictions {
		names = append(names, e.VM)
	}
	return names
}

func TestFacts(t *testing.T) {
	day := 24 * 60 * 60
	cases := map[string]struct {
		do        func(s *State)
		at        int
		ask       FactsRequest
		preempted map[string]int
		evictions []string
		credits   []Load
		reserved  []string
	}{
		"of a new ledger nothing is known": {do: func(*State) {}},
		"what a round evicted is told by its completion": {
			do:        func(s *State) { s.Complete(at(5), completed("a", "c1", gone(4, "vm-1", 1), gone(3, "vm-2", 2))) },
			at:        6,
			preempted: map[string]int{"vm-1": 1, "vm-2": 1}, evictions: []string{"vm-2", "vm-1"}, credits: []Load{load(1), load(2)},
		},
		"a completion told twice counts once": {
			do: func(s *State) {
				s.Complete(at(5), completed("a", "c1", gone(4, "vm-1", 1)))
				s.Complete(at(90), completed("a", "c1", gone(4, "vm-1", 1)))
			},
			at: 100, preempted: map[string]int{"vm-1": 1}, evictions: []string{"vm-1"},
		},
		"what was told under way is not counted again by the completion": {
			do: func(s *State) {
				s.Evicted(at(4), evicted("a", "c1", gone(4, "vm-1", 1)))
				s.Evicted(at(4), evicted("a", "c1", gone(4, "vm-1", 1)))
				s.Complete(at(5), completed("a", "c1", gone(4, "vm-1", 1), gone(5, "vm-2", 2)))
			},
			at: 6, preempted: map[string]int{"vm-1": 1, "vm-2": 1}, evictions: []string{"vm-1", "vm-2"}, credits: []Load{load(1), load(2)},
		},
		"a guest that went late counts after the completion": {
			do: func(s *State) {
				s.Complete(at(5), completed("a", "c1"))
				s.Evicted(at(9), evicted("a", "c1", gone(9, "vm-1", 1)))
			},
			at: 10, preempted: map[string]int{"vm-1": 1}, evictions: []string{"vm-1"}, credits: []Load{load(1)},
		},
		"a VM that two rounds evicted was preempted twice": {
			do: func(s *State) {
				s.Complete(at(5), completed("a", "c1", gone(4, "vm-1", 1)))
				s.Complete(at(200), completed("c", "c1", gone(200, "vm-1", 2)))
			},
			at: 201, preempted: map[string]int{"vm-1": 2}, evictions: []string{"vm-1", "vm-1"}, credits: []Load{load(2)},
		},
		"evictions are of this scope, how often a VM went is of all": {
			do:        func(s *State) { s.Complete(at(5), completed("b", "c2", gone(4, "vm-1", 1))) },
			at:        6,
			ask:       FactsRequest{Owner: "a", Scope: "c1"},
			preempted: map[string]int{"vm-1": 1}, credits: []Load{load(1)},
		},
		"evictions where nothing names a scope are of every scope": {
			do:  func(s *State) { s.Complete(at(5), completed("b", "", gone(4, "vm-1", 1))) },
			at:  600,
			ask: FactsRequest{Owner: "a", Scope: "c1"}, preempted: map[string]int{"vm-1": 1}, evictions: []string{"vm-1"},
		},
		"what was freed more than a minute ago is not credited": {
			do: func(s *State) { s.Complete(at(5), completed("a", "c1", gone(4, "vm-1", 1))) },
			at: 64, preempted: map[string]int{"vm-1": 1}, evictions: []string{"vm-1"},
		},
		"an eviction counts for 24 hours": {
			do: func(s *State) { s.Complete(at(5), completed("a", "c1", gone(4, "vm-1", 1))) },
			at: day + 4,
		},
		"what others reserved counts as evicted and as freed": {
			do:  func(s *State) { s.Reserve(reserving("a", "vm-2", "vm-1")) },
			at:  6,
			ask: FactsRequest{Owner: "c", Scope: "c1"}, evictions: []string{"vm-1", "vm-2"}, credits: []Load{load(2), load(1)}, reserved: []string{"vm-1", "vm-2"},
		},
		"what is reserved in another scope is freed and not evicted here": {
			do:  func(s *State) { s.Reserve(reserving("b", "vm-1")) },
			ask: FactsRequest{Owner: "a", Scope: "c1"}, credits: []Load{load(1)}, reserved: []string{"vm-1"},
		},
		"what is reserved without a load stays on": {
			do:  func(s *State) { s.Reserve(ReserveRequest{Owner: "resize", VMs: []string{"vm-1"}}) },
			ask: FactsRequest{Owner: "a", Scope: "c1"}, reserved: []string{"vm-1"},
		},
		"what the owner reserved in an earlier plan is up for another choice": {
			do:  func(s *State) { s.Reserve(reserving("a", "vm-1", "vm-2")) },
			ask: FactsRequest{Owner: "a", Scope: "c1"},
		},
		"what the owner goes on to evict counts": {
			do:  func(s *State) { s.Reserve(reserving("a", "vm-1", "vm-2")) },
			ask: FactsRequest{Owner: "a", Scope: "c1", UnderWay: []string{"vm-2", "vm-9"}}, evictions: []string{"vm-2"}, credits: []Load{load(2)},
		},
		"a VM reserved and just evicted is credited once": {
			do: func(s *State) {
				s.Reserve(reserving("a", "vm-1"))
				s.Evicted(at(4), evicted("a", "c1", gone(4, "vm-1", 5)))
			},
			at: 6, ask: FactsRequest{Owner: "b", Scope: "c1"},
			preempted: map[string]int{"vm-1": 1}, evictions: []string{"vm-1"}, credits: []Load{load(5)}, reserved: []string{"vm-1"},
		},
		"a VM just evicted and reserved by the next round is credited once": {
			do: func(s *State) {
				s.Complete(at(4), completed("a", "c1", gone(4, "vm-1", 5)))
				s.Reserve(reserving("c", "vm-1"))
			},
			at: 6, preempted: map[string]int{"vm-1": 1}, evictions: []string{"vm-1", "vm-1"}, credits: []Load{load(1)}, reserved: []string{"vm-1"},
		},
		"a VM still reserved a minute after it went is not credited": {
			do: func(s *State) {
				s.Reserve(reserving("a", "vm-1"))
				s.Evicted(at(4), evicted("a", "c1", gone(4, "vm-1", 5)))
			},
			at: 64, preempted: map[string]int{"vm-1": 1}, evictions: []string{"vm-1"}, reserved: []string{"vm-1"},
		},
		"an eviction told without a load has the one it was reserved with": {
			do: func(s *State) {
				s.Reserve(reserving("a", "vm-1", "vm-2"))
				s.Complete(at(4), completed("a", "c1", Evicted{VM: "vm-2", Time: at(4)}))
			},
			at: 6, preempted: map[string]int{"vm-2": 1}, evictions: []string{"vm-2"}, credits: []Load{load(2)},
		},
		"an eviction without a time, or ahead of it, is of now": {
			do: func(s *State) {
				s.Evicted(at(4), evicted("a", "c1", Evicted{VM: "vm-1", Host: "h1", CPUMHz: 1, MemoryMB: 10}, gone(9*day, "vm-2", 2)))
			},
			at: 64, preempted: map[string]int{"vm-1": 1, "vm-2": 1}, evictions: []string{"vm-1", "vm-2"},
		},
		"what a restore brings back within the minute is not credited": {
			do: func(s *State) {
				s.Complete(at(4), completed("a", "c1", gone(4, "vm-1", 5), gone(4, "vm-2", 5)))
				s.Facts(at(5), FactsRequest{Owner: "restore@c1", Scope: "c1", Restore: true})
				s.Reserve(ReserveRequest{Owner: "restore@c1", VMs: []string{"vm-1"}})
				s.Reserve(ReserveRequest{Owner: "restore@c1"})
			},
			at: 6, preempted: map[string]int{"vm-1": 1, "vm-2": 1}, evictions: []string{"vm-1", "vm-2"}, credits: []Load{{Host: "h1", CPUMHz: 5, MemoryMB: 50}},
		},
		"what is given up is neither evicted nor freed": {
			do: func(s *State) {
				s.Reserve(reserving("a", "vm-1"))
				s.Reserve(ReserveRequest{Owner: "a"})
				s.Reserve(reserving("b", "vm-2"))
				s.Drop([]string{"b"}, true)
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := twoRounds()
			c.do(&s)
			s = roundTrip(t, s)
			got := s.Facts(at(c.at), c.ask)
			if !got.Now.Equal(at(c.at)) || got.Version == 0 {
				t.Errorf("now %s, version %d", got.Now, got.Version)
			}
			if len(got.Preempted)+len(c.preempted) > 0 && !reflect.DeepEqual(got.Preempted, c.preempted) {
				t.Errorf("preempted %v, want %v", got.Preempted, c.preempted)
			}
			if !reflect.DeepEqual(vms(got), c.evictions) {
				t.Errorf("evictions %v, want %v", vms(got), c.evictions)
			}
			if !reflect.DeepEqual(loads(got), c.credits) {
				t.Errorf("credits %v, want %v", loads(got), c.credits)
			}
			if !reflect.DeepEqual(got.Reserved, c.reserved) {
				t.Errorf("reserved %v, want %v", got.Reserved, c.reserved)
			}
		})
	}
}

func TestALoadGoesWithItsReservation(t *testing.T) {
	s := twoRounds()
	r := reserving("a", "vm-1", "vm-2")
	r.Loads["vm-3"] = load(9) // not reserved
	s.Reserve(r)
	if want := map[string]Load{"vm-1": load(1), "vm-2": load(2)}; !reflect.DeepEqual(s.Loads, want) {
		t.Errorf("loads %v, want %v", s.Loads, want)
	}
	s.Reserve(ReserveRequest{Owner: "a", VMs: []string{"vm-1"}})
	if len(s.Loads) != 0 {
		t.Errorf("loads are kept from what was held before: %v", s.Loads)
	}
}

func TestWhatIsRememberedOfEvictionsIsBounded(t *testing.T) {
	var s State
	for i := range 30 {
		var e []Evicted
		for j := range 200 {
			// Told out of order, many at one time.
			e = append(e, gone(100-i-j/150, fmt.Sprintf("vm-%d-%d", i, j), 1))
		}
		s.Evicted(at(100), evicted(fmt.Sprint("round-", i), "c1", e...))
	}
	count, oldest := 0, at(1000)
	for _, r := range s.Evictions {
		for _, e := range r.Evicted {
			count++
			if e.Time.Before(oldest) {
				oldest = e.Time
			}
		}
	}
	// 6,000 were told: of seconds 70 to 100, 50 in the first, 200 in each after it, 150 in the last.
	if count != maxEvictions || !oldest.Equal(at(75)) {
		t.Errorf("%d evictions are remembered, the oldest of %s", count, oldest)
	}
	s.forget(at(100).Add(evictedFor - 2*time.Second))
	if n := len(s.Evictions); n == 0 || n > 3 {
		t.Errorf("of %d rounds evictions are remembered as they grow old", n)
	}
	for _, r := range s.Evictions {
		for _, e := range r.Evicted {
			if e.Host != "" || e.CPUMHz+e.MemoryMB > 0 {
				t.Fatalf("a load is kept that is credited no longer: %+v", e)
			}
		}
	}
	s.forget(at(101).Add(evictedFor))
	if len(s.Evictions) != 0 {
		t.Errorf("evictions are remembered for ever: %d", len(s.Evictions))
	}
}

func TestTheLargestStateFitsAPayload(t *testing.T) {
	var s State
	owner := func(i int) string {
		return fmt.Sprintf("preempt-alarm-4711-ClusterComputeResource:domain-c1234-round-%064d", i)
	}
	for i := range maxSeen {
		s.Seen = append(s.Seen, Seen{RequestID: owner(i), Owner: owner(i), Time: at(i)})
	}
	for i := range maxEvictions {
		s.Evicted(at(i).Add(123456789), evicted(owner(i/5), "ClusterComputeResource:domain-c1234", Evicted{
			VM: fmt.Sprintf("VirtualMachine:vm-%d", 100000+i), Host: "HostSystem:host-12345", CPUMHz: 12345, MemoryMB: 123456, Time: at(i).Add(123456789),
		}))
	}
	for i := range maxSeen {
		s.Asked = append(s.Asked, Asked{ID: fmt.Sprintf("vcenter-%032d.example.com#1234567@2026-11-22T03:00:00Z", i), By: "0195e6a4-5b1f-7a3c-9d2e-0123456789ab", At: at(i).Unix()})
	}
	s.Acted = map[string]map[string]Acted{}
	for i := range maxActed {
		s.Acted[fmt.Sprintf("VirtualMachine:vm-%d", 100000+i)] = map[string]Acted{"reconfigure": {at(i).Unix(), 86400}}
	}
	s.Actions = make([]int64, maxActions)
	for i := range s.Actions {
		s.Actions[i] = at(i).Unix()
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 14<<17 { // Temporal's limit is 2 MiB
		t.Errorf("the state takes %d bytes", len(b))
	}
}

func TestAStateOfAnEarlierVersionGoesOn(t *testing.T) {
	const old = `{"scopes":{"c1":{"active":"a","activeSince":"2026-11-22T03:00:00Z","activeRank":2}},` +
		`"reserved":{"vm-1":"a"},"seen":[{"requestID":"1","owner":"a","time":"2026-11-22T03:00:00Z"}]}`
	var s State
	if err := json.Unmarshal([]byte(old), &s); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(s); err != nil || string(b) != old {
		t.Errorf("what is not used is not written: %s, %v", b, err)
	}
	if got := s.Reserve(ReserveRequest{Owner: "b", VMs: []string{"vm-1"}}); got.Granted || !reflect.DeepEqual(got.Conflicts, []string{"vm-1"}) {
		t.Errorf("the reservation does not hold: %+v", got)
	}
	if got := s.Facts(at(1), FactsRequest{Owner: "b", Scope: "c1"}); got.Version != 1 || len(got.Evictions)+len(got.Credits) > 0 || len(got.Reserved) != 1 {
		t.Errorf("facts %+v", got)
	}
	s.Complete(at(2), CompleteRequest{Owner: "a", Scope: "c1", Preempted: 1, Rank: 2, Cooldown: time.Minute})
	if got := s.Admit(at(3), ask("2", "c1", 2)); got.Verdict != Cooldown {
		t.Errorf("no cooldown: %+v", got)
	}
	if got := s.Reserve(ReserveRequest{Owner: "b", VMs: []string{"vm-1"}, Seen: 1, Scope: "c1"}); !got.Stale {
		t.Errorf("the release was not noticed: %+v", got)
	}
}

func TestFactsNameTheRoundsUnderWayInTheScopeAndThoseThatOverlapIt(t *testing.T) {
	s := twoRounds()
	for scope, want := range map[string][]string{"c1": {"a"}, "c2": {"b"}, "c3": nil, "": {"a", "b"}} {
		if got := s.Facts(at(1), FactsRequest{Owner: "r", Scope: scope}).Active; !reflect.DeepEqual(got, want) {
			t.Errorf("active in %q: %v, want %v", scope, got, want)
		}
	}
}

// loads are the credits without what tells whose they are.
func loads(f Facts) (all []Load) {
	for _, c := range f.Credits {
		all = append(all, c.Load)
	}
	return all
}

func TestAVMThatWasThrottledAndThenTurnedOffIsOneEviction(t *testing.T) {
	s := twoRounds()
	throttled := gone(0, "v1", 7)
	throttled.MemoryMB, throttled.StaysOn = 0, true
	s.Evicted(at(0), evicted("a", "c1", throttled))
	f := s.Facts(at(1), FactsRequest{Owner: "b", Scope: "c1"})
	if len(f.Credits) != 1 || !f.Credits[0].StaysOn || f.Credits[0].CPUMHz != 7 || f.Credits[0].MemoryMB != 0 {
		t.Errorf("a throttle frees %+v", f.Credits)
	}
	before := f.Version
	s.Evicted(at(2), evicted("a", "c1", gone(2, "v1", 5)))
	s.Complete(at(3), completed("a", "c1", throttled)) // told again, late
	f = s.Facts(at(4), FactsRequest{Owner: "b", Scope: "c1"})
	if f.Preempted["v1"] != 1 || len(f.Evictions) != 1 || !f.Evictions[0].Time.Equal(at(2)) {
		t.Errorf("it was evicted %d times: %+v", f.Preempted["v1"], f.Evictions)
	}
	if len(f.Credits) != 1 || f.Credits[0].StaysOn || f.Credits[0].CPUMHz != 5 || f.Credits[0].MemoryMB != 50 || f.Version == before {
		t.Errorf("its power-off frees %+v", f.Credits)
	}
}
