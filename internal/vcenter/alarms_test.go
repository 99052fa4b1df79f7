package vcenter

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// turn lets the alarm on the entity become that colour and returns its event.
func turn(t *testing.T, v *simulation.VCenter, name string, entity types.ManagedObjectReference, colour string) types.AlarmStatusChangedEvent {
	t.Helper()
	e, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: name, Entity: entity, From: "green", To: colour})
	check(t, err)
	return e
}

func TestEveryTriggeredAlarmIsListedWithItsPlace(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 2, HostsPerCluster: 1, VMsPerCluster: 2})
	a, b := v.Cluster("cluster-a"), v.Cluster("cluster-b")
	posted := []types.AlarmStatusChangedEvent{
		turn(t, v, "cluster cpu", a.Ref, "red"),
		turn(t, v, "host memory", b.Hosts[0].Ref, "yellow"),
		turn(t, v, "vm cpu", b.VMs[1].Ref, "red"),
		turn(t, v, "datastore usage", a.Datastores[0], "yellow"),
	}
	turn(t, v, "vm cpu", b.VMs[0].Ref, "red")
	turn(t, v, "vm cpu", b.VMs[0].Ref, "green")
	turn(t, v, "vm cpu", a.VMs[0].Ref, "gray")

	states, _, err := g.TriggeredAlarms(t.Context())
	check(t, err)
	if v.Calls()["RetrievePropertiesEx"] != 2 || v.TotalCalls() != 2 {
		t.Errorf("%v", v.Calls())
	}
	if len(states) != len(posted) {
		t.Fatalf("%d states, want %d: %+v", len(states), len(posted), states)
	}
	for i, e := range posted {
		s := states[i]
		if s.Name != e.Alarm.Name || s.Alarm != fromMoRef(e.Alarm.Alarm) || s.Entity != fromMoRef(e.Entity.Entity) || s.Colour != e.To || !s.Time.Equal(e.CreatedTime) || s.EventKey != int64(e.Key) {
			t.Errorf("%+v is not %+v", s, e)
		}
		want := decoded(t, (&Gateway{}).marshal(&e))
		want.From = "gray"
		if got := decoded(t, s.JSON); got != want {
			t.Errorf("the state of %s reads as\n%+v, its event as\n%+v", e.Alarm.Name, got, want)
		}
	}
}

func TestWithoutTriggeredAlarmsOneCallTellsSo(t *testing.T) {
	v, g := warm(t, small())
	turn(t, v, "cluster cpu", v.Cluster("cluster-a").Ref, "green")
	v.ResetCalls()
	states, _, err := g.TriggeredAlarms(t.Context())
	check(t, err)
	if len(states) != 0 || v.TotalCalls() != 1 {
		t.Errorf("%v, calls %v", states, v.Calls())
	}
}

func TestAlarmsAndEntitiesThatVanishMeanwhileAreLeftOut(t *testing.T) {
	v, g := warm(t, small())
	cluster := v.Cluster("cluster-a")
	turn(t, v, "vm cpu", cluster.VMs[0].Ref, "red")
	removed := turn(t, v, "removed", cluster.Ref, "red")
	turn(t, v, "cluster cpu", cluster.Ref, "red")
	session, _, _ := g.soapSlot.peek()
	var calls atomic.Int32
	v.Hook("RetrievePropertiesEx", func(types.ManagedObjectReference) {
		if calls.Add(1) != 2 {
			return
		}
		if err := v.RemoveVM(cluster.VMs[0].Ref); err != nil {
			t.Error(err)
		}
		if _, err := methods.RemoveAlarm(t.Context(), session.client, &types.RemoveAlarm{This: removed.Alarm.Alarm}); err != nil {
			t.Error(err)
		}
	})
	states, _, err := g.TriggeredAlarms(t.Context())
	check(t, err)
	if len(states) != 1 || states[0].Name != "cluster cpu" {
		t.Errorf("%+v", states)
	}
}

func TestATriggeredAlarmThatOurUserMayNotSeeIsCounted(t *testing.T) {
	v, g := warm(t, small())
	red := turn(t, v, "cluster cpu", v.Cluster("cluster-a").Ref, "red")
	hidden := turn(t, v, "host cpu", v.Cluster("cluster-a").Hosts[0].Ref, "red")
	v.HideObjects(hidden.Alarm.Alarm)
	states, unseen, err := g.TriggeredAlarms(t.Context())
	check(t, err)
	if len(states) != 1 || toMoRef(states[0].Alarm) != red.Alarm.Alarm {
		t.Errorf("seen are %+v", states)
	}
	if len(unseen) != 1 || toMoRef(unseen[0].Alarm) != hidden.Alarm.Alarm || unseen[0].Colour != "red" {
		t.Errorf("unseen are %+v", unseen)
	}
}

func TestTheStatusOfOneAlarmOnOneEntity(t *testing.T) {
	v, g := warm(t, small())
	cluster := v.Cluster("cluster-a")
	vm, host := fromMoRef(cluster.VMs[0].Ref), fromMoRef(cluster.Hosts[0].Ref)
	red := turn(t, v, "cpu", toMoRef(host), "red")
	turn(t, v, "cpu", toMoRef(vm), "green")
	turn(t, v, "memory", toMoRef(vm), "yellow")
	turn(t, v, "sensor", toMoRef(vm), "gray")
	cpu, memory, sensor := fromMoRef(v.Alarm("cpu")), fromMoRef(v.Alarm("memory")), fromMoRef(v.Alarm("sensor"))
	nowhere := vsphere.Ref{Type: "Alarm", Value: "alarm-none"}
	cases := map[string]struct {
		alarm  vsphere.Ref
		name   string
		entity vsphere.Ref
		colour string // "" for not found
	}{
		"red":                              {cpu, "cpu", host, "red"},
		"green":                            {cpu, "cpu", vm, "green"},
		"yellow":                           {memory, "memory", vm, "yellow"},
		"gray":                             {sensor, "sensor", vm, "gray"},
		"any name":                         {cpu, "", host, "red"},
		"not declared on the entity":       {memory, "memory", host, ""},
		"another name of the reference":    {cpu, "memory", host, ""},
		"no such alarm":                    {nowhere, "cpu", host, ""},
		"no such entity":                   {cpu, "cpu", gone, ""},
		"neither the one nor the other":    {nowhere, "cpu", gone, ""},
		"no reference to an alarm":         {vsphere.Ref{}, "cpu", host, ""},
		"no reference to an entity":        {cpu, "cpu", vsphere.Ref{}, ""},
		"another entity of the same alarm": {cpu, "cpu", fromMoRef(cluster.VMs[1].Ref), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			v.ResetCalls()
			s, found, err := g.AlarmStatus(t.Context(), tc.alarm, tc.name, tc.entity)
			check(t, err)
			if found != (tc.colour != "") || s.Colour != tc.colour {
				t.Fatalf("found %v: %+v", found, s)
			}
			wantCalls(t, v, 1)
			if !found {
				return
			}
			if s.Alarm != tc.alarm || s.Entity != tc.entity || s.Name == "" || time.Since(s.Time) > time.Minute {
				t.Errorf("%+v", s)
			}
			if a := decoded(t, s.JSON); a.To != tc.colour || a.From != "gray" || a.Cluster.Name != "cluster-a" || a.Host.Value != host.Value {
				t.Errorf("%+v", a)
			}
		})
	}
	s, _, err := g.AlarmStatus(t.Context(), cpu, "cpu", host)
	check(t, err)
	if s.EventKey != int64(red.Key) || !s.Time.Equal(red.CreatedTime) {
		t.Errorf("%+v is not from %+v", s, red)
	}
}

func TestAlarmsOutliveSessionsAndTellOutages(t *testing.T) {
	v, g := warm(t, small())
	turn(t, v, "cluster cpu", v.Cluster("cluster-a").Ref, "red")
	check(t, v.TerminateSessions())
	states, _, err := g.TriggeredAlarms(t.Context())
	check(t, err)
	if len(states) != 1 {
		t.Errorf("%+v", states)
	}
	v.Outage()
	_, _, err = g.TriggeredAlarms(t.Context())
	wantKind(t, err, Unavailable)
	_, _, err = g.AlarmStatus(t.Context(), states[0].Alarm, "", states[0].Entity)
	wantKind(t, err, Unavailable)
}

func TestAlarmStatesThatVCenterDoesNotShowAreNoAllClear(t *testing.T) {
	_, g := warm(t, small())
	objects := appendObjects(nil, &types.RetrieveResult{Objects: []types.ObjectContent{{MissingSet: []types.MissingProperty{{
		Path: triggeredStates, Fault: types.LocalizedMethodFault{Fault: &types.NoPermission{PrivilegeId: "System.Read"}},
	}}}}})
	_, err := g.states(call{op: "list", object: "triggered alarms"}, objects[0], triggeredStates)
	wantKind(t, err, NoPermission)
	if !strings.Contains(err.Error(), "System.Read") {
		t.Errorf("%v", err)
	}
}

func TestWhatGoesWhileItsAlarmIsReadIsNotFound(t *testing.T) {
	v, g := warm(t, small())
	host := v.Cluster("cluster-a").Hosts[0].Ref
	e := turn(t, v, "cpu", host, "red")
	v.FailCall("RetrievePropertiesEx", nil, &types.ManagedObjectNotFound{Obj: host}, 1)
	_, found, err := g.AlarmStatus(t.Context(), fromMoRef(e.Alarm.Alarm), "cpu", fromMoRef(host))
	check(t, err)
	if found {
		t.Error("found")
	}
}

func TestOneObjectToldInTwoPartsIsOne(t *testing.T) {
	r := vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-1"}
	inv := index([]object{
		{ref: r, props: map[string]any{"a": "1"}},
		{ref: gone, props: map[string]any{}},
		{ref: r, props: map[string]any{"b": "2"}, denied: map[string]error{"c": errNotVM}},
	})
	if o := inv[r]; len(inv) != 2 || o.text("a") != "1" || o.text("b") != "2" || o.denied["c"] == nil {
		t.Errorf("%+v", inv)
	}
}
