package alarm_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

func documented(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../../testdata/alarm-green-to-red-host1.structured.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheDocumentedEventDecodes(t *testing.T) {
	a, err := alarm.FromCloudEvent(documented(t))
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "cluster-cpu-above-80" || a.From != "green" || a.To != "red" || !a.Rising() || !a.Up() {
		t.Errorf("%+v", a)
	}
	if a.Entity.Ref() != "HostSystem:host-21" || a.Scope().Ref() != "ClusterComputeResource:domain-c7" || a.Scope().Name != "cls" {
		t.Errorf("entity %s, scope %+v", a.Entity.Ref(), a.Scope())
	}
	if !a.VM.Zero() || a.Key() != "10.161.164.224#15227" || a.Time.Year() != 2021 {
		t.Errorf("vm %+v, key %q, time %s", a.VM, a.Key(), a.Time)
	}
}

func TestKeysInEitherCaseReadAlike(t *testing.T) {
	var e map[string]any
	if err := json.Unmarshal(documented(t), &e); err != nil {
		t.Fatal(err)
	}
	e["data"] = lower(e["data"])
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := alarm.FromCloudEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := alarm.FromCloudEvent(documented(t)); got != want {
		t.Errorf("camelCase reads as %+v, PascalCase as %+v", got, want)
	}
}

// lower writes every key with a small first letter, as current govmomi does.
func lower(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for k, v := range m {
		out[strings.ToLower(k[:1])+k[1:]] = lower(v)
	}
	return out
}

func TestWhatIsNoAlarmIsToldApartFromWhatClaimsToBeOne(t *testing.T) {
	if _, err := alarm.FromCloudEvent([]byte(`{"type":"com.vmware.event.router/event","subject":"VmPoweredOffEvent","data":{}}`)); !errors.Is(err, alarm.ErrNotAlarm) {
		t.Errorf("another event: %v", err)
	}
	cases := map[string]struct{ in, want string }{
		"no alarm":         {`{}`, "Alarm.Name"},
		"no entity":        {`{"Alarm":{"Name":"a"}}`, "Entity.Entity"},
		"no colour":        {`{"Alarm":{"Name":"a"},"Entity":{"Entity":{"Type":"HostSystem","Value":"host-1"}},"From":"green","To":"purple"}`, "purple"},
		"no object at all": {`[1,2]`, "decode AlarmStatusChangedEvent"},
		"data of text":     {`"hello"`, "decode AlarmStatusChangedEvent"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := alarm.FromCloudEvent([]byte(`{"type":"AlarmStatusChangedEvent","data":` + tc.in + `}`))
			if err == nil || errors.Is(err, alarm.ErrNotAlarm) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want an error with %q, got %v", tc.want, err)
			}
		})
	}
	if _, err := alarm.FromCloudEvent(make([]byte, alarm.MaxBytes+1)); err == nil {
		t.Error("more than the bound was read")
	}
}

func TestTheScopeIsTheClusterOrElseTheHost(t *testing.T) {
	host := alarm.Object{Type: "HostSystem", Value: "host-1"}
	cluster := alarm.Object{Type: "ClusterComputeResource", Value: "domain-c1"}
	cases := map[string]struct {
		a    alarm.Alarm
		want string
	}{
		"the cluster the event names": {alarm.Alarm{Cluster: cluster, Entity: host, Host: host}, "ClusterComputeResource:domain-c1"},
		"a cluster in alarm itself":   {alarm.Alarm{Entity: cluster}, "ClusterComputeResource:domain-c1"},
		"a host without a cluster":    {alarm.Alarm{Entity: host}, "HostSystem:host-1"},
		"the host of a VM in alarm":   {alarm.Alarm{Entity: alarm.Object{Type: "VirtualMachine", Value: "vm-1"}, Host: host}, "HostSystem:host-1"},
		"nothing known":               {alarm.Alarm{Entity: alarm.Object{Type: "Datastore", Value: "ds-1"}}, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tc.a.Scope().Ref(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzFromCloudEvent(f *testing.F) {
	f.Add(documented(f))
	f.Add([]byte(`{"type":"AlarmStatusChangedEvent","data":null}`))
	f.Add(load(f, "vspheresource-xml.structured.json"))
	f.Add(load(f, "vspheresource-base64.structured.json"))
	f.Add(load(f, "veba-0.2.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := alarm.FromCloudEvent(b)
		if err == nil {
			checkAlarm(t, a)
		}
	})
}
