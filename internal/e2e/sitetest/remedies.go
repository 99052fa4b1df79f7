package sitetest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Remedied is a site whose worker watches for the alarms of remediation.
func Remedied(t *testing.T, rules ...trigger.Rule) *Site {
	t.Helper()
	s := New(t, OneCluster(4))
	s.Rules = rules
	return s
}

// Works starts the worker and the watch.
func (s *Site) Works() {
	s.T.Helper()
	s.Worker()
	s.Watch(QuickWatch)
}

// Reconfigures is the rule that applies tags at power-off.
func Reconfigures() trigger.Rule {
	return trigger.Rule{Class: "VmPoweredOffEvent", Action: trigger.Reconfigure{}}
}

// TurnsRed posts an alarm of an object.
func (s *Site) TurnsRed(alarm string, entity types.ManagedObjectReference) {
	s.T.Helper()
	_, err := s.VC.PostAlarm(s.T.Context(), simulation.AlarmChange{Name: alarm, Entity: entity, From: "yellow", To: "red"})
	s.Must(err)
}

// Report waits until the remediation of an object has ended, and returns what it decided.
func (s *Site) Report(kind string, object types.ManagedObjectReference) remediateapi.Report {
	s.T.Helper()
	return s.ReportOf(placement.WorkflowID(kind, Ref(object), s.Queue))
}

// ReportOf waits until the remediation workflow of that id has ended, and returns what it decided.
func (s *Site) ReportOf(id string) (r remediateapi.Report) {
	s.T.Helper()
	s.Eventually(id+" was started", func() bool {
		_, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), id, "")
		var none *serviceerror.NotFound
		if err != nil && !errors.As(err, &none) {
			s.T.Fatal(err)
		}
		return err == nil
	})
	err := s.Temporal.GetWorkflow(s.T.Context(), id, "").Get(s.T.Context(), &r)
	r, err = remediateapi.ReportOf(err, r)
	if err != nil {
		s.T.Fatal(err)
	}
	return r
}

// Decided waits until an object has been remedied, and returns the one decision, which must be of that state.
func (s *Site) Decided(kind string, object types.ManagedObjectReference, state remediateapi.State) remediateapi.Decision {
	s.T.Helper()
	r := s.Report(kind, object)
	if len(r.Decisions) != 1 || r.Decisions[0].State != state {
		s.T.Fatalf("want one decision, %s, got %s", state, Pretty(r.Decisions))
	}
	return r.Decisions[0]
}

// WantHardware checks what a VM has.
func (s *Site) WantHardware(vm types.ManagedObjectReference, cpus, memoryMB int) {
	s.T.Helper()
	if h := s.VC.HardwareOf(vm); h.CPUs != cpus || h.MemoryMB != memoryMB {
		s.T.Errorf("%s has %d CPUs and %d MB, want %d and %d", vm.Value, h.CPUs, h.MemoryMB, cpus, memoryMB)
	}
}

// Events waits for so many events and returns their types and data.
func (m *Mailbox) Events(t *testing.T, n int) (kinds []remediateapi.State, data []remediateapi.Attribution) {
	t.Helper()
	var taken []reply
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && len(taken) < n; time.Sleep(20 * time.Millisecond) {
		_, taken = m.Got()
	}
	if len(taken) != n {
		t.Fatalf("%d events came, want %d", len(taken), n)
	}
	for _, r := range taken {
		var a remediateapi.Attribution
		if err := json.Unmarshal(r.Body, &a); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, remediateapi.State(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Ce-Type"), remediateapi.EventPrefix), remediateapi.EventSuffix)))
		data = append(data, a)
	}
	return kinds, data
}

// RemedyRequest asks by hand for a remediation of a VM or a datastore.
func RemedyRequest(kind string, vm types.ManagedObjectReference, set func(*placement.Request)) placement.Request {
	req := placement.Request{Kind: kind, VM: Ref(vm), Cause: placement.Cause{Event: placement.ByHand}}
	if vm.Type != vsphere.TypeVM {
		req.VM, req.Source = vsphere.Ref{}, Ref(vm)
	}
	if set != nil {
		set(&req)
	}
	return req
}

// ByRequest asks for a remediation by hand, and waits for it.
func (s *Site) ByRequest(req placement.Request) remediateapi.Report {
	s.T.Helper()
	object := req.VM
	if object.Zero() {
		object = req.Source
	}
	id := placement.WorkflowID(req.Kind, object, s.Queue)
	_, err := s.Temporal.SignalWithStartWorkflow(s.T.Context(), id, placement.Signal, req,
		client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, placement.WorkflowType(req.Kind))
	s.Must(err)
	return s.ReportOf(id)
}

// Full makes a datastore of 1000 GB for cluster-a that is 90 % used, by disks of the VMs of so many GB each and by
// what is no VM.
func (s *Site) Full(vms []simulation.VM, sizes ...int) types.ManagedObjectReference {
	s.T.Helper()
	rest := 900
	for _, gb := range sizes {
		rest -= gb
	}
	ds, err := s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "full", CapacityGB: 1000, UsedGB: rest})
	s.Must(err)
	for i, gb := range sizes {
		_, err := s.VC.AddDisk(vms[i].Ref, simulation.DiskOptions{CapacityGB: gb, UsedGB: gb, Datastore: ds})
		s.Must(err)
	}
	return ds
}

// DisksOn reports whether a VM keeps anything on a datastore.
func (s *Site) DisksOn(vm, ds types.ManagedObjectReference) bool {
	for _, on := range s.VC.StoredOn(vm) {
		if on == ds {
			return true
		}
	}
	return false
}
