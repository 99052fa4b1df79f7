package vcenter

import (
	"context"
	"testing"
	"time"
)

// listening is a reader that has read all there is, and that vCenter tells of news.
func listening(t *testing.T, g *Gateway) *EventReader {
	t.Helper()
	r := reader(t, g)
	keysOf(t, r)
	if r.Await(t.Context(), 10*time.Second) || r.told == nil {
		t.Fatal("it does not listen")
	}
	keysOf(t, r)
	return r
}

func TestAReaderThatAwaitsAnEventIsToldOfItAtOnce(t *testing.T) {
	v, g := warm(t, small())
	r := listening(t, g)
	var want []int64
	raised := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(raised)
		time.Sleep(300 * time.Millisecond)
		want = raise(t, v, 1)
	}()
	news := r.Await(t.Context(), 20*time.Second)
	<-raised
	if took := time.Since(began); !news || took > 10*time.Second {
		t.Fatalf("news: %t, after %s", news, took)
	}
	wantKeys(t, keysOf(t, r), want)
}

func TestAnEventBetweenTheLastReadAndTheWaitIsNotMissed(t *testing.T) {
	v, g := warm(t, small())
	r := reader(t, g)
	keysOf(t, r)
	want := raise(t, v, 1)
	began := time.Now()
	r.Await(t.Context(), 20*time.Second) // begins to listen
	got := keysOf(t, r)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it was waited for during %s", took)
	}
	wantKeys(t, got, want)
}

func TestWhoAwaitsEventsTakesNoPlaceFromOtherCalls(t *testing.T) {
	_, g := warm(t, small())
	g.limit = newCallLimit(1, func(int) {})
	r := listening(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Await(ctx, 20*time.Second)
	}()
	time.Sleep(200 * time.Millisecond)
	began := time.Now()
	_, err := g.ServerTime(t.Context())
	check(t, err)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("another call took %s", took)
	}
	cancel()
	<-done
}

func TestAReaderThatAwaitsReturnsInTimeWithoutNewsAndWhenVCenterIsAway(t *testing.T) {
	v, g := warm(t, small())
	r := listening(t, g)
	began := time.Now()
	if news := r.Await(t.Context(), time.Second); news || time.Since(began) < 900*time.Millisecond {
		t.Errorf("news: %t, after %s", news, time.Since(began))
	}
	v.DropConnections()
	began = time.Now()
	if news := r.Await(t.Context(), time.Second); news || time.Since(began) < 900*time.Millisecond {
		t.Errorf("without vCenter: news: %t, after %s", news, time.Since(began))
	}
	v.Recover()
	want := raise(t, v, 1)
	for range 50 {
		if events, err := r.Next(t.Context()); err == nil && len(events) > 0 {
			wantKeys(t, []int64{events[0].Key}, want)
			return
		}
		r.Await(t.Context(), 500*time.Millisecond)
	}
	t.Error("the event did not arrive")
}

func TestWhoeverAwaitsManyEventsLeavesNoFilterInVCenter(t *testing.T) {
	v, g := warm(t, small())
	r := reader(t, g)
	var got, want []int64
	for range 5 {
		got = append(got, keysOf(t, r)...)
		r.Await(t.Context(), 5*time.Second)
		got = append(got, keysOf(t, r)...)
		want = append(want, raise(t, v, 1)...)
		r.Await(t.Context(), 5*time.Second)
	}
	wantKeys(t, append(got, keysOf(t, r)...), want)
	r.Close(t.Context())
	clean := func() bool { // a filter ends by itself or with its collector, and few collectors are kept for the next
		c := v.Calls()
		return c["CreateFilter"] <= c["DestroyPropertyFilter"]+c["DestroyPropertyCollector"] &&
			c["CreatePropertyCollector"]-c["DestroyPropertyCollector"] <= idleCollectors
	}
	for end := time.Now().Add(10 * time.Second); !clean(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("filters or collectors are left: %v", v.Calls())
		}
	}
}
