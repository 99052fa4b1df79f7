package trigger_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestWhatAChangeOfColourTells(t *testing.T) {
	plain := trigger.Preempt{}
	soft := trigger.Preempt{OnFall: trigger.OnFallSoften}
	cancel := trigger.Preempt{OnFall: trigger.OnFallCancel}
	own := trigger.Preempt{Yellow: "LOW", Red: "MEDIUM"}
	redOnly := trigger.Preempt{Yellow: trigger.None}
	softRedOnly := trigger.Preempt{Yellow: trigger.None, OnFall: trigger.OnFallSoften}
	silent := trigger.Preempt{Yellow: trigger.None, Red: trigger.None}
	ignored := told{}
	cases := map[string]struct {
		rule     trigger.Preempt
		from, to string
		want     told
	}{
		"yellow is MEDIUM":                               {plain, "green", "yellow", told{"MEDIUM preemption", "MEDIUM", "MEDIUM", false}},
		"red is HIGH":                                    {plain, "green", "red", told{"HIGH preemption", "HIGH", "HIGH", false}},
		"yellow to red is HIGH":                          {plain, "yellow", "red", told{"HIGH preemption", "HIGH", "HIGH", false}},
		"gray to red is HIGH":                            {plain, "gray", "red", told{"HIGH preemption", "HIGH", "HIGH", false}},
		"red again":                                      {plain, "red", "red", told{"HIGH preemption", "HIGH", "HIGH", false}},
		"the rule's own yellow":                          {own, "green", "yellow", told{"LOW preemption", "LOW", "LOW", false}},
		"the rule's own red":                             {own, "green", "red", told{"MEDIUM preemption", "MEDIUM", "MEDIUM", false}},
		"a fall to green carries no request":             {plain, "red", "green", told{"fall to green", trigger.None, "", false}},
		"a fall from yellow carries no request":          {plain, "yellow", "green", told{"fall to green", trigger.None, "", false}},
		"gray to green carries no request":               {plain, "gray", "green", told{"fall to green", trigger.None, "", false}},
		"green again is told":                            {plain, "green", "green", told{"fall to green", trigger.None, "", false}},
		"unknown carries no request":                     {plain, "red", "gray", told{"state unknown", trigger.None, "", false}},
		"unknown from green is told":                     {plain, "green", "gray", told{"state unknown", trigger.None, "", false}},
		"red to yellow by default cancels":               {plain, "red", "yellow", told{"fall to yellow", "MEDIUM", "", false}},
		"red to yellow with cancel carries no request":   {cancel, "red", "yellow", told{"fall to yellow", "MEDIUM", "", false}},
		"red to yellow with soften is milder":            {soft, "red", "yellow", told{"MEDIUM preemption", "MEDIUM", "MEDIUM", true}},
		"gray to yellow with soften: it may have fallen": {soft, "gray", "yellow", told{"MEDIUM preemption", "MEDIUM", "MEDIUM", true}},
		"gray to yellow with cancel":                     {cancel, "gray", "yellow", told{"MEDIUM preemption", "MEDIUM", "MEDIUM", false}},
		"a rise to yellow does not soften":               {soft, "green", "yellow", told{"MEDIUM preemption", "MEDIUM", "MEDIUM", false}},
		"a rise to red does not soften":                  {soft, "yellow", "red", told{"HIGH preemption", "HIGH", "HIGH", false}},
		"gray to red does not soften":                    {soft, "gray", "red", told{"HIGH preemption", "HIGH", "HIGH", false}},
		"red to green does not soften":                   {soft, "red", "green", told{"fall to green", trigger.None, "", false}},
		"a yellow that does nothing is ignored":          {redOnly, "green", "yellow", ignored},
		"a yellow that does nothing ends a red":          {redOnly, "red", "yellow", told{"fall to yellow", trigger.None, "", false}},
		"and cannot soften it":                           {softRedOnly, "red", "yellow", told{"fall to yellow", trigger.None, "", false}},
		"and ends what may have been red before gray":    {redOnly, "gray", "yellow", told{"nothing more at yellow", trigger.None, "", false}},
		"red after a yellow that does nothing":           {redOnly, "yellow", "red", told{"HIGH preemption", "HIGH", "HIGH", false}},
		"a red that does nothing is ignored":             {silent, "green", "red", ignored},
		"and so from yellow":                             {silent, "yellow", "red", ignored},
		"its fall is told: the rule may have been other": {silent, "red", "green", told{"fall to green", trigger.None, "", false}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			order, reason, ok, err := c.rule.Order(changed(t, c.from, c.to), "cpu")
			if err != nil {
				t.Fatal(err)
			}
			if c.want == ignored {
				if ok || reason != "the rule does nothing at "+c.to || order != (trigger.Order{}) {
					t.Errorf("%+v, %q, %t", order, reason, ok)
				}
				return
			}
			change, isChange := order.Payload.(preemption.AlarmChange)
			if !ok || !isChange {
				t.Fatalf("nothing is told: %q", reason)
			}
			got := told{what: order.What, crit: change.Criticality, soften: change.Soften}
			if len(change.Request) > 0 {
				got.request = request(t, change).Criticality
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if change.From != c.from || change.To != c.to {
				t.Errorf("%s to %s", change.From, change.To)
			}
		})
	}
}

func request(t testing.TB, c preemption.AlarmChange) (r preemption.WorkflowRequest) {
	t.Helper()
	if err := json.Unmarshal(c.Request, &r); err != nil {
		t.Fatalf("the request is none: %v\n%s", err, c.Request)
	}
	return r
}

func TestTheIntakeIsThatOfAlarmAndScope(t *testing.T) {
	none := alarm.Object{}
	cases := map[string]struct {
		scope     string
		at        func(*alarm.Alarm)
		id, ref   string
		refusedAs string
	}{
		"by default the cluster":                 {"", at(host, host, cluster), "cpu@domain-c7@queue", "ClusterComputeResource:domain-c7", ""},
		"cluster":                                {"cluster", at(host, host, cluster), "cpu@domain-c7@queue", "ClusterComputeResource:domain-c7", ""},
		"cluster, of an alarm on it":             {"cluster", at(cluster, none, none), "cpu@domain-c7@queue", "ClusterComputeResource:domain-c7", ""},
		"cluster, of a host on its own":          {"cluster", at(host, host, none), "cpu@host-21@queue", "HostSystem:host-21", ""},
		"cluster, of a host that is entity only": {"cluster", at(host, none, none), "cpu@host-21@queue", "HostSystem:host-21", ""},
		"cluster, where none is named":           {"cluster", at(disk, none, none), "", "", `the event of alarm "cpu" names neither a cluster nor a host to work on; a policy with scope: all would work on everything`},
		"host":                                   {"host", at(host, host, cluster), "cpu@host-21@queue", "HostSystem:host-21", ""},
		"host, that is the entity":               {"host", at(host, none, cluster), "cpu@host-21@queue", "HostSystem:host-21", ""},
		"host, beside a cluster in alarm":        {"host", at(cluster, host, cluster), "cpu@host-21@queue", "HostSystem:host-21", ""},
		"host, where none is named":              {"host", at(cluster, none, cluster), "", "", `the policy works by host, and the event of alarm "cpu" names none`},
		"all":                                    {"all", at(host, host, cluster), "cpu@all@queue", "", ""},
		"all, where nothing is named":            {"all", at(disk, none, none), "cpu@all@queue", "", ""},
		"no entity":                              {"all", at(none, host, cluster), "", "", "the event names no alarm or no entity"},
		"no alarm":                               {"all", called(""), "", "", "the event names no alarm or no entity"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			order, _, ok, err := trigger.Preempt{Scope: c.scope}.Order(changed(t, "green", "red", c.at), "cpu")
			if c.refusedAs != "" {
				if !errors.Is(err, trigger.ErrRefused) || err.Error() != "refused: "+c.refusedAs || ok {
					t.Errorf("%t, %v", ok, err)
				}
				return
			}
			if err != nil || order.WorkflowID != c.id {
				t.Fatalf("id %q, %v", order.WorkflowID, err)
			}
			if got := order.Payload.(preemption.AlarmChange).Scope; got != c.ref {
				t.Errorf("scope %q", got)
			}
		})
	}
}

func TestTheOrderHoldsAllThatTheIntakeNeeds(t *testing.T) {
	p := trigger.Preempt{Tag: "spot:yes", Policy: "careful", ReplyTo: "https://broker", Yellow: "LOW"}
	order, _, ok, err := p.Order(changed(t, "green", "red"), "cpu*")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if order.WorkflowType != preemption.WorkflowName || order.Signal != preemption.AlarmSignal {
		t.Errorf("%+v", order)
	}
	c := order.Payload.(preemption.AlarmChange)
	r := request(t, c)
	c.Request = nil
	want := preemption.AlarmChange{
		Alarm: "cpu", Entity: "HostSystem:host-21", Scope: "ClusterComputeResource:domain-c7", From: "green", To: "red",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), EventKey: 7, Rule: "cpu*", Criticality: "HIGH", TaskQueue: "queue", Source: "https://vc/sdk",
	}
	if got := asJSON(t, c); got != asJSON(t, want) {
		t.Errorf("got  %s\nwant %s", got, asJSON(t, want))
	}
	if r.Tag != "spot:yes" || r.Criticality != "HIGH" || r.ReplyTo != "https://broker" || r.Policy != "careful" || r.TaskQueue != "queue" {
		t.Errorf("%+v", r)
	}
	if r.ID != "" || r.Origin != "" {
		t.Errorf("an alarm's request has id %q and origin %q: the intake takes the id of the event", r.ID, r.Origin)
	}
}

func TestTheRequestHoldsTheCloudEventAsItCame(t *testing.T) {
	cases := map[string]string{
		"the documented one": string(documented(t)),
		"attributes that nobody knows": `{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2021-11-05T13:13:49.993999Z",` +
			`"eventclass":"event","traceparent":"00-ab","count":7,"data":{"a":[1.50,12345678901234567890]},"datacontenttype":"application/json"}`,
		"XML in a string": `{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"application/xml","data":"<a b=\"c\">ü &amp; 'd'</a>"}`,
		"base64":          `{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"application/xml","data_base64":"PGEvPg=="}`,
		"no data":         `{"specversion":"1.0","id":"1","source":"s","type":"t"}`,
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			in := changed(t, "green", "red")
			in.CloudEvent = json.RawMessage(text)
			order, _, _, err := trigger.Preempt{Tag: "x"}.Order(in, "cpu")
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Event json.RawMessage }
			if err := json.Unmarshal(order.Payload.(preemption.AlarmChange).Request, &got); err != nil {
				t.Fatal(err)
			}
			if got, want := sorted(t, got.Event), sorted(t, []byte(text)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// sorted writes JSON with its keys in order and its numbers as they came.
func sorted(t *testing.T, raw []byte) string {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return asJSON(t, v)
}

// event is a valid CloudEvent with a text of so many bytes in its data.
func event(letter string, n int) json.RawMessage {
	return json.RawMessage(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":"` + strings.Repeat(letter, n) + `"}}`)
}

func TestAnEventThatMakesNoRequestIsRefused(t *testing.T) {
	const most = preemption.MaxRequestBytes
	cases := map[string]struct {
		event    json.RawMessage
		from, to string
		want     string // "": taken
	}{
		"none at all":                     {nil, "green", "red", "the event is empty"},
		"no JSON":                         {json.RawMessage("<a/>"), "green", "red", "is no structured CloudEvent"},
		"no CloudEvent":                   {json.RawMessage(`{"specversion":"1.0"}`), "green", "red", "CloudEvent"},
		"large":                           {event("x", most), "green", "red", ""},
		"large, and escaped larger still": {event("<", most/4), "green", "red", ""},
		"an endless id":                   {json.RawMessage(`{"specversion":"1.0","id":"` + strings.Repeat("1", most/2) + `","source":"s","type":"t"}`), "green", "red", "the event's attributes make"},
		"just large":                      {event("x", most-2000), "green", "red", ""},
		"none, for a fall":                {nil, "red", "green", ""},
		"too large, for a fall":           {event("x", most), "red", "green", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := changed(t, c.from, c.to)
			in.CloudEvent = c.event
			order, _, ok, err := trigger.Preempt{Tag: "x"}.Order(in, "cpu")
			if c.want == "" {
				if err != nil || !ok || len(asJSON(t, order.Payload)) > 2*alarm.MaxKept {
					t.Errorf("%t, %d bytes, %v", ok, len(asJSON(t, order.Payload)), err)
				}
				return
			}
			if !errors.Is(err, trigger.ErrRefused) || !strings.Contains(err.Error(), c.want) || ok {
				t.Errorf("%t, %v", ok, err)
			}
		})
	}
}

func TestAnEventWithoutATimeIsOfNow(t *testing.T) {
	in := changed(t, "green", "red", func(a *alarm.Alarm) { a.Time = time.Time{} })
	before := time.Now()
	order, _, _, err := trigger.Preempt{Tag: "x"}.Order(in, "cpu")
	if err != nil {
		t.Fatal(err)
	}
	if at := order.Payload.(preemption.AlarmChange).Time; at.Before(before) || at.Location() != time.UTC {
		t.Errorf("%s", at)
	}
}

func TestIntakesAreCalledByAlarmAndScope(t *testing.T) {
	for want, scope := range map[string]alarm.Object{"a/b [c]@domain-c7": cluster, "a/b [c]@all": {}} {
		if got := trigger.WorkflowID("a/b [c]", scope, ""); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestARuleThatObservesSaysSoInItsRequests(t *testing.T) {
	for _, mode := range []string{"", preemption.ModeObserve} {
		order, _, ok, err := (trigger.Preempt{Tag: "preemptible", Mode: mode}).Order(changed(t, "green", "red"), "rule")
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		var req preemption.WorkflowRequest
		if err := json.Unmarshal(order.Payload.(preemption.AlarmChange).Request, &req); err != nil {
			t.Fatal(err)
		}
		if req.Mode != mode {
			t.Errorf("mode %q, want %q", req.Mode, mode)
		}
	}
}
