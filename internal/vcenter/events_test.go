package vcenter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

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
