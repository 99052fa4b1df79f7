package intake

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// away is a way to a vCenter that does not answer, which has the documented events' names.
func away(t testing.TB) *vcenter.Gateway {
	t.Helper()
	g, err := vcenter.New(vcenter.Config{URL: "https://127.0.0.1:1/sdk", Insecure: true, SecretPath: t.TempDir(), Aliases: []string{"10.161.164.224", "vc"}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func decode(t testing.TB, set preempt.Settings, text string) Decoded {
	t.Helper()
	a := &Activities{VCenter: away(t), Env: &preempt.Env{Settings: set}}
	out, err := a.DecodeMessages(t.Context(), []Message{{JSON: json.RawMessage(text)}})
	if err != nil || len(out.Decoded) != 1 {
		t.Fatalf("decoding failed: %+v, %v", out, err)
	}
	return out.Decoded[0]
}

func TestADocumentedRequestBecomesADemandForItsCluster(t *testing.T) {
	b, err := os.ReadFile("../../../testdata/workflow-request-1.json")
	if err != nil {
		t.Fatal(err)
	}
	d := decode(t, preempt.DefaultSettings(), string(b))
	if d.Rejected != "" {
		t.Fatal(d.Rejected)
	}
	want := vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}
	if d.Demand.Scope != want || d.Demand.ScopeName != "cls" || d.Demand.Alarm() != "cluster-cpu-above-80" || d.Demand.Person {
		t.Errorf("%+v", d.Demand)
	}
	if d.Demand.RequestID != "10.161.164.224#15227@2021-11-05T13:13:49Z" || d.Demand.EventID != "d65a8ad1-7d3c-4f72-ace4-e3f2883c4475" {
		t.Errorf("ids %q, %q: vCenter's event key tells a redelivery", d.Demand.RequestID, d.Demand.EventID)
	}
	if d.Change == nil || d.Change.Entity != "HostSystem:host-21" || d.From != "green" {
		t.Errorf("change %+v from %q", d.Change, d.From)
	}
}

func TestABadRequestIsRejectedWithItsReason(t *testing.T) {
	limited := preempt.DefaultSettings()
	limited.AllowedTags, limited.MaxCriticality = []string{"spot"}, preemption.CriticalityMedium
	byHost := preempt.DefaultSettings()
	p := policy.Default()
	p.Scope = policy.ScopeHost
	byHost.Policies = map[string]policy.Policy{"default": p}
	alarmOf := func(data string) string {
		return `{"tag":"t","criticality":"HIGH","event":{"specversion":"1.0","id":"1","source":"vc","type":"AlarmStatusChangedEvent","data":` + data + `}}`
	}
	cases := map[string]struct {
		set  preempt.Settings
		in   string
		want string
	}{
		"no JSON object":                        {preempt.DefaultSettings(), `7`, "no WorkflowRequest"},
		"no tag":                                {preempt.DefaultSettings(), `{"criticality":"LOW"}`, "tag is empty"},
		"an endless tag":                        {preempt.DefaultSettings(), `{"criticality":"LOW","tag":"` + strings.Repeat("x", 600) + `"}`, "at most 512"},
		"a criticality nobody knows":            {preempt.DefaultSettings(), `{"tag":"t","criticality":"URGENT"}`, `unknown criticality "URGENT"`},
		"no criticality":                        {preempt.DefaultSettings(), `{"tag":"t"}`, "unknown criticality"},
		"a tag that is not allowed":             {limited, `{"tag":"other","criticality":"LOW"}`, "limits.allowedTags"},
		"more than the worker's criticality":    {limited, `{"tag":"spot","criticality":"HIGH"}`, "limits.maxCriticality"},
		"a request for another queue's vCenter": {preempt.DefaultSettings(), `{"tag":"t","criticality":"LOW","taskQueue":"other"}`, `meant for task queue "other"`},
		"an unknown policy":                     {preempt.DefaultSettings(), `{"tag":"t","criticality":"LOW","policy":"wild"}`, `unknown policy "wild"`},
		"a reply address of another scheme":     {preempt.DefaultSettings(), `{"tag":"t","criticality":"LOW","replyTo":"file:///etc/passwd"}`, "no http or https URL"},
		"an event that is no CloudEvent":        {preempt.DefaultSettings(), `{"tag":"t","criticality":"LOW","event":{"id":"1"}}`, "CloudEvent"},
		"an alarm event without an alarm":       {preempt.DefaultSettings(), alarmOf(`{}`), "Alarm.Name"},
		"an alarm without cluster or host":      {preempt.DefaultSettings(), alarmOf(`{"Alarm":{"Name":"a"},"Entity":{"Entity":{"Type":"Datastore","Value":"ds-1"}},"From":"green","To":"red"}`), "neither a cluster nor a host"},
		"a policy by host and a cluster alarm":  {byHost, alarmOf(`{"Alarm":{"Name":"a"},"Entity":{"Entity":{"Type":"ClusterComputeResource","Value":"c1"}},"From":"green","To":"red"}`), "works by host"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if d := decode(t, tc.set, tc.in); d.Demand != nil || !strings.Contains(d.Rejected, tc.want) {
				t.Errorf("want a rejection with %q, got %+v", tc.want, d)
			}
		})
	}
}

func TestUnknownFieldsAreTolerated(t *testing.T) {
	d := decode(t, preempt.DefaultSettings(), `{"tag":"t","criticality":"LOW","color":"blue","event":null}`)
	if d.Rejected != "" || !d.Demand.Person {
		t.Errorf("%+v", d)
	}
}

func TestAnAlarmChangeIsDecoded(t *testing.T) {
	a := &Activities{VCenter: away(t), Env: &preempt.Env{Settings: preempt.DefaultSettings()}}
	ask := func(text string) Decoded {
		out, _ := a.DecodeMessages(t.Context(), []Message{{Alarm: true, JSON: json.RawMessage(text)}})
		return out.Decoded[0]
	}
	d := ask(`{"alarm":"cpu","entity":"HostSystem:h1","scope":"ClusterComputeResource:c1","to":"red","from":"green","time":"2026-11-22T03:00:00Z","eventKey":7,"request":{"tag":"t","criticality":"HIGH"}}`)
	if d.Rejected != "" || d.Demand.Scope.Value != "c1" || d.Demand.Person || d.Change.EventKey != 7 || d.Demand.RequestID == "" {
		t.Errorf("%+v", d)
	}
	if d := ask(`{"alarm":"cpu","entity":"HostSystem:h1","to":"green"}`); d.Rejected != "" || d.Demand != nil {
		t.Errorf("a fall needs no request: %+v", d)
	}
	for _, bad := range []string{`{"to":"red"}`, `{"alarm":"a","entity":"e","to":"pink"}`, `[]`, `{"alarm":"a","entity":"e","to":"red","request":{}}`} {
		if d := ask(bad); d.Rejected == "" {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestTheSameRequestHasTheSameRound(t *testing.T) {
	first, again := roundID("i", "r", 1), roundID("i", "r", 1)
	if first != again || first == roundID("i", "r", 2) || first == roundID("i", "q", 1) {
		t.Error("round ids do not follow their requests")
	}
}

func FuzzDecodeMessages(f *testing.F) {
	f.Add([]byte(`{"tag":"t","criticality":"LOW"}`), false)
	f.Add([]byte(`{"alarm":"a","entity":"e","to":"red"}`), true)
	for _, name := range []string{"workflow-request-1.json", "workflow-request-2.json"} {
		b, err := os.ReadFile("../../../testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
	}
	a := &Activities{VCenter: away(f), Env: &preempt.Env{Settings: preempt.DefaultSettings()}}
	f.Fuzz(func(t *testing.T, b []byte, isAlarm bool) {
		out, err := a.DecodeMessages(t.Context(), []Message{{Alarm: isAlarm, JSON: b}})
		if err != nil || len(out.Decoded) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		d := out.Decoded[0]
		if d.Rejected == "" && d.Demand == nil && d.Change == nil {
			t.Fatalf("neither taken nor rejected: %s", b)
		}
		if d.Demand != nil && (d.Demand.Tag == "" || d.Demand.Criticality.Rank() == 0) {
			t.Fatalf("taken: %s", fmt.Sprint(d.Demand))
		}
	})
}
