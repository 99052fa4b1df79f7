package e2e

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

// oneCluster is a small vCenter of which each of n VMs carries the tag.
func oneCluster(n int) siteOption {
	return withInventory(func(o *simulation.Options) { o.Clusters, o.VMsPerCluster, o.Tagged = 1, n, n })
}

// onCall runs fn with the object of the n-th call of a SOAP method from now on, before it is served.
func (s *site) onCall(method string, n int64, fn func(types.ManagedObjectReference)) {
	var calls atomic.Int64
	s.vc.Hook(method, func(ref types.ManagedObjectReference) {
		if calls.Add(1) == n {
			fn(ref)
		}
	})
}

// preempt signals an alarm request for cluster-a, and returns the result of its round when that has closed.
func (s *site) preempt(c preemption.Criticality) preemptapi.RoundResult {
	s.t.Helper()
	s.signal("alarm", s.alarmRequest("cluster-a", c))
	return s.round(s.started("alarm"))
}

// started waits until the intake has a round that it had not before, and returns its id.
func (s *site) started(id string) string {
	s.t.Helper()
	return s.until(id, "a round began", func(r preemptapi.Response) bool { return r.RoundID != "" }).RoundID
}

// under queries a round that is under way.
func (s *site) under(round string) (r preemptapi.RoundResult) {
	s.t.Helper()
	v, err := s.c.QueryWorkflow(s.t.Context(), round, "", preemptapi.RoundStateQuery)
	for tries := 1; err != nil; tries++ { // a query that finds no worker in time is asked again
		if tries == 3 {
			s.t.Fatal(err)
		}
		v, err = s.c.QueryWorkflow(s.t.Context(), round, "", preemptapi.RoundStateQuery)
	}
	if err := v.Get(&r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// reaches waits until the round is in the state.
func (s *site) reaches(round string, state preemptapi.RoundState) preemptapi.RoundResult {
	s.t.Helper()
	var r preemptapi.RoundResult
	s.eventually("the round is "+string(state), func() bool {
		r = s.under(round)
		return r.State == state
	})
	return r
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatal("never: " + what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// waitsBecause waits until the round's activity is being retried for a reason with all the words.
func (s *site) waitsBecause(round string, words ...string) {
	s.t.Helper()
	var last string
	s.eventually("the round waits, saying "+strings.Join(words, ", "), func() bool {
		d, err := s.c.DescribeWorkflowExecution(s.t.Context(), round, "")
		if err != nil {
			s.t.Fatal(err)
		}
		for _, a := range d.PendingActivities {
			last = a.GetLastFailure().GetMessage()
			if last != "" && containsAll(last, words...) {
				return true
			}
		}
		return false
	})
	s.t.Log(last)
}

// status is how a workflow stands for Temporal.
func (s *site) status(id string) enums.WorkflowExecutionStatus {
	s.t.Helper()
	d, err := s.c.DescribeWorkflowExecution(s.t.Context(), id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return d.WorkflowExecutionInfo.Status
}

func containsAll(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// of returns what became of the VM in the round; the test fails where the round does not tell.
func of(t testing.TB, r preemptapi.RoundResult, vm simulation.VM) preemptapi.VMOutcome {
	t.Helper()
	for _, o := range r.Targets {
		if o.Ref == ref(vm.Ref) {
			return o
		}
	}
	t.Fatalf("%s is no target of the round: %s", vm.Name, pretty(r))
	return preemptapi.VMOutcome{}
}

// wantOutcome checks what became of a VM, and why.
func wantOutcome(t testing.TB, r preemptapi.RoundResult, vm simulation.VM, outcome action.Outcome, reason ...string) {
	t.Helper()
	if o := of(t, r, vm); o.Outcome != outcome || !containsAll(o.Reason.String(), reason...) {
		t.Errorf("%s is %s (%q), want %s with %q", vm.Name, o.Outcome, o.Reason, outcome, reason)
	}
}

// spared returns why the plan let an object stay; "" where it does not say.
func spared(r preemptapi.RoundResult, object types.ManagedObjectReference) policy.Reason {
	for _, s := range r.Spared {
		if s.Ref == ref(object) {
			return s.Reason
		}
	}
	return ""
}

// wantState checks how a round ended and how many VMs it turned off.
func wantState(t testing.TB, r preemptapi.RoundResult, state preemptapi.RoundState, preempted int) {
	t.Helper()
	if r.State != state || len(r.Preempted()) != preempted {
		t.Fatalf("want %s with %d VMs preempted, got %s with %d: %s", state, preempted, r.State, len(r.Preempted()), pretty(r))
	}
}

// wantOursExactly checks that of the tagged VMs those that are off, but for what others did, are claimed
// and annotated, and the others are not; and that no VM is in the result twice.
func (s *site) wantOursExactly(r preemptapi.RoundResult, others ...types.ManagedObjectReference) {
	s.t.Helper()
	s.agree(r)
	foreign := map[types.ManagedObjectReference]bool{}
	for _, o := range others {
		foreign[o] = true
	}
	ours := map[vsphere.Ref]bool{}
	seen := map[vsphere.Ref]bool{}
	for _, t := range r.Targets {
		if seen[t.Ref] {
			s.t.Errorf("%s is in the result twice", t.Name)
		}
		seen[t.Ref], ours[t.Ref] = true, t.Outcome.Ours() && t.Annotated
	}
	for _, sp := range r.Spared {
		if seen[sp.Ref] {
			s.t.Errorf("%s is both a target and spared by the plan (%s)", sp.Name, sp.Reason)
		}
	}
	for _, vm := range s.vc.TaggedVMs("") {
		off := s.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn
		if want := off && !foreign[vm.Ref]; ours[ref(vm.Ref)] != want {
			s.t.Errorf("%s: off=%v, turned off by others=%v, claimed and annotated=%v", vm.Name, off, foreign[vm.Ref], ours[ref(vm.Ref)])
		}
	}
	if s.t.Failed() {
		s.t.Log(pretty(r))
	}
}

func pretty(v any) string {
	b, _ := json.MarshalIndent(v, "", " ")
	return string(b)
}

// guestOff lets the VM go off by itself, as a guest does that was asked to shut down.
func (s *site) guestOff(vm types.ManagedObjectReference) error { return s.vc.PowerOffAs(vm, "") }

// calls is how often the SOAP method was called.
func (s *site) calls(method string) int { return s.vc.Calls()[method] }

// must fails the test for an error of the simulator.
func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Error(err)
	}
}
