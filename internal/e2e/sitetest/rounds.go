package sitetest

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// OneCluster is a small vCenter of which each of n VMs carries the tag.
func OneCluster(n int) Option {
	return WithInventory(func(o *simulation.Options) { o.Clusters, o.VMsPerCluster, o.Tagged = 1, n, n })
}

// OnCall runs fn with the object of the n-th call of a SOAP method from now on, before it is served.
func (s *Site) OnCall(method string, n int64, fn func(types.ManagedObjectReference)) {
	var calls atomic.Int64
	s.VC.Hook(method, func(ref types.ManagedObjectReference) {
		if calls.Add(1) == n {
			fn(ref)
		}
	})
}

// Preempt signals an alarm request for cluster-a, and returns the result of its round when that has closed.
func (s *Site) Preempt(c preemption.Criticality) preemptapi.RoundResult {
	s.T.Helper()
	s.Signal("alarm", s.AlarmRequest("cluster-a", c))
	return s.Round(s.Started("alarm"))
}

// Started waits until the intake has a round that it had not before, and returns its id.
func (s *Site) Started(id string) string {
	s.T.Helper()
	return s.Until(id, "a round began", func(r preemptapi.Response) bool { return r.RoundID != "" }).RoundID
}

// Under queries a round that is under way.
func (s *Site) Under(round string) (r preemptapi.RoundResult) {
	s.T.Helper()
	v, err := s.Temporal.QueryWorkflow(s.T.Context(), round, "", preemptapi.RoundStateQuery)
	for tries := 1; err != nil; tries++ { // a query that finds no worker in time is asked again
		if tries == 3 {
			s.T.Fatal(err)
		}
		v, err = s.Temporal.QueryWorkflow(s.T.Context(), round, "", preemptapi.RoundStateQuery)
	}
	if err := v.Get(&r); err != nil {
		s.T.Fatal(err)
	}
	return r
}

// Reaches waits until the round is in the state.
func (s *Site) Reaches(round string, state preemptapi.RoundState) preemptapi.RoundResult {
	s.T.Helper()
	var r preemptapi.RoundResult
	s.Eventually("the round is "+string(state), func() bool {
		r = s.Under(round)
		return r.State == state
	})
	return r
}

// Eventually waits up to a minute until ok says so.
func (s *Site) Eventually(what string, ok func() bool) {
	s.T.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			s.T.Fatal("never: " + what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// WaitsBecause waits until the round's activity is being retried for a reason with all the words.
func (s *Site) WaitsBecause(round string, words ...string) {
	s.T.Helper()
	var last string
	s.Eventually("the round waits, saying "+strings.Join(words, ", "), func() bool {
		d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), round, "")
		if err != nil {
			s.T.Fatal(err)
		}
		for _, a := range d.PendingActivities {
			last = a.GetLastFailure().GetMessage()
			if last != "" && ContainsAll(last, words...) {
				return true
			}
		}
		return false
	})
	s.T.Log(last)
}

// Status is how a workflow stands for Temporal.
func (s *Site) Status(id string) enums.WorkflowExecutionStatus {
	s.T.Helper()
	d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), id, "")
	if err != nil {
		s.T.Fatal(err)
	}
	return d.WorkflowExecutionInfo.Status
}

// ContainsAll reports whether the text contains each of the words.
func ContainsAll(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// OutcomeOf returns what became of the VM in the round; the test fails where the round does not tell.
func OutcomeOf(t testing.TB, r preemptapi.RoundResult, vm simulation.VM) preemptapi.VMOutcome {
	t.Helper()
	for _, o := range r.Targets {
		if o.Ref == Ref(vm.Ref) {
			return o
		}
	}
	t.Fatalf("%s is no target of the round: %s", vm.Name, Pretty(r))
	return preemptapi.VMOutcome{}
}

// WantOutcome checks what became of a VM, and why.
func WantOutcome(t testing.TB, r preemptapi.RoundResult, vm simulation.VM, outcome action.Outcome, reason ...string) {
	t.Helper()
	if o := OutcomeOf(t, r, vm); o.Outcome != outcome || !ContainsAll(o.Reason.String(), reason...) {
		t.Errorf("%s is %s (%q), want %s with %q", vm.Name, o.Outcome, o.Reason, outcome, reason)
	}
}

// Spared returns why the plan let an object stay; "" where it does not say.
func Spared(r preemptapi.RoundResult, object types.ManagedObjectReference) policy.Reason {
	for _, s := range r.Spared {
		if s.Ref == Ref(object) {
			return s.Reason
		}
	}
	return ""
}

// WantState checks how a round ended and how many VMs it turned off.
func WantState(t testing.TB, r preemptapi.RoundResult, state preemptapi.RoundState, preempted int) {
	t.Helper()
	if r.State != state || len(r.Preempted()) != preempted {
		t.Fatalf("want %s with %d VMs preempted, got %s with %d: %s", state, preempted, r.State, len(r.Preempted()), Pretty(r))
	}
}

// WantOursExactly checks that of the tagged VMs those that are off, but for what others did, are claimed
// and annotated, and the others are not; and that no VM is in the result twice.
func (s *Site) WantOursExactly(r preemptapi.RoundResult, others ...types.ManagedObjectReference) {
	s.T.Helper()
	s.Agree(r)
	foreign := map[types.ManagedObjectReference]bool{}
	for _, o := range others {
		foreign[o] = true
	}
	ours := map[vsphere.Ref]bool{}
	seen := map[vsphere.Ref]bool{}
	for _, t := range r.Targets {
		if seen[t.Ref] {
			s.T.Errorf("%s is in the result twice", t.Name)
		}
		seen[t.Ref], ours[t.Ref] = true, t.Outcome.Ours() && t.Annotated
	}
	for _, sp := range r.Spared {
		if seen[sp.Ref] {
			s.T.Errorf("%s is both a target and spared by the plan (%s)", sp.Name, sp.Reason)
		}
	}
	for _, vm := range s.VC.TaggedVMs("") {
		off := s.VC.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn
		if want := off && !foreign[vm.Ref]; ours[Ref(vm.Ref)] != want {
			s.T.Errorf("%s: off=%v, turned off by others=%v, claimed and annotated=%v", vm.Name, off, foreign[vm.Ref], ours[Ref(vm.Ref)])
		}
	}
	if s.T.Failed() {
		s.T.Log(Pretty(r))
	}
}

// Pretty is v as indented JSON, for messages.
func Pretty(v any) string {
	b, _ := json.MarshalIndent(v, "", " ")
	return string(b)
}

// GuestOff lets the VM go off by itself, as a guest does that was asked to shut down.
func (s *Site) GuestOff(vm types.ManagedObjectReference) error { return s.VC.PowerOffAs(vm, "") }

// Calls is how often the SOAP method was called.
func (s *Site) Calls(method string) int { return s.VC.Calls()[method] }

// Must fails the test for an error of the simulator.
func (s *Site) Must(err error) {
	s.T.Helper()
	if err != nil {
		s.T.Error(err)
	}
}

// The tests of this file roll every long-lived workflow over for real: on a server that suggests continue-as-new early, in
// a worker that has all workflows registered, for the types that a run begins and continues with are looked up among all.

// TypeOf returns the type of a workflow's latest run, and the run.
func (s *Site) TypeOf(id string) (kind, run string) {
	s.T.Helper()
	d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), id, "")
	if err != nil {
		s.T.Fatal(err)
	}
	info := d.GetWorkflowExecutionInfo()
	return info.GetType().GetName(), info.GetExecution().GetRunId()
}
