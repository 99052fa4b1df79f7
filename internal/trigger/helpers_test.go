package trigger_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

var (
	cluster = alarm.Object{Type: "ClusterComputeResource", Value: "domain-c7", Name: "cls"}
	host    = alarm.Object{Type: "HostSystem", Value: "host-21", Name: "esx-1"}
	disk    = alarm.Object{Type: "Datastore", Value: "datastore-3", Name: "ssd"}
)

// documented is the CloudEvent of the documentation, as it comes.
func documented(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../../testdata/alarm-green-to-red-host1.structured.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// changed is a change of the alarm "cpu" on a host in a cluster, adapted by each of with.
func changed(t testing.TB, from, to string, with ...func(*alarm.Alarm)) trigger.Incoming {
	t.Helper()
	al := alarm.Alarm{
		Name: "cpu", Ref: alarm.Object{Type: "Alarm", Value: "alarm-282"}, Entity: host, Cluster: cluster, Host: host,
		From: from, To: to, VCenter: "https://vc/sdk", EventKey: 7, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
	for _, f := range with {
		f(&al)
	}
	return trigger.Incoming{
		Event: alarm.Event{Class: alarm.ClassAlarm, Alarm: al}, CloudEvent: documented(t), TaskQueue: "queue",
	}
}

func called(name string) func(*alarm.Alarm) { return func(a *alarm.Alarm) { a.Name = name } }

func at(entity, host, cluster alarm.Object) func(*alarm.Alarm) {
	return func(a *alarm.Alarm) { a.Entity, a.Host, a.Cluster = entity, host, cluster }
}

// power is an event of a VM's power state.
func power(class alarm.Class) trigger.Incoming {
	return trigger.Incoming{Event: alarm.Event{Class: class, Power: alarm.Power{VM: alarm.Object{Type: "VirtualMachine", Value: "vm-1"}}}}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
