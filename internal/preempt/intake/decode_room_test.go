package intake

import (
	"encoding/json"
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestWhatIsAskedOfRoomIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		request wireRequest
		cluster string
		refused string
	}{
		"none":                 {wireRequest{}, "", ""},
		"for a VM":             {wireRequest{Room: &preemption.Room{For: "db-1"}}, "", ""},
		"in a cluster":         {wireRequest{Room: &preemption.Room{CPUs: 4, Cluster: "domain-c7"}}, "ClusterComputeResource:domain-c7", ""},
		"on a host":            {wireRequest{Room: &preemption.Room{MemoryMB: 4, Cluster: "HostSystem:host-1"}}, "HostSystem:host-1", ""},
		"for nothing":          {wireRequest{Room: &preemption.Room{}}, "", "room is empty"},
		"for a VM, and sizes":  {wireRequest{Room: &preemption.Room{For: "db-1", CPUs: 1}}, "", "leave room.cpus"},
		"for a VM that goes":   {wireRequest{VM: "web-1", Room: &preemption.Room{For: "db-1"}}, "", "ask for one of them"},
		"for a long name":      {wireRequest{Room: &preemption.Room{For: strings.Repeat("x", maxVM+1)}}, "", "bytes long"},
		"for too many CPUs":    {wireRequest{Room: &preemption.Room{CPUs: maxRoomCPUs + 1}}, "", "room.cpus"},
		"for a negative size":  {wireRequest{Room: &preemption.Room{CPUs: 1, MemoryMB: -1}}, "", "room.memoryMB"},
		"in what is no MoRef":  {wireRequest{Room: &preemption.Room{CPUs: 1, Cluster: "cluster a"}}, "", "no MoRef"},
		"in what is too large": {wireRequest{Room: &preemption.Room{CPUs: 1, Cluster: strings.Repeat("x", maxVM+1)}}, "", "no MoRef"},
	} {
		cluster, err := checkRoom(c.request)
		if cluster.String() != c.cluster || (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, %v", name, cluster, err)
		}
		if err != nil && cluster != (vsphere.Ref{}) {
			t.Errorf("%s: refused, and in %v", name, cluster)
		}
	}
}

func TestRoomIsPlannedAndNotMade(t *testing.T) {
	r := newIntakeRun(t)
	request := json.RawMessage(`{"tag":"spot","criticality":"LOW","room":{"cpus":4,"cluster":"domain-c7"}}`)
	for plan, refused := range map[bool]string{true: "", false: "makes no room"} {
		got, err := r.acts.DecodeMessages(t.Context(), []Message{{JSON: request, Plan: plan}})
		if err != nil {
			t.Fatal(err)
		}
		d := got.Decoded[0]
		if (d.Rejected == "") != (refused == "") || !strings.Contains(d.Rejected, refused) || plan && (d.Demand.Rooms[0].CPUs != 4 || d.Demand.Scope.Value != "domain-c7") {
			t.Errorf("planned %t: %+v", plan, d)
		}
	}
}

func TestRoomBesideAnAlarmsEventIsRefused(t *testing.T) {
	r := newIntakeRun(t)
	var request map[string]any
	if err := json.Unmarshal(documented(t), &request); err != nil {
		t.Fatal(err)
	}
	request["room"] = preemption.Room{CPUs: 4}
	raw, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.acts.DecodeMessages(t.Context(), []Message{{JSON: raw, Plan: true}})
	if err != nil || !strings.Contains(got.Decoded[0].Rejected, "leave one of them out") {
		t.Errorf("%+v, %v", got, err)
	}
}
