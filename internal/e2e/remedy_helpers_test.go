package e2e

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/serviceerror"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// remedied is a site whose worker watches for the alarms of remediation.
func remedied(t *testing.T, rules ...trigger.Rule) *site {
	t.Helper()
	s := newSite(t, oneCluster(4))
	s.rules = rules
	return s
}

// works starts the worker and the watch.
func (s *site) works() {
	s.t.Helper()
	s.worker()
	s.watch(quickWatch)
}

func resizes(alarm string, set remedy.Resize) trigger.Rule {
	return trigger.Rule{Alarm: alarm, Action: trigger.Resize{Settings: set.WithDefaults(alarm)}}
}

func moves(alarm string, set remedy.Move) trigger.Rule {
	return trigger.Rule{Alarm: alarm, Action: trigger.Move{Settings: set.WithDefaults()}}
}

func reconfigures() trigger.Rule {
	return trigger.Rule{Class: "VmPoweredOffEvent", Action: trigger.Reconfigure{}}
}

// turnsRed posts an alarm of an object.
func (s *site) turnsRed(alarm string, entity types.ManagedObjectReference) {
	s.t.Helper()
	_, err := s.vc.PostAlarm(s.t.Context(), simulation.AlarmChange{Name: alarm, Entity: entity, From: "yellow", To: "red"})
	s.must(err)
}

// report waits until the remediation of an object has ended, and returns what it decided.
func (s *site) report(kind string, object types.ManagedObjectReference) remediateapi.Report {
	s.t.Helper()
	return s.reportOf(remedy.WorkflowID(kind, ref(object), s.queue))
}

func (s *site) reportOf(id string) (r remediateapi.Report) {
	s.t.Helper()
	s.eventually(id+" was started", func() bool {
		_, err := s.c.DescribeWorkflowExecution(s.t.Context(), id, "")
		var none *serviceerror.NotFound
		if err != nil && !errors.As(err, &none) {
			s.t.Fatal(err)
		}
		return err == nil
	})
	err := s.c.GetWorkflow(s.t.Context(), id, "").Get(s.t.Context(), &r)
	r, err = remediateapi.ReportOf(err, r)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// decided waits until an object has been remedied, and returns the one decision, which must be of that state.
func (s *site) decided(kind string, object types.ManagedObjectReference, state remediateapi.State) remediateapi.Decision {
	s.t.Helper()
	r := s.report(kind, object)
	if len(r.Decisions) != 1 || r.Decisions[0].State != state {
		s.t.Fatalf("want one decision, %s, got %s", state, pretty(r.Decisions))
	}
	return r.Decisions[0]
}

// lastDecision is what a VM's attribute says.
func (s *site) lastDecision(vm types.ManagedObjectReference) (a remediateapi.Attribution) {
	s.t.Helper()
	value, ok := s.vc.Attribute(vm, remediateapi.Attribute)
	if ok {
		s.must(json.Unmarshal([]byte(value), &a))
	}
	return a
}

// wantHardware checks what a VM has.
func (s *site) wantHardware(vm types.ManagedObjectReference, cpus, memoryMB int) {
	s.t.Helper()
	if h := s.vc.HardwareOf(vm); h.CPUs != cpus || h.MemoryMB != memoryMB {
		s.t.Errorf("%s has %d CPUs and %d MB, want %d and %d", vm.Value, h.CPUs, h.MemoryMB, cpus, memoryMB)
	}
}

// wantWish checks the one tag of a category.
func (s *site) wantWish(vm types.ManagedObjectReference, category, value string) {
	s.t.Helper()
	if got := strings.Join(s.vc.TagsOf(vm)[category], ","); got != value {
		s.t.Errorf("%s wants %s=%q, not %q", vm.Value, category, got, value)
	}
}

// events waits for so many events and returns their types and data.
func (m *mailbox) events(t *testing.T, n int) (kinds []remediateapi.State, data []remediateapi.Attribution) {
	t.Helper()
	var taken []reply
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && len(taken) < n; time.Sleep(20 * time.Millisecond) {
		_, taken = m.got()
	}
	if len(taken) != n {
		t.Fatalf("%d events came, want %d", len(taken), n)
	}
	for _, r := range taken {
		var a remediateapi.Attribution
		if err := json.Unmarshal(r.body, &a); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, remediateapi.State(strings.TrimSuffix(strings.TrimPrefix(r.header.Get("Ce-Type"), remediateapi.EventPrefix), remediateapi.EventSuffix)))
		data = append(data, a)
	}
	return kinds, data
}

func asks(kind string, vm types.ManagedObjectReference, set func(*remedy.Request)) remedy.Request {
	req := remedy.Request{Kind: kind, VM: ref(vm), Cause: remedy.Cause{Event: remedy.ByHand}}
	if vm.Type != vsphere.TypeVM {
		req.VM, req.Source = vsphere.Ref{}, ref(vm)
	}
	if set != nil {
		set(&req)
	}
	return req
}
