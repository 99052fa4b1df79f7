package trigger_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var (
	web    = alarm.Object{Type: "VirtualMachine", Value: "vm-7", Name: "web-1"}
	resize = trigger.Resize{Settings: placement.Resize{Resource: placement.CPU, Mode: placement.ModeTag, Sizing: placement.SizingSteps, Max: 8}}
	move   = trigger.Move{Settings: placement.Move{TargetUsage: 75, OverCommit: 150}}
	apply  = trigger.Reconfigure{Settings: placement.Reconfigure{ReplyTo: "https://sink"}}
)

func on(entity alarm.Object) func(*alarm.Alarm) { return func(a *alarm.Alarm) { a.Entity = entity } }

func store(o alarm.Object) func(*alarm.Alarm) { return func(a *alarm.Alarm) { a.Datastore = o } }

// off is a VM's power-off.
func off() trigger.Incoming {
	return trigger.Incoming{Event: alarm.Event{Class: alarm.ClassPoweredOff, Power: alarm.Power{
		VM: web, Host: host, Cluster: cluster, User: "root", VCenter: "https://VC:443/sdk", EventKey: 8, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}}, CloudEvent: []byte(`{"id":"1"}`), TaskQueue: "queue"}
}

func TestRemediationIsOrderedOfTheWorkflowOfItsObject(t *testing.T) {
	vm, ds := vsphere.Ref{Type: "VirtualMachine", Value: "vm-7"}, vsphere.Ref{Type: "Datastore", Value: "datastore-3"}
	moment := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	red := func(entity vsphere.Ref) placement.Cause {
		return placement.Cause{Event: string(alarm.ClassAlarm), Alarm: "cpu", From: "yellow", To: "red", Entity: entity, Time: moment, EventKey: 7, VCenter: "vc", Rule: "rule"}
	}
	rise := func(with ...func(*alarm.Alarm)) trigger.Incoming { return changed(t, "yellow", "red", with...) }
	cases := map[string]struct {
		action   trigger.Action
		in       trigger.Incoming
		id, kind string
		what     string
		want     placement.Request
	}{
		"a VM in alarm is resized": {
			resize, rise(on(web)), "resize@vm-7@queue", placement.ResizeType, "cpu resize",
			placement.Request{ID: "vc#7@2026-01-02T03:04:05Z", Kind: "resize", VM: vm, Cause: red(vm), Resize: &resize.Settings},
		},
		"a datastore in alarm is relieved": {
			move, rise(on(disk)), "move@datastore-3@queue", placement.MoveType, "move off the datastore",
			placement.Request{ID: "vc#7@2026-01-02T03:04:05Z", Kind: "move", Source: ds, Cause: red(ds), Move: &move.Settings},
		},
		"a VM whose storage is in alarm is moved": {
			move, rise(on(web), store(disk)), "move@vm-7@queue", placement.MoveType, "move of the VM",
			placement.Request{ID: "vc#7@2026-01-02T03:04:05Z", Kind: "move", VM: vm, Cause: red(vm), Move: &move.Settings},
		},
		"the datastore that an alarm on something else names is relieved": {
			move, rise(on(host), store(disk)), "move@datastore-3@queue", placement.MoveType, "move off the datastore",
			placement.Request{ID: "vc#7@2026-01-02T03:04:05Z", Kind: "move", Source: ds, Cause: red(vsphere.Ref{Type: "HostSystem", Value: "host-21"}), Move: &move.Settings},
		},
		"a VM that was turned off is reconfigured": {
			apply, off(), "reconfigure@vm-7@queue", placement.ReconfigureType, "reconfiguration",
			placement.Request{
				ID: "vc#8@2026-01-02T03:04:05Z", Kind: "reconfigure", VM: vm, Reconfigure: &apply.Settings,
				Cause: placement.Cause{Event: string(alarm.ClassPoweredOff), Entity: vm, Time: moment, EventKey: 8, VCenter: "vc", Rule: "rule"},
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			order, reason, ok, err := c.action.Order(c.in, "rule")
			if err != nil || !ok {
				t.Fatalf("%q, %t, %v", reason, ok, err)
			}
			if order.WorkflowID != c.id || order.WorkflowType != c.kind || order.Signal != placement.Signal || order.What != c.what {
				t.Errorf("%+v", order)
			}
			c.want.TaskQueue, c.want.Event = "queue", c.in.CloudEvent
			if got := order.Payload.(placement.Request); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %s\nwant %s", asJSON(t, got), asJSON(t, c.want))
			}
		})
	}
}

func TestRemediationActsAtRed(t *testing.T) {
	for colours, want := range map[[2]string]string{
		{"green", "red"}: "", {"yellow", "red"}: "", {"gray", "red"}: "", {"red", "red"}: "",
		{"green", "yellow"}: "the alarm is yellow, and the rule acts at red",
		{"red", "yellow"}:   "the alarm fell to yellow, and the rule acts at red",
		{"red", "green"}:    "the alarm fell to green, and the rule acts at red",
		{"gray", "green"}:   "the alarm is green, and the rule acts at red",
		{"red", "gray"}:     "the alarm's state is unknown, and the rule acts at red",
	} {
		for kind, c := range map[string]struct {
			action trigger.Action
			entity alarm.Object
		}{"resize": {resize, web}, "move": {move, disk}} {
			order, reason, ok, err := c.action.Order(changed(t, colours[0], colours[1], on(c.entity)), "rule")
			if err != nil || reason != want || ok != (want == "") || (order.WorkflowID != "") != ok {
				t.Errorf("%s at %v: %q, %t, %v", kind, colours, reason, ok, err)
			}
		}
	}
}

func TestRemediationOfWhatCannotBeRemediedIsRefused(t *testing.T) {
	nobody := off()
	nobody.Event.Power.VM = alarm.Object{}
	poweredOn := off()
	poweredOn.Event.Class = alarm.ClassPoweredOn
	long := changed(t, "green", "red", on(web), called(strings.Repeat("x", preemption.MaxRequestBytes)))
	for name, c := range map[string]struct {
		action trigger.Action
		in     trigger.Incoming
		want   string
	}{
		"a resize of a host":                {resize, changed(t, "green", "red"), "the alarm is on HostSystem:host-21, a resize wants an alarm on a VM"},
		"a resize of a datastore":           {resize, changed(t, "green", "red", on(disk)), "the alarm is on Datastore:datastore-3, a resize wants an alarm on a VM"},
		"a move off a host":                 {move, changed(t, "green", "red"), "the alarm is on HostSystem:host-21, a move wants an alarm on a datastore or a VM"},
		"a resize at power-off":             {resize, off(), "a resize wants an alarm"},
		"a move at power-off":               {move, off(), "a move wants an alarm"},
		"a resize of nothing":               {resize, changed(t, "green", "red", on(alarm.Object{})), "the event names no alarm or no entity"},
		"an alarm without a name":           {move, changed(t, "green", "red", on(disk), called("")), "the event names no alarm or no entity"},
		"an alarm that reconfigures":        {apply, changed(t, "green", "red", on(web)), "a reconfiguration wants a VmPoweredOffEvent"},
		"a power-on":                        {apply, poweredOn, "a reconfiguration wants a VmPoweredOffEvent"},
		"a power-off of nobody":             {apply, nobody, "the event names no VM"},
		"more than a workflow is ever told": {resize, long, "the event makes a request of"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, ok, err := c.action.Order(c.in, "rule")
			if ok || !errors.Is(err, trigger.ErrRefused) || !strings.HasPrefix(err.Error(), "refused: "+c.want) {
				t.Errorf("%t, %v", ok, err)
			}
		})
	}
}

func TestAnEventIsTheSameRequestInEveryDelivery(t *testing.T) {
	id := func(in trigger.Incoming) string {
		t.Helper()
		var action trigger.Action = resize
		if in.Event.Class != alarm.ClassAlarm {
			action = apply
		}
		order, _, _, err := action.Order(in, "rule")
		if err != nil {
			t.Fatal(err)
		}
		return order.Payload.(placement.Request).ID
	}
	rise := func(with ...func(*alarm.Alarm)) trigger.Incoming {
		return changed(t, "green", "red", append([]func(*alarm.Alarm){on(web)}, with...)...)
	}
	noKey := func(a *alarm.Alarm) { a.EventKey = 0 }
	later := func(a *alarm.Alarm) { a.Time = a.Time.Add(time.Second) }
	elsewhere := func(a *alarm.Alarm) { a.Entity.Value = "vm-8" }
	routed := rise(func(a *alarm.Alarm) { a.VCenter = "VC" })
	routed.CloudEvent = json.RawMessage(`{"id":"another"}`)
	if id(rise()) != id(routed) {
		t.Error("another router makes another request of it")
	}
	again := off()
	again.Event.Power.VCenter, again.Event.Power.User = "vc", ""
	if id(off()) != id(again) {
		t.Error("another router makes another request of a power-off")
	}
	distinct := map[string]bool{}
	for _, in := range []trigger.Incoming{
		rise(), rise(later), rise(func(a *alarm.Alarm) { a.EventKey = 9 }), rise(func(a *alarm.Alarm) { a.VCenter = "other" }),
		rise(noKey), rise(noKey, later), rise(noKey, elsewhere), rise(noKey, called("memory")), off(),
	} {
		if distinct[id(in)] {
			t.Errorf("two events are one request: %s", id(in))
		}
		distinct[id(in)] = true
	}
	if timeless := func(a *alarm.Alarm) { a.Time = time.Time{} }; id(rise(timeless)) != "vc#7" {
		t.Errorf("%s", id(rise(timeless)))
	}
}

func TestALargeEventIsLeftOutOfTheRequest(t *testing.T) {
	for name, c := range map[string]struct {
		event json.RawMessage
		kept  bool
	}{
		"just small enough": {event("x", 64<<10-100), true}, "too large": {event("x", 64<<10), false},
		"no JSON": {json.RawMessage("<a/>"), false}, "none": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := changed(t, "green", "red", on(web))
			in.CloudEvent = c.event
			order, _, ok, err := resize.Order(in, "rule")
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if got := order.Payload.(placement.Request).Event; (len(got) > 0) != c.kept || !json.Valid([]byte(asJSON(t, order.Payload))) {
				t.Errorf("%d bytes of it are in the request", len(got))
			}
		})
	}
}

func TestAnAlarmWithoutATimeIsRemediedNow(t *testing.T) {
	before := time.Now()
	order, _, _, err := resize.Order(changed(t, "green", "red", on(web), func(a *alarm.Alarm) { a.Time, a.EventKey = time.Time{}, 0 }), "rule")
	if err != nil {
		t.Fatal(err)
	}
	r := order.Payload.(placement.Request)
	if r.Cause.Time.Before(before) || r.Cause.Time.Location() != time.UTC || r.ID == "" {
		t.Errorf("%+v", r)
	}
}
