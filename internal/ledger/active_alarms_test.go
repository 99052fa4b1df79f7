package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestTheLedgerKnowsWhichAlarmsAreActiveWhere(t *testing.T) {
	var s State
	s.Facts(at(0), FactsRequest{Owner: "restore@c1", Scope: "c1", Restore: true})
	s.Facts(at(0), FactsRequest{Owner: "restore@c2", Scope: "c2", Restore: true})
	a := s.Admit(at(1), AdmitRequest{RequestID: "r1", Scope: "c1", Owner: "round-1", Intake: "cpu@c1", Alarm: "cpu"})
	if !slices.Equal(a.Restores, []string{"restore@c1"}) {
		t.Errorf("to be held for c1: %v", a.Restores)
	}
	if got := s.SetActive(at(2), ActiveRequest{Owner: "all", Alarm: "memory", Scopes: []string{""}}); len(got.Restores) != 2 {
		t.Errorf("to be held for everything: %v", got.Restores)
	}
	if got := s.SetActive(at(3), ActiveRequest{Owner: "all", Alarm: "memory", Scopes: []string{""}}); len(got.Restores) != 0 {
		t.Errorf("told again: %v", got.Restores)
	}
	s = roundTrip(t, s)
	f := s.Facts(at(4), FactsRequest{Owner: "restore@c1", Scope: "c1", Restore: true})
	if len(f.ActiveAlarms) != 2 || f.ActiveAlarms[0].Owner != "all" || f.ActiveAlarms[1].Alarm != "cpu" || !f.ActiveAlarms[1].Since.Equal(at(1)) {
		t.Errorf("active in c1: %+v", f.ActiveAlarms)
	}
	s.SetActive(at(5), ActiveRequest{Owner: "all"})
	if f := s.Facts(at(6), FactsRequest{Owner: "restore@c2", Scope: "c2", Restore: true}); len(f.ActiveAlarms) != 0 {
		t.Errorf("active in c2: %+v", f.ActiveAlarms)
	}
	if got := s.restoresIn(at(4000), "c1"); len(got) != 0 {
		t.Errorf("restores that ended long ago: %v", got)
	}
}

func TestARequestRepeatedAfterItsRoundHoldsNoRestore(t *testing.T) {
	var s State
	request := AdmitRequest{RequestID: "nightly#1", Owner: "round-1"}
	s.Facts(at(0), FactsRequest{Owner: "restore@c1", Scope: "c1", Restore: true})
	for _, when := range []string{"first", "repeated before its end"} {
		if a := s.Admit(at(1), request); a.Verdict != Granted || len(a.Restores) != 1 {
			t.Errorf("%s: %+v", when, a)
		}
	}
	s.Complete(at(2), CompleteRequest{Owner: "round-1", Preempted: 1, Cooldown: time.Minute})
	s.Facts(at(3), FactsRequest{Owner: "restore@all", Restore: true})
	if a := s.Admit(at(4), request); a.Verdict != Duplicate || len(a.Restores) != 0 {
		t.Errorf("repeated after its end: %+v", a)
	}
	if a := s.Admit(at(5), AdmitRequest{RequestID: "2", Owner: "round-2"}); a.Verdict != Cooldown || len(a.Restores) != 0 {
		t.Errorf("too soon: %+v", a)
	}
	if a := s.Admit(at(6), AdmitRequest{RequestID: "3", Owner: "round-3", Intake: "cpu@c1", Alarm: "cpu"}); a.Verdict != Cooldown || len(a.Restores) != 2 {
		t.Errorf("too soon for an alarm that stays active: %+v", a)
	}
}

func TestWhatIsRememberedOfActiveAlarmsIsBounded(t *testing.T) {
	var s State
	for i := range maxActive + 10 {
		s.SetActive(at(i), ActiveRequest{Owner: fmt.Sprintf("intake-%04d", i), Scopes: []string{fmt.Sprint("c", i)}})
	}
	if _, oldest := s.Demands["intake-0000"]; len(s.Demands) != maxActive || oldest {
		t.Errorf("%d are remembered, the oldest: %v", len(s.Demands), oldest)
	}
}
