package ledger

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func resizing(vm string) RemedyRequest {
	return RemedyRequest{Owner: "resize@" + vm, VM: vm, What: placement.CPU, Cooldown: 30 * time.Minute}
}

func acted(r RemedyRequest) RemediedRequest {
	return RemediedRequest{Owner: r.Owner, VM: r.VM, What: r.What, Acted: true}
}

// flight is a move off one datastore to another on a host.
func flight(vm, source, host string) *placement.Flight {
	return &placement.Flight{
		VM: vsphere.Ref{Type: vsphere.TypeVM, Value: vm}, Source: vsphere.Ref{Type: "Datastore", Value: source},
		Destination: vsphere.Ref{Type: "Datastore", Value: "datastore-99"}, Host: vsphere.Ref{Type: vsphere.TypeHost, Value: host}, Used: 10 << 30,
	}
}

func moving(vm, source, host string) RemedyRequest {
	return RemedyRequest{
		Owner: "move@" + source, VM: vm, What: placement.KindMove, Cooldown: 24 * time.Hour, Flight: flight(vm, source, host),
		PerSource: 1, PerHost: 2, AtOnce: 3,
	}
}

func facts(s *State, second int) RemedyFacts { return s.RemedyFacts(at(second), RemedyFactsRequest{}) }

func TestOneVMIsNotEvictedAndRemediedAtATime(t *testing.T) {
	var s State
	if got := s.Remedy(t0, resizing("vm-1")); !got.Granted {
		t.Fatalf("%+v", got)
	}
	if got := s.Reserve(reserving("round", "vm-1", "vm-2")); got.Granted || !reflect.DeepEqual(got.Conflicts, []string{"vm-1"}) {
		t.Errorf("a round got a VM that is being resized: %+v", got)
	}
	if got := s.Facts(t0, FactsRequest{Owner: "round"}).Reserved; !reflect.DeepEqual(got, []string{"vm-1"}) {
		t.Errorf("a plan is to spare %v", got)
	}
	move := moving("vm-1", "datastore-1", "host-1")
	if got := s.Remedy(at(1), move); got.Granted || got.Holder != "resize@vm-1" {
		t.Errorf("two remedies on one VM: %+v", got)
	}
	s.Remedied(at(2), acted(resizing("vm-1")))
	if got := s.Reserve(reserving("round", "vm-1", "vm-2")); !got.Granted {
		t.Errorf("a remedied VM is still held: %+v", got)
	}
	if got := s.Remedy(at(3), resizing("vm-2")); got.Granted || got.Holder != "round" {
		t.Errorf("a VM that a round evicts is resized: %+v", got)
	}
}

func TestARemedyIsGrantedAgainToWhoLostTheAnswer(t *testing.T) {
	s := State{}
	r := moving("vm-1", "datastore-1", "host-1")
	r.PerHour, r.Seen = 1, facts(&s, 0).Version
	first := s.Remedy(t0, r)
	s = roundTrip(t, s)
	if again := s.Remedy(at(1), r); !first.Granted || again != first || len(facts(&s, 1).Flights) != 1 {
		t.Errorf("first %+v, again %+v", first, again)
	}
	s.Remedied(at(2), acted(r))
	s.Remedied(at(90), acted(r))
	f := facts(&s, 100)
	if f.Actions != 1 || !f.Last[LastKey("vm-1", "move")].Equal(at(2)) || len(f.Flights)+len(f.Reserved) != 0 {
		t.Errorf("told twice it counts twice: %+v", f)
	}
	if got := s.Remedy(at(101), r); got.Granted || !got.Until.Equal(at(2).Add(24*time.Hour)) {
		t.Errorf("no cooldown: %+v", got)
	}
}

func TestACooldownIsOfOneVMAndResource(t *testing.T) {
	var s State
	r := resizing("vm-1")
	s.Remedy(t0, r)
	s.Remedied(t0, acted(r))
	s = roundTrip(t, s)
	memory, other, short := r, resizing("vm-2"), r
	memory.What, short.Cooldown = placement.Memory, time.Minute
	for name, c := range map[string]struct {
		ask     RemedyRequest
		at      int
		granted bool
	}{
		"the same":                       {r, 1799, false},
		"the same, afterwards":           {r, 1800, true},
		"another resource":               {memory, 1, true},
		"another VM":                     {other, 1, true},
		"a rule with a shorter cooldown": {short, 61, true},
	} {
		t.Run(name, func(t *testing.T) {
			one := roundTrip(t, s)
			got := one.Remedy(at(c.at), c.ask)
			if got.Granted != c.granted || !c.granted && !got.Until.Equal(at(1800)) {
				t.Errorf("%+v", got)
			}
		})
	}
	untouched := resizing("vm-3")
	s.Remedy(t0, untouched)
	s.Remedied(t0, RemediedRequest{Owner: untouched.Owner, VM: "vm-3", What: placement.CPU})
	if got := s.Remedy(at(1), untouched); !got.Granted {
		t.Errorf("what was not changed has a cooldown: %+v", got)
	}
}

func TestTheCircuitBreakerCountsWhatWasDoneInTheLastHourAndIsUnderWay(t *testing.T) {
	var s State
	ask := func(second, vm int, perHour int) RemedyGrant {
		r := resizing(fmt.Sprintf("vm-%d", vm))
		r.PerHour = perHour
		return s.Remedy(at(second), r)
	}
	for i := range 3 {
		if got := ask(60*i, i, 3); !got.Granted {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	if got := ask(180, 3, 3); got.Granted || !got.Tripped.Equal(at(180+3600)) {
		t.Errorf("what is under way does not count: %+v", got)
	}
	s.Remedied(at(200), acted(resizing("vm-0")))
	s.Remedied(at(210), acted(resizing("vm-1")))
	s.Remedied(at(220), RemediedRequest{Owner: "resize@vm-2", VM: "vm-2", What: placement.CPU})
	s = roundTrip(t, s)
	if got := ask(300, 3, 3); !got.Granted {
		t.Errorf("what did not act counts: %+v", got)
	}
	s.Remedied(at(310), acted(resizing("vm-3")))
	if got := ask(320, 4, 3); got.Granted || !got.Tripped.Equal(at(200+3600)) {
		t.Errorf("the circuit breaker is closed, or opens for another while: %+v", got)
	}
	f := s.RemedyFacts(at(330), RemedyFactsRequest{PerHour: 3})
	if f.Actions != 3 || !f.Tripped.Equal(at(200+3600)) {
		t.Errorf("%+v", f)
	}
	if got := ask(320, 5, 0); !got.Granted {
		t.Errorf("without a limit: %+v", got)
	}
	s.letGo("vm-5")
	if got := ask(3801, 4, 3); !got.Granted {
		t.Errorf("an hour later: %+v", got)
	}
}

func TestMovesAtOnceAreBounded(t *testing.T) {
	var s State
	for _, r := range []RemedyRequest{moving("vm-1", "datastore-1", "host-1"), moving("vm-2", "datastore-2", "host-1")} {
		if got := s.Remedy(t0, r); !got.Granted {
			t.Fatalf("%+v", got)
		}
	}
	s = roundTrip(t, s)
	want := func(r RemedyRequest, full string) {
		t.Helper()
		if got := s.Remedy(at(1), r); got.Full != full || got.Granted != (full == "") {
			t.Errorf("%+v, want %q", got, full)
		}
	}
	want(moving("vm-3", "datastore-1", "host-3"), "1 move off datastore-1 is under way")
	want(moving("vm-3", "datastore-3", "host-1"), "2 moves on host-1 are under way")
	want(moving("vm-3", "datastore-3", "host-3"), "")
	want(moving("vm-4", "datastore-4", "host-4"), "3 moves are under way")
	s.Remedied(at(2), acted(moving("vm-1", "datastore-1", "host-1")))
	want(moving("vm-4", "datastore-1", "host-1"), "")
	free := moving("vm-5", "datastore-1", "host-1")
	free.PerSource, free.PerHost, free.AtOnce = 0, 0, 0
	want(free, "")
}

func TestAMoveIsChosenAgainWhenTheMovesUnderWayHaveChanged(t *testing.T) {
	var s State
	seen := facts(&s, 0).Version
	if seen == 0 {
		t.Fatal("version 0 stands for none")
	}
	a, b := moving("vm-1", "datastore-1", "host-1"), moving("vm-2", "datastore-2", "host-2")
	a.Seen, b.Seen = seen, seen
	got := s.Remedy(at(1), a)
	if !got.Granted {
		t.Fatalf("%+v", got)
	}
	if stale := s.Remedy(at(2), b); stale.Granted || !stale.Stale {
		t.Errorf("chosen without knowing of the first: %+v", stale)
	}
	next := moving("vm-3", "datastore-1", "host-3")
	next.PerSource, next.Seen = 2, got.Version
	if own := s.Remedy(at(3), next); !own.Granted {
		t.Errorf("an owner knows of its own: %+v", own)
	}
	b.Seen = facts(&s, 4).Version
	s.Remedied(at(5), acted(a))
	if stale := s.Remedy(at(6), b); !stale.Stale {
		t.Errorf("the first has landed since: %+v", stale)
	}
	b.Seen = facts(&s, 7).Version
	if got := s.Remedy(at(8), b); !got.Granted {
		t.Errorf("%+v", got)
	}
	if got := s.Remedy(at(9), resizing("vm-9")); !got.Granted {
		t.Errorf("a resize has nothing to do with moves: %+v", got)
	}
}

func TestARepeatedRequestIsToldByItsRun(t *testing.T) {
	var s State
	ask := func(second int, id, by string) bool {
		s = roundTrip(t, s)
		return s.RemedyFacts(at(second), RemedyFactsRequest{RequestID: id, By: by}).Duplicate
	}
	for i, c := range []struct {
		at     int
		id, by string
		want   bool
	}{
		{0, "e1", "run-1", false},
		{1, "e1", "run-1", false},
		{2, "e1", "run-2", true},
		{3, "e2", "run-2", false},
		{4, "", "run-1", false},
		{5, "", "run-2", false},
		{90_000, "e1", "run-2", false},
	} {
		if got := ask(c.at, c.id, c.by); got != c.want {
			t.Errorf("%d: %s by %s: %t", i, c.id, c.by, got)
		}
	}
}

func TestFactsOfRemediationAreOfTheVMsAskedFor(t *testing.T) {
	var s State
	for _, vm := range []string{"vm-1", "vm-2"} {
		s.Remedy(t0, resizing(vm))
		s.Remedied(t0, acted(resizing(vm)))
		s.Reserve(ReserveRequest{Owner: "round-" + vm, VMs: []string{vm}})
	}
	s.Remedy(t0, moving("vm-3", "datastore-1", "host-1"))
	f := s.RemedyFacts(at(1), RemedyFactsRequest{VMs: []string{"vm-2"}})
	if !reflect.DeepEqual(f.Reserved, map[string]string{"vm-2": "round-vm-2"}) || len(f.Last) != 1 || !f.Last["vm-2|cpu"].Equal(t0) {
		t.Errorf("%+v", f)
	}
	if len(f.Flights) != 1 || f.Flights[0] != *flight("vm-3", "datastore-1", "host-1") || !f.Now.Equal(at(1)) {
		t.Errorf("moves of everybody count: %+v", f)
	}
	if all := facts(&s, 1); len(all.Reserved) != 3 || len(all.Last) != 2 {
		t.Errorf("%+v", all)
	}
}

func TestWhatAnEndedRemediationHeldIsReleased(t *testing.T) {
	var s State
	s.Remedy(t0, moving("vm-1", "datastore-1", "host-1"))
	s.Remedy(t0, resizing("vm-2"))
	if owners := s.Owners(t0); !reflect.DeepEqual(owners, []string{"move@datastore-1", "resize@vm-2"}) {
		t.Fatalf("owners %v", owners)
	}
	seen := facts(&s, 0).Version
	s.Drop([]string{"move@datastore-1"}, true)
	f := facts(&s, 1)
	if !reflect.DeepEqual(f.Reserved, map[string]string{"vm-2": "resize@vm-2"}) || len(f.Flights) != 0 || f.Version == seen {
		t.Errorf("%+v", f)
	}
}

func TestWhatIsRememberedOfRemediationIsBounded(t *testing.T) {
	var s State
	for i := range 3 * maxSeen {
		s.RemedyFacts(at(i), RemedyFactsRequest{RequestID: at(i).String(), By: "run"})
	}
	if len(s.Asked) > maxSeen+1 {
		t.Errorf("%d requests are remembered", len(s.Asked))
	}
	s = State{Acted: map[string]map[string]Acted{}}
	for i := range maxActed + 10 {
		s.Acted[fmt.Sprintf("vm-%d", i)] = map[string]Acted{"cpu": {at(i).Unix(), 1 << 30}}
	}
	for i := range 2 * maxActions {
		s.Actions = append(s.Actions, at(maxActed).Unix()+int64(i/maxActions))
	}
	r := resizing("vm-new")
	s.Remedy(at(maxActed+10), r)
	s.Remedied(at(maxActed+10), acted(r))
	if _, ok := s.Acted["vm-10"]; len(s.Acted) != maxActed || ok || len(s.Acted["vm-11"]) == 0 || len(s.Acted["vm-new"]) == 0 || len(s.Actions) > maxActions {
		t.Errorf("%d actions, and %d for the circuit breaker: the oldest go first", len(s.Acted), len(s.Actions))
	}
}

func TestAnActionIsRememberedForTheLongestCooldownAsked(t *testing.T) {
	var s State
	short, long := resizing("vm-1"), resizing("vm-1")
	long.Cooldown = 72 * time.Hour
	s.Remedy(t0, short)
	s.Remedied(t0, acted(short))
	s.Remedy(at(1), long)
	hour := 60 * 60
	for _, c := range []struct {
		hours int
		want  int
	}{{71, 2}, {73, 1}} { // with the one that makes the ledger forget
		s := roundTrip(t, s)
		other := resizing("vm-2")
		s.Remedy(at(c.hours*hour), other)
		s.Remedied(at(c.hours*hour), acted(other))
		if got := len(facts(&s, c.hours*hour).Last); got != c.want {
			t.Errorf("after %d hours %d are known", c.hours, got)
		}
	}
}

func TestALedgerThatBeganAnewLearnsWhatIsDone(t *testing.T) {
	var s State
	r := resizing("vm-1")
	for second := range 2 {
		s.Remedied(at(second), acted(r))
	}
	if got := s.Remedy(at(10), r); got.Granted || !got.Until.Equal(t0.Add(30*time.Minute)) || facts(&s, 10).Actions != 1 {
		t.Errorf("%+v, %d actions", got, facts(&s, 10).Actions)
	}
}
