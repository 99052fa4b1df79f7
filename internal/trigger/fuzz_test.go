package trigger_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// Whatever an event holds: what is ordered is what the intake can take, and the rest is refused for good.
func FuzzOrder(f *testing.F) {
	whole := documented(f)
	criticalities := []preemption.Criticality{"", trigger.None, "LOW", "MEDIUM", "HIGH"}
	for _, seed := range []struct {
		rule, name, entity, scope, from, to string
		yellow, red                         byte
		fall                                string
	}{
		{"cpu", "cpu", "host-21", "cluster", "green", "red", 0, 0, ""},
		{"*", "a/b [c", "host-21", "host", "red", "yellow", 2, 4, "soften"},
		{"[", "\x00\xff", "", "all", "gray", "", 1, 1, "cancel"},
	} {
		f.Add(seed.rule, seed.name, "HostSystem", seed.entity, "domain-c7", seed.scope, seed.from, seed.to, seed.yellow, seed.red, seed.fall, int64(7), int64(1), whole)
	}
	f.Fuzz(func(t *testing.T, rule, name, kind, entity, cluster, scope, from, to string, yellow, red byte, fall string, key, at int64, raw []byte) {
		al := alarm.Alarm{
			Name: name, Ref: alarm.Object{Type: "Alarm", Value: "alarm-1"}, Entity: alarm.Object{Type: kind, Value: entity},
			Cluster: alarm.Object{Type: "ClusterComputeResource", Value: cluster}, From: from, To: to, EventKey: key, Time: time.Unix(at%(1<<32), 0),
		}
		p := trigger.Preempt{Tag: "x", Scope: scope, OnFall: fall, Yellow: criticalities[int(yellow)%len(criticalities)], Red: criticalities[int(red)%len(criticalities)]}
		in := trigger.Incoming{Event: alarm.Event{Class: alarm.ClassAlarm, Alarm: al}, CloudEvent: raw, TaskQueue: "q"}
		if matches := (trigger.Rule{Alarm: rule}).Matches(in.Event); rule != "" && rule == name && !matches {
			t.Errorf("a rule is not on the alarm that it names: %q", rule)
		}
		order, reason, ok, err := p.Order(in, rule)
		switch {
		case err != nil:
			if ok || !errors.Is(err, trigger.ErrRefused) {
				t.Errorf("%t, %v", ok, err)
			}
			return
		case !ok:
			if reason == "" || !al.Up() {
				t.Errorf("to %q is ignored for %q", to, reason)
			}
			return
		}
		check(t, al, p, order)
		again, _, _, _ := p.Order(in, rule)
		if asJSON(t, again) != asJSON(t, order) {
			t.Error("the same event is another message")
		}
	})
}

// check checks what must hold of every order.
func check(t *testing.T, al alarm.Alarm, p trigger.Preempt, order trigger.Order) {
	t.Helper()
	c := order.Payload.(preemption.AlarmChange)
	if order.WorkflowID != workflowid.Of(order.WorkflowID) || order.What == "" {
		t.Errorf("id %q, what %q", order.WorkflowID, order.What)
	}
	if (p.Scope == "all") != (c.Scope == "") {
		t.Errorf("scope %q of a policy by %q", c.Scope, p.Scope)
	}
	if len(c.Request) == 0 {
		if c.Soften || al.Rising() && c.Criticality != trigger.None {
			t.Errorf("a rise or a softening says not what to do: %s", asJSON(t, c))
		}
		return
	}
	if !al.Up() || c.Criticality == trigger.None {
		t.Errorf("a request at %q, criticality %q", al.To, c.Criticality)
	}
	if n := len(asJSON(t, c)); n > 2*alarm.MaxKept+6*len(al.Name) {
		t.Errorf("%d bytes", n)
	}
	var r preemption.WorkflowRequest
	if err := json.Unmarshal(c.Request, &r); err != nil {
		t.Fatalf("the request is none: %v\n%s", err, c.Request)
	}
	if err := r.Event.Validate(); err != nil || r.Criticality != c.Criticality {
		t.Errorf("criticality %q for %q, event: %v", r.Criticality, c.Criticality, err)
	}
}
