package ledger

import (
	"testing"
	"time"
)

func TestRoomsAreHeldAsAnAlarmIsAndNoOtherPlanCountsOnThem(t *testing.T) {
	var s State
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	const cluster = "ClusterComputeResource:domain-c7"
	s.Facts(now, FactsRequest{Owner: "restore@domain-c7", Scope: cluster, Restore: true})
	room := HeldRoom{Load: Load{Host: "HostSystem:host-1", CPUMHz: 1000, MemoryMB: 2048}, MemoryReservedMB: 100}
	got := s.SetActive(now, ActiveRequest{Owner: "make-room@1", For: "db-1", Scopes: []string{cluster}, Rooms: []HeldRoom{room}})
	if len(got.Restores) != 1 {
		t.Errorf("the restore of the cluster is not held: %+v", got)
	}
	f := s.Facts(now, FactsRequest{Owner: "restore@domain-c7", Scope: cluster, Restore: true})
	if len(f.ActiveAlarms) != 1 || f.ActiveAlarms[0].For != "db-1" || len(f.HeldRooms) != 1 || f.HeldRooms[0] != room {
		t.Errorf("%+v", f)
	}
	s.SetActive(now, ActiveRequest{Owner: "make-room@1", For: "db-1", Scopes: []string{cluster}})
	if f := s.Facts(now, FactsRequest{Owner: "round-1", Scope: cluster}); len(f.HeldRooms) != 0 {
		t.Errorf("room that is used is still held: %+v", f.HeldRooms)
	}
	s.SetActive(now, ActiveRequest{Owner: "make-room@1"})
	if f := s.Facts(now, FactsRequest{Owner: "restore@domain-c7", Scope: cluster, Restore: true}); len(f.ActiveAlarms) != 0 {
		t.Errorf("%+v", f.ActiveAlarms)
	}
}

func TestRoundsThatMakeRoomHeedNoCooldownAndStartNoMoreThanSoManyRooms(t *testing.T) {
	var s State
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	const scope = "ClusterComputeResource:domain-c7"
	admit := func(id string, rooms int) Admission {
		a := s.Admit(now, AdmitRequest{RequestID: id, Owner: id, Scope: scope, Rank: 1, NoCooldown: true, Rooms: rooms, RoomsPerHour: 3})
		if a.Verdict == Granted {
			s.Complete(now, CompleteRequest{Owner: id, Scope: scope, Preempted: 1, Rank: 1, Cooldown: time.Hour})
		}
		return a
	}
	for i, id := range []string{"a", "b"} {
		if got := admit(id, 1); got.Verdict != Granted {
			t.Fatalf("room %d: %+v", i, got)
		}
		now = now.Add(time.Minute)
	}
	if got := s.Admit(now, AdmitRequest{RequestID: "alarm", Owner: "alarm", Scope: scope, Rank: 1}); got.Verdict != Cooldown {
		t.Errorf("an alarm heeds the cooldown: %+v", got)
	}
	got := admit("c", 2)
	if want := now.Add(58 * time.Minute); got.Verdict != TooMany || !got.Until.Equal(want) {
		t.Errorf("two more at once: %+v, want until %s", got, want)
	}
	if got := admit("d", 0); got.Verdict != Granted {
		t.Errorf("a further step of a room counts as a room: %+v", got)
	}
	if got := admit("e", 1); got.Verdict != Granted {
		t.Errorf("the third: %+v", got)
	}
	if got := admit("f", 1); got.Verdict != TooMany {
		t.Errorf("the fourth: %+v", got)
	}
	if got := admit("g", 9); got.Verdict != TooMany {
		t.Errorf("more at once than ever may be: %+v", got)
	}
	now = now.Add(59 * time.Minute)
	if got := admit("h", 1); got.Verdict != Granted {
		t.Errorf("an hour later: %+v", got)
	}
}
