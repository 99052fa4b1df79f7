package sitetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// WithRestore lets the policy restore, two VMs at a time and soon.
func WithRestore(f ...func(*policy.Policy)) Option {
	return WithPolicy(func(p *policy.Policy) {
		p.Cooldown = clock.Duration(time.Millisecond)
		p.Restore = policy.Restore{Enabled: true, Settle: clock.Duration(300 * time.Millisecond), Wave: 2, GiveUp: clock.Duration(time.Hour)}
		for _, change := range f {
			change(p)
		}
	})
}

// RestoreID is the id of the restore of cluster-a.
func (s *Site) RestoreID() string { return preemptapi.RestoreID(s.Queue, s.Cluster("cluster-a")) }

// Preempted lets an alarm on cluster-a turn off what carries the tag.
func (s *Site) Preempted(n int) preemptapi.RoundResult {
	s.T.Helper()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	r := s.Done("alarm")
	WantState(s.T, r, preemptapi.RoundCompleted, n)
	return r
}

// RestoreState is the restore of cluster-a as it stands; false while there is none.
func (s *Site) RestoreState() (r preemptapi.RestoreResult, ok bool) {
	s.T.Helper()
	v, err := s.Temporal.QueryWorkflow(s.T.Context(), s.RestoreID(), "", preemptapi.RestoreStateQuery)
	if err != nil {
		return r, false
	}
	return r, v.Get(&r) == nil
}

// Restored waits for the end of the restore of cluster-a.
func (s *Site) Restored() (r preemptapi.RestoreResult) {
	s.T.Helper()
	s.Eventually("a restore began", func() bool { _, ok := s.RestoreState(); return ok })
	if err := s.Temporal.GetWorkflow(s.T.Context(), s.RestoreID(), "").Get(s.T.Context(), &r); err != nil {
		s.T.Fatal(err)
	}
	return r
}

// ByHand runs a person's restore of cluster-a to its end.
func (s *Site) ByHand(in preemptapi.RestoreInput) (r preemptapi.RestoreResult, err error) {
	s.T.Helper()
	in.Scope, in.Tag, in.Person, in.By = s.Cluster("cluster-a"), "preemptible", true, preemptapi.ByHand
	id := s.RestoreID()
	if in.DryRun {
		id = fmt.Sprintf("restore-plan-%s-%d", s.Queue, NextID.Add(1))
	}
	run, err := s.Temporal.ExecuteWorkflow(s.T.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, preemptapi.RestoreType, in)
	if err != nil {
		s.T.Fatal(err)
	}
	return preemptapi.RestoreResultOf(run.Get(s.T.Context(), &r), r)
}

// On reports whether a VM is powered on.
func (s *Site) On(vm simulation.VM) bool {
	return s.VC.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOn
}

// WantRestored checks how a restore ended and how many VMs it powered on, that they are on, and that their
// attributes say so.
func (s *Site) WantRestored(r preemptapi.RestoreResult, state preemptapi.RestoreState, n int) {
	s.T.Helper()
	if r.State != state || len(r.Restored()) != n {
		s.T.Fatalf("want %s with %d VMs restored, got %s", state, n, Pretty(r))
	}
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		a, ok := s.Attribute(vm.Ref)
		if !ok {
			continue
		}
		ours := slices.Contains(r.Restored(), Ref(vm.Ref))
		if ours != a.Restored || ours == a.Preempted || ours && (!s.On(vm) || a.RestoredBy != r.By || a.RestoredAt.IsZero() || a.RoundID == "") {
			s.T.Errorf("%s: restored=%v, on=%v, attribute %s", vm.Name, ours, s.On(vm), Pretty(a))
		}
	}
	if st := s.Ledger(); len(st.Reserved) > 0 {
		s.T.Errorf("the ledger still holds %v", st.Reserved)
	}
}
