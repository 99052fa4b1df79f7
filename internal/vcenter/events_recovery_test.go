package vcenter

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// recovered is keysOf once vCenter can be reached again: connections from before may still come to light.
func recovered(t *testing.T, r *EventReader) []int64 {
	t.Helper()
	var first []StreamEvent
	eventually(t, "the reader recovers", func() bool {
		events, err := r.Next(t.Context())
		if err != nil {
			wantKind(t, err, Unavailable)
		}
		first = events
		return err == nil
	})
	var keys []int64
	for _, e := range first {
		keys = append(keys, e.Key)
	}
	return append(keys, keysOf(t, r)...)
}

func TestAReaderRecoversWithoutLossOrRepetition(t *testing.T) {
	cases := map[string]func(*testing.T, *simulation.VCenter, *Gateway, *EventReader){
		"the sessions end": func(t *testing.T, v *simulation.VCenter, _ *Gateway, _ *EventReader) {
			check(t, v.TerminateSessions())
		},
		"another call logs in anew first": func(t *testing.T, v *simulation.VCenter, g *Gateway, _ *EventReader) {
			check(t, v.TerminateSessions())
			_, err := g.ServerTime(t.Context())
			check(t, err)
		},
		"vCenter restarts": func(t *testing.T, v *simulation.VCenter, _ *Gateway, r *EventReader) {
			check(t, v.Stop())
			_, err := r.Next(t.Context())
			wantKind(t, err, Unavailable)
			check(t, v.Restart())
		},
		"vCenter restarts and its keys begin again": func(t *testing.T, v *simulation.VCenter, _ *Gateway, _ *EventReader) {
			check(t, v.Stop())
			v.RestartEventKeys()
			check(t, v.Restart())
		},
		"vCenter answers 503 for a while": func(t *testing.T, v *simulation.VCenter, _ *Gateway, r *EventReader) {
			v.Outage()
			_, err := r.Next(t.Context())
			wantKind(t, err, Unavailable)
			v.Recover()
		},
		"somebody destroys the collector": func(t *testing.T, _ *simulation.VCenter, _ *Gateway, r *EventReader) {
			_, err := methods.DestroyCollector(t.Context(), r.history.session.client, &types.DestroyCollector{This: r.history.ref})
			check(t, err)
		},
		"the answer with events is lost": func(t *testing.T, v *simulation.VCenter, _ *Gateway, r *EventReader) {
			var once sync.Once
			v.Hook("ReadNextEvents", func(types.ManagedObjectReference) { once.Do(v.DropConnections) })
			_, err := r.Next(t.Context())
			wantKind(t, err, Unavailable)
			v.ClearRules()
			v.Recover()
		},
		"the caller leaves while it reads": func(t *testing.T, v *simulation.VCenter, _ *Gateway, r *EventReader) {
			ctx, cancel := context.WithCancel(t.Context())
			v.Hook("ReadNextEvents", func(types.ManagedObjectReference) {
				cancel()
				time.Sleep(500 * time.Millisecond) // the answer comes when nobody waits for it any more
			})
			if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
				t.Fatalf("%v", err)
			}
			v.ClearRules()
		},
	}
	for name, happen := range cases {
		t.Run(name, func(t *testing.T) {
			v, g := warm(t, small())
			r := reader(t, g)
			wantKeys(t, keysOf(t, r), nil)
			read := raise(t, v, 3)
			wantKeys(t, keysOf(t, r), read)
			var want []int64
			if name == "the answer with events is lost" || name == "the caller leaves while it reads" {
				want = raise(t, v, 2)
			}
			happen(t, v, g, r)
			want = append(want, raise(t, v, 2)...)
			wantKeys(t, recovered(t, r), want)
			if r.Reopened() != 1 {
				t.Errorf("reopened %d times", r.Reopened())
			}
			// Where connections break one after the other, a collector may be made of which the answer is lost with the next one. Such
			// a collector ends with its session.
			lost := 0
			if name == "the answer with events is lost" {
				lost = v.Calls()["CreateCollectorForEvents"] - 2
			}
			eventually(t, "one collector is left", func() bool { n := v.EventCollectors(); return n >= 1 && n <= 1+lost })
		})
	}
}

func TestEventsThatHappenWhileVCenterIsAwayAreRead(t *testing.T) {
	v, g := warm(t, small())
	r := reader(t, g)
	keysOf(t, r)
	check(t, v.Stop())
	want := raise(t, v, 1500)
	for range 3 {
		_, err := r.Next(t.Context())
		wantKind(t, err, Unavailable)
	}
	check(t, v.Restart())
	wantKeys(t, recovered(t, r), want)
	if r.Reopened() != 1 {
		t.Errorf("reopened %d times", r.Reopened())
	}
}

func TestACollectorThatAnswersNothingIsReplacedInTime(t *testing.T) {
	v, g := warm(t, small())
	r := reader(t, g)
	wantKeys(t, keysOf(t, r), nil)
	v.StickCollectors()
	want := raise(t, v, 3)
	wantKeys(t, keysOf(t, r), nil)
	r.history.opened = r.history.opened.Add(-2 * eventRenewal)
	wantKeys(t, keysOf(t, r), nil)
	wantKeys(t, keysOf(t, r), want)
	if r.Reopened() != 0 {
		t.Error("a renewal counts as a recovery")
	}
	eventually(t, "the old collector is gone", func() bool { return v.EventCollectors() == 1 })
}

func TestReadersLeaveNoCollectorBehind(t *testing.T) {
	v, g := warm(t, small())
	for range 100 { // vCenter allows 32
		r := g.Events(t.Context(), time.Now(), alarmEvents)
		keysOf(t, r)
		r.Close(t.Context())
	}
	eventually(t, "all collectors are gone", func() bool { return v.EventCollectors() == 0 })
	if v.Calls()["Login"] != 0 {
		t.Errorf("it took new sessions: %v", v.Calls())
	}
}

func TestACallerWhoLeavesLeavesNoCollectorBehind(t *testing.T) {
	t.Run("while it is made", func(t *testing.T) {
		v, g := warm(t, small())
		ctx, cancel := context.WithCancel(t.Context())
		v.Hook("CreateCollectorForEvents", func(types.ManagedObjectReference) { cancel() })
		r := reader(t, g)
		if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
		eventually(t, "it is destroyed", func() bool { return v.Calls()["DestroyCollector"] == 1 && v.EventCollectors() == 0 })
	})
	t.Run("before it is made", func(t *testing.T) {
		v, g := warm(t, small())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := reader(t, g).Next(ctx); !errors.Is(err, context.Canceled) || v.TotalCalls() != 0 {
			t.Fatalf("%v, calls %v", err, v.Calls())
		}
	})
	t.Run("without closing the reader", func(t *testing.T) {
		v, g := warm(t, small())
		ctx, cancel := context.WithCancel(t.Context())
		r := g.Events(ctx, time.Now(), alarmEvents)
		keysOf(t, r)
		cancel()
		eventually(t, "it is destroyed", func() bool { return v.EventCollectors() == 0 })
		_, err := r.Next(t.Context())
		if !errors.Is(err, errReaderClosed) {
			t.Errorf("%v", err)
		}
	})
	t.Run("with a cancelled context for Close", func(t *testing.T) {
		v, g := warm(t, small())
		ctx, cancel := context.WithCancel(t.Context())
		r := g.Events(t.Context(), time.Now(), alarmEvents)
		keysOf(t, r)
		cancel()
		r.Close(ctx)
		r.Close(ctx)
		eventually(t, "it is destroyed", func() bool { return v.EventCollectors() == 0 })
	})
	t.Run("during an outage", func(t *testing.T) {
		v, g := warm(t, small())
		r := reader(t, g)
		keysOf(t, r)
		v.Outage()
		r.Close(t.Context())
		eventually(t, "it was tried", func() bool { return v.Calls()["HTTP 503"] > 0 })
		v.Recover()
		eventually(t, "it is destroyed", func() bool { return v.EventCollectors() == 0 })
	})
	t.Run("in a session that the gateway gave up", func(t *testing.T) {
		v, g := warm(t, small())
		r := reader(t, g)
		keysOf(t, r)
		_, generation, _ := g.soapSlot.peek()
		g.soapSlot.drop(generation)
		raised := raise(t, v, 1)
		wantKeys(t, keysOf(t, r), raised)
		eventually(t, "the old one is destroyed", func() bool { return v.EventCollectors() == 1 })
	})
}

func TestASessionFullOfLostCollectorsIsReplaced(t *testing.T) {
	v, g := warm(t, small())
	session, _, _ := g.soapSlot.peek()
	for range 32 { // made by calls whose answers never came
		_, err := methods.CreateCollectorForEvents(t.Context(), session.client, &types.CreateCollectorForEvents{This: *session.client.ServiceContent.EventManager})
		check(t, err)
	}
	r := reader(t, g)
	wantKeys(t, keysOf(t, r), nil)
	want := raise(t, v, 1)
	wantKeys(t, keysOf(t, r), want)
	eventually(t, "only ours is left", func() bool { return v.EventCollectors() == 1 })
}
