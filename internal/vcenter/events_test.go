package vcenter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

var alarmEvents = []string{"AlarmStatusChangedEvent"}

// raise posts n alarms on the first cluster and returns the keys of their events.
func raise(t testing.TB, v *simulation.VCenter, n int) (keys []int64) {
	t.Helper()
	for range n {
		e, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "cpu", Entity: v.Cluster("cluster-a").Ref, From: "green", To: "red"})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, int64(e.Key))
	}
	return keys
}

// reader follows the alarm events since a moment ago.
func reader(t *testing.T, g *Gateway) *EventReader {
	t.Helper()
	r := g.Events(t.Context(), time.Now().Add(-time.Minute), alarmEvents)
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

// keysOf reads until there is no more.
func keysOf(t *testing.T, r *EventReader) (keys []int64) {
	t.Helper()
	for {
		events, err := r.Next(t.Context())
		check(t, err)
		if len(events) == 0 {
			return keys
		}
		for _, e := range events {
			keys = append(keys, e.Key)
		}
	}
}

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

func wantKeys(t *testing.T, got, want []int64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%d events %v, want %d %v", len(got), got, len(want), want)
	}
}

func TestEventsBeforeAndAfterOpeningArriveOnceInOrder(t *testing.T) {
	v, g := warm(t, small())
	before := raise(t, v, 3)
	r := reader(t, g)
	wantKeys(t, keysOf(t, r), before)
	wantKeys(t, keysOf(t, r), nil)
	want := raise(t, v, 2)
	wantKeys(t, keysOf(t, r), want)
	events, err := g.Events(t.Context(), time.Now().Add(-time.Minute), alarmEvents).Next(t.Context())
	check(t, err)
	for _, e := range events {
		if e.Class != "AlarmStatusChangedEvent" || e.Time.Location() != time.UTC || time.Since(e.Time) > time.Minute {
			t.Errorf("%+v", e)
		}
	}
	if r.Reopened() != 0 {
		t.Errorf("reopened %d times", r.Reopened())
	}
}

func TestEventsBeforeSinceAreNotRead(t *testing.T) {
	v, g := warm(t, small())
	raise(t, v, 2)
	last, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "cpu", Entity: v.Cluster("cluster-a").Ref, From: "red", To: "green"})
	check(t, err)
	r := g.Events(t.Context(), last.CreatedTime, alarmEvents)
	defer r.Close(t.Context())
	wantKeys(t, keysOf(t, r), []int64{int64(last.Key)}) // inclusive
}

func TestABurstArrivesCompletelyOverSeveralPages(t *testing.T) {
	v, g := warm(t, small())
	r := reader(t, g)
	wantKeys(t, keysOf(t, r), nil)
	want := raise(t, v, 2500)
	var got []int64
	for _, size := range []int{1000, 1000, 500, 0} {
		events, err := r.Next(t.Context())
		check(t, err)
		if len(events) != size {
			t.Errorf("a page of %d, want %d", len(events), size)
		}
		for _, e := range events {
			got = append(got, e.Key)
		}
	}
	wantKeys(t, got, want)
	wantKeys(t, keysOf(t, reader(t, g)), want) // one that opens after it all
}

func TestAnIdleReaderCostsOneCallForEachNext(t *testing.T) {
	v, g := warm(t, small())
	r := reader(t, g)
	keysOf(t, r)
	if v.TotalCalls() != 2 {
		t.Errorf("opening and reading took %v", v.Calls())
	}
	v.ResetCalls()
	for range 5 {
		wantKeys(t, keysOf(t, r), nil)
	}
	if v.Calls()["ReadNextEvents"] != 5 || v.TotalCalls() != 5 {
		t.Errorf("five idle reads took %v", v.Calls())
	}
	raise(t, v, 1)
	if events, err := r.Next(t.Context()); len(events) != 1 || v.TotalCalls() != 6 {
		t.Errorf("%d events, %v: %v", len(events), err, v.Calls())
	}
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
			var once sync.Once // a call that the transport repeats may come to its hook after the recovery
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
			eventually(t, "one collector is left", func() bool { return v.EventCollectors() == 1 })
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

func TestARefusalIsReportedAsItIs(t *testing.T) {
	v, g := warm(t, small())
	v.FailCall("CreateCollectorForEvents", nil, &types.NoPermission{PrivilegeId: "System.View"}, 1)
	r := reader(t, g)
	_, err := r.Next(t.Context())
	wantKind(t, err, NoPermission)
	want := raise(t, v, 1)
	wantKeys(t, keysOf(t, r), want)
	v.FailCall("ReadNextEvents", nil, &types.RuntimeFault{}, 1)
	want = raise(t, v, 1)
	_, err = r.Next(t.Context())
	wantKind(t, err, Unknown)
	wantKeys(t, keysOf(t, r), want)
}

func TestAClosedReaderOrGatewaySaysSo(t *testing.T) {
	v, g := warm(t, small())
	r := reader(t, g)
	r.Close(t.Context())
	if _, err := r.Next(t.Context()); !errors.Is(err, errReaderClosed) || v.TotalCalls() != 0 {
		t.Errorf("%v, calls %v", err, v.Calls())
	}
	r = reader(t, g)
	g.Close(t.Context())
	if _, err := r.Next(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
}

func TestOnlyTheClassesAskedForAreRead(t *testing.T) {
	v, g := warm(t, small())
	raise(t, v, 1)
	vm := v.VMs()[0].Ref
	check(t, v.PowerOffAs(vm, "owner@vsphere.local"))
	check(t, v.PowerOnAs(vm, "owner@vsphere.local"))
	read := func(classes ...string) (got []string) {
		r := g.Events(t.Context(), time.Now().Add(-time.Minute), classes)
		defer r.Close(t.Context())
		events, err := r.Next(t.Context())
		check(t, err)
		for _, e := range events {
			got = append(got, e.Class)
		}
		return got
	}
	for _, classes := range [][]string{
		{"VmPoweredOffEvent"},
		{"AlarmStatusChangedEvent"},
		{"AlarmStatusChangedEvent", "VmPoweredOffEvent", "VmPoweredOnEvent"},
	} {
		if got := read(classes...); !slices.Equal(got, classes) {
			t.Errorf("asked for %v, got %v", classes, got)
		}
	}
	if all := read(); len(all) < 6 {
		t.Errorf("no classes: %v", all)
	}
}

// decoded reads an event as it comes from a broker.
func decoded(t *testing.T, text []byte) alarm.Alarm {
	t.Helper()
	a, err := alarm.FromCloudEvent(fmt.Appendf(nil, `{"type":"AlarmStatusChangedEvent","source":"vc","data":%s}`, text))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return a
}

func TestTheJSONOfAnEventDecodesAsAnAlarm(t *testing.T) {
	v, g := warm(t, small())
	host := v.Cluster("cluster-a").Hosts[0]
	posted, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "host cpu", Entity: host.Ref, From: "yellow", To: "red"})
	check(t, err)
	events, err := reader(t, g).Next(t.Context())
	check(t, err)
	if len(events) != 1 || !bytes.Contains(events[0].JSON, []byte(`"createdTime"`)) {
		t.Fatalf("%+v", events)
	}
	a := decoded(t, events[0].JSON)
	if a.Name != "host cpu" || a.From != "yellow" || a.To != "red" || a.Host.Name != host.Name || a.Entity.Value != host.Ref.Value ||
		a.Cluster.Name != "cluster-a" || a.EventKey != int64(posted.Key) || !a.Time.Equal(posted.CreatedTime) || a.Ref.Value != posted.Alarm.Alarm.Value {
		t.Errorf("%+v", a)
	}
}

// event is one of a vCenter that counts whole seconds.
func event(key int32, second int64) types.BaseEvent {
	return &types.AlarmStatusChangedEvent{AlarmEvent: types.AlarmEvent{Event: types.Event{Key: key, CreatedTime: time.Unix(second, 0)}}}
}

func TestEventsAreToldApart(t *testing.T) {
	newReader := func(since time.Time) *EventReader {
		return (&Gateway{}).Events(t.Context(), since, nil)
	}
	keys := func(events []StreamEvent) (keys []int64) {
		for _, e := range events {
			keys = append(keys, e.Key)
		}
		return keys
	}
	t.Run("many in one second", func(t *testing.T) {
		r := newReader(time.Unix(100, 0))
		wantKeys(t, keys(r.fresh([]types.BaseEvent{event(2, 100), event(1, 100)})), []int64{1, 2})
		wantKeys(t, keys(r.fresh([]types.BaseEvent{event(1, 100), event(2, 100), event(3, 100)})), []int64{3})
	})
	t.Run("the same key in another life of vCenter", func(t *testing.T) {
		r := newReader(time.Unix(100, 0))
		wantKeys(t, keys(r.fresh([]types.BaseEvent{event(1, 100), event(1, 101)})), []int64{1, 1})
	})
	t.Run("one that comes late", func(t *testing.T) {
		r := newReader(time.Unix(100, 0))
		r.fresh([]types.BaseEvent{event(5, 110)})
		wantKeys(t, keys(r.fresh([]types.BaseEvent{event(4, 107), event(5, 110)})), []int64{4})
	})
	t.Run("since falls into a second that vCenter does not divide", func(t *testing.T) {
		r := newReader(time.Unix(100, 500))
		wantKeys(t, keys(r.fresh([]types.BaseEvent{event(1, 99), event(2, 100), event(3, 101)})), []int64{2, 3})
	})
	t.Run("no more are remembered than can come again", func(t *testing.T) {
		r := newReader(time.Unix(0, 0))
		for i := range int32(3 * maxSeen) {
			r.fresh([]types.BaseEvent{event(i, int64(i))})
		}
		if n := len(r.seen.ids); n != len(r.seen.order) || n > 10 {
			t.Errorf("%d are remembered", n)
		}
		for i := range int32(2 * maxSeen) {
			r.fresh([]types.BaseEvent{event(i, 5*maxSeen)})
		}
		if n := len(r.seen.ids); n != len(r.seen.order) || n > maxSeen {
			t.Errorf("%d are remembered", n)
		}
	})
}

func TestAnEventWithoutJSONDoesNotHoldUpTheRest(t *testing.T) {
	var log logBuffer
	g := &Gateway{log: log.logger()}
	e := event(7, 0)
	e.GetEvent().CreatedTime = time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := g.streamEvent(e); got.JSON != nil || got.Key != 7 || log.String() == "" {
		t.Errorf("%+v, log %q", got, log.String())
	}
}

func TestAnEventExIsKnownByItsTypeID(t *testing.T) {
	if got := classOf(&types.EventEx{EventTypeId: "com.vmware.vc.x"}); got != "com.vmware.vc.x" {
		t.Error(got)
	}
	if got := classOf(&types.ExtendedEvent{EventTypeId: "com.example.y"}); got != "com.example.y" {
		t.Error(got)
	}
}

func BenchmarkNext(b *testing.B) {
	v, err := simulation.Start(b.Context(), small())
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	_ = v.WriteSecret(dir)
	g, err := New(Config{URL: v.URL(), SecretPath: dir, Insecure: true})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close(b.Context())
	for name, n := range map[string]int{"idle": 0, "full pages": 5000} {
		since := time.Now()
		raise(b, v, n)
		b.Run(name, func(b *testing.B) {
			total := 0
			for b.Loop() {
				total += readAll(b, g.Events(b.Context(), since, alarmEvents))
			}
			b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func readAll(b *testing.B, r *EventReader) (n int) {
	defer r.Close(b.Context())
	for {
		events, err := r.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if len(events) == 0 {
			return n
		}
		n += len(events)
	}
}
