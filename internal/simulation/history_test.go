package simulation_test

import (
	"testing"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// collect makes a collector of the events of these classes.
func collect(t testing.TB, c *vim25.Client, classes ...string) types.ManagedObjectReference {
	t.Helper()
	res, err := methods.CreateCollectorForEvents(t.Context(), c, &types.CreateCollectorForEvents{
		This: *c.ServiceContent.EventManager, Filter: types.EventFilterSpec{EventTypeId: classes},
	})
	must(t, err)
	return res.Returnval
}

func readNext(t testing.TB, c *vim25.Client, collector types.ManagedObjectReference) []types.BaseEvent {
	t.Helper()
	res, err := methods.ReadNextEvents(t.Context(), c, &types.ReadNextEvents{This: collector, MaxCount: 1000})
	must(t, err)
	return res.Returnval
}

// raise posts n alarms and returns the last event.
func raise(t testing.TB, v *simulation.VCenter, n int) (last types.AlarmStatusChangedEvent) {
	t.Helper()
	for range n {
		var err error
		last, err = v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "a", Entity: v.Cluster("cluster-a").Ref, From: "green", To: "red"})
		must(t, err)
	}
	return last
}

func TestTheHistoryIsLongerThanAPage(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	before := collect(t, c, "AlarmStatusChangedEvent")
	raise(t, v, 2500)
	for name, collector := range map[string]types.ManagedObjectReference{"open during the burst": before, "made later": collect(t, c, "AlarmEvent")} {
		key := int32(0)
		for _, size := range []int{1000, 1000, 500, 0} {
			page := readNext(t, c, collector)
			if len(page) != size {
				t.Errorf("%s: a page of %d events, want %d", name, len(page), size)
			}
			for _, e := range page {
				if e.GetEvent().Key <= key {
					t.Fatalf("%s: %d comes after %d", name, e.GetEvent().Key, key)
				}
				key = e.GetEvent().Key
			}
		}
	}
	_, err := methods.ReadNextEvents(t.Context(), c, &types.ReadNextEvents{This: before, MaxCount: 1001})
	if !isFault[*types.InvalidArgument](err) {
		t.Errorf("a page of 1001: %v", err)
	}
}

func TestTheSimulatorsOwnEventsAreInTheHistory(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	collector := collect(t, c, "UserLoginSessionEvent")
	readNext(t, c, collector)
	login(t, v)
	if got := readNext(t, c, collector); len(got) != 1 {
		t.Errorf("%d logins", len(got))
	}
	extended := collect(t, c, "com.example.x")
	_, err := methods.PostEvent(t.Context(), c, &types.PostEvent{This: *c.ServiceContent.EventManager, EventToPost: &types.EventEx{
		EventTypeId: "com.example.x", ObjectType: "VirtualMachine", ObjectId: v.VMs()[0].Ref.Value,
	}})
	must(t, err)
	if got := readNext(t, c, extended); len(got) != 1 {
		t.Errorf("%d events of a type of its own", len(got))
	}
	var latest mo.EventHistoryCollector
	properties(t, c, collector, &latest, "latestPage")
	if len(latest.LatestPage) < 2 {
		t.Errorf("the latest page has %d events", len(latest.LatestPage))
	}
}

func TestASessionHas32CollectorsThatEndWithIt(t *testing.T) {
	v := start(t, small())
	c, other := login(t, v), login(t, v)
	var one types.ManagedObjectReference
	for range 32 {
		one = collect(t, c)
	}
	_, err := methods.CreateCollectorForEvents(t.Context(), c, &types.CreateCollectorForEvents{This: *c.ServiceContent.EventManager})
	if !isFault[*types.InvalidState](err) {
		t.Errorf("the 33rd: %v", err)
	}
	collect(t, other)
	if n := v.EventCollectors(); n != 33 {
		t.Errorf("%d collectors", n)
	}
	_, err = methods.DestroyCollector(t.Context(), c, &types.DestroyCollector{This: one})
	must(t, err)
	_, err = methods.ReadNextEvents(t.Context(), c, &types.ReadNextEvents{This: one, MaxCount: 1})
	if !isFault[*types.ManagedObjectNotFound](err) {
		t.Errorf("reading from one that is destroyed: %v", err)
	}
	collect(t, c)
	_, err = methods.Logout(t.Context(), c, &types.Logout{This: *c.ServiceContent.SessionManager})
	must(t, err)
	if n := v.EventCollectors(); n != 1 {
		t.Errorf("%d collectors after the logout", n)
	}
	must(t, v.TerminateSessions())
	if n := v.EventCollectors(); n != 0 {
		t.Errorf("%d collectors after the end of all sessions", n)
	}
}

func TestEventKeysCanBeginAgain(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	collector := collect(t, c, "AlarmStatusChangedEvent")
	raise(t, v, 3)
	v.RestartEventKeys()
	if last := raise(t, v, 2); last.Key != 2 {
		t.Errorf("the second key is %d", last.Key)
	}
	page := readNext(t, c, collector)
	if len(page) != 5 || page[3].GetEvent().Key != 1 || page[4].GetEvent().Key != 2 {
		t.Errorf("%d events", len(page))
	}
}

func TestACollectorCanBeMadeToStick(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	collector := collect(t, c, "AlarmStatusChangedEvent")
	v.StickCollectors()
	raise(t, v, 2)
	if got := readNext(t, c, collector); len(got) != 0 {
		t.Errorf("%d events while it sticks", len(got))
	}
	if got := readNext(t, c, collect(t, c, "AlarmStatusChangedEvent")); len(got) != 2 {
		t.Errorf("%d events from a new one", len(got))
	}
	_, err := methods.RewindCollector(t.Context(), c, &types.RewindCollector{This: collector})
	must(t, err)
	if got := readNext(t, c, collector); len(got) != 2 {
		t.Errorf("%d events after rewinding", len(got))
	}
}

func TestAnAlarmIsDefinedWhereItsFirstEventSays(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	event := raise(t, v, 1)
	var defined mo.Alarm
	properties(t, c, event.Alarm.Alarm, &defined, "info")
	if defined.Info.Entity != event.Source.Entity || event.Source.Name != "cluster-a" {
		t.Errorf("defined on %v, the event says %v", defined.Info.Entity, event.Source)
	}
}
