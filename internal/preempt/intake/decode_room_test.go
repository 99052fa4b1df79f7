package intake

import (
	"encoding/json"
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
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
		"for what waits":       {wireRequest{Room: &preemption.Room{Waiting: true, Cluster: "domain-c7"}}, "ClusterComputeResource:domain-c7", ""},
		"for what waits where": {wireRequest{Room: &preemption.Room{Waiting: true}}, "", "room.waiting"},
		"for sizes that wait":  {wireRequest{Room: &preemption.Room{Waiting: true, Cluster: "domain-c7", CPUs: 1}}, "", "room.waiting"},
		"for nothing":          {wireRequest{Room: &preemption.Room{}}, "", "room is empty"},
		"for a VM, and sizes":  {wireRequest{Room: &preemption.Room{For: "db-1", CPUs: 1}}, "", "leave room.cpus"},
		"for a VM that goes":   {wireRequest{VM: "web-1", Room: &preemption.Room{For: "db-1"}}, "", "ask for one of them"},
		"for a long name":      {wireRequest{Room: &preemption.Room{For: strings.Repeat("x", maxVM+1)}}, "", "bytes long"},
		"for too many CPUs":    {wireRequest{Room: &preemption.Room{CPUs: maxRoomCPUs + 1}}, "", "room.cpus"},
		"on several hosts":     {wireRequest{Room: &preemption.Room{CPUs: 1, Hosts: maxRoomHosts}}, "", ""},
		"on too many hosts":    {wireRequest{Room: &preemption.Room{CPUs: 1, Hosts: maxRoomHosts + 1}}, "", "within 1 to 16"},
		"on less than none":    {wireRequest{Room: &preemption.Room{CPUs: 1, Hosts: -1}}, "", "within 1 to 16"},
		"a VM on two hosts":    {wireRequest{Room: &preemption.Room{For: "db-1", Hosts: 2}}, "", "a VM runs on one host"},
		"waiting on two hosts": {wireRequest{Room: &preemption.Room{Waiting: true, Cluster: "domain-c7", Hosts: 2}}, "", "a VM runs on one host"},
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

func TestWhereARequestActsIsChecked(t *testing.T) {
	r := newIntakeRun(t)
	p := policy.Default()
	p.Headroom = policy.Headroom{CPU: policy.Amount{N: 10, Percent: true}, FailHosts: 1}
	r.acts.Settings.Policies = map[string]policy.Policy{"default": policy.Default(), "roomy": p}
	for name, c := range map[string]struct{ request, refused string }{
		"in a cluster":               {`{"tag":"spot","criticality":"LOW","cluster":"domain-c7"}`, ""},
		"for headroom":               {`{"tag":"spot","criticality":"LOW","cluster":"domain-c7","headroom":true,"policy":"roomy"}`, ""},
		"for headroom that is none":  {`{"tag":"spot","criticality":"LOW","cluster":"domain-c7","headroom":true}`, `policy "default": it has no headroom`},
		"for headroom everywhere":    {`{"tag":"spot","criticality":"LOW","headroom":true,"policy":"roomy"}`, "name it in cluster"},
		"of a VM, for headroom":      {`{"tag":"spot","criticality":"LOW","cluster":"domain-c7","headroom":true,"policy":"roomy","vm":"web-1"}`, "wherever it runs"},
		"in what is no MoRef":        {`{"tag":"spot","criticality":"LOW","cluster":"cluster a"}`, "no MoRef"},
		"for headroom of no policy":  {`{"tag":"spot","criticality":"LOW","cluster":"domain-c7","headroom":true,"policy":"x"}`, `unknown policy "x"`},
		"for headroom, by room also": {`{"tag":"spot","criticality":"LOW","headroom":true,"policy":"roomy","room":{"cpus":4}}`, "leave headroom out"},
	} {
		got, err := r.acts.DecodeMessages(t.Context(), []Message{{JSON: json.RawMessage(c.request), Plan: true}})
		if err != nil {
			t.Fatal(err)
		}
		d := got.Decoded[0]
		switch {
		case (d.Rejected == "") != (c.refused == "") || !strings.Contains(d.Rejected, c.refused):
			t.Errorf("%s: rejected %q", name, d.Rejected)
		case c.refused == "" && (d.Demand.Scope.String() != "ClusterComputeResource:domain-c7" || !d.Demand.Person):
			t.Errorf("%s: %+v", name, d.Demand)
		case name == "for headroom" && d.Demand.Policy.Target != (policy.Goal{CPU: 90, Memory: 100, FailHosts: 1}):
			t.Errorf("%s: %+v", name, d.Demand.Policy.Target)
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
