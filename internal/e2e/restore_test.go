package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/contract"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// restoring lets the policy restore, two VMs at a time and soon.
func restoring(f ...func(*policy.Policy)) siteOption {
	return withPolicy(func(p *policy.Policy) {
		p.Cooldown = policy.Duration(time.Millisecond)
		p.Restore = policy.Restore{Enabled: true, Settle: policy.Duration(300 * time.Millisecond), Wave: 2, GiveUp: policy.Duration(time.Hour)}
		for _, change := range f {
			change(p)
		}
	})
}

// restoreID is the id of the restore of cluster-a.
func (s *site) restoreID() string { return contract.RestoreID(s.queue, s.cluster("cluster-a")) }

// preempted lets an alarm on cluster-a turn off what carries the tag.
func (s *site) preempted(n int) preempt.RoundResult {
	s.t.Helper()
	s.change("alarm", "cluster-a", 0, "green", "red")
	r := s.done("alarm")
	wantState(s.t, r, preempt.RoundCompleted, n)
	return r
}

// restoreState is the restore of cluster-a as it stands; false while there is none.
func (s *site) restoreState() (r preempt.RestoreResult, ok bool) {
	s.t.Helper()
	v, err := s.c.QueryWorkflow(s.t.Context(), s.restoreID(), "", contract.RestoreStateQuery)
	if err != nil {
		return r, false
	}
	return r, v.Get(&r) == nil
}

// restored waits for the end of the restore of cluster-a.
func (s *site) restored() (r preempt.RestoreResult) {
	s.t.Helper()
	s.eventually("a restore began", func() bool { _, ok := s.restoreState(); return ok })
	if err := s.c.GetWorkflow(s.t.Context(), s.restoreID(), "").Get(s.t.Context(), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// byHand runs a person's restore of cluster-a to its end.
func (s *site) byHand(in preempt.RestoreInput) (r preempt.RestoreResult, err error) {
	s.t.Helper()
	in.Scope, in.Tag, in.Person, in.By = s.cluster("cluster-a"), "preemptible", true, contract.ByHand
	id := s.restoreID()
	if in.DryRun {
		id = fmt.Sprintf("restore-plan-%s-%d", s.queue, nextID.Add(1))
	}
	run, err := s.c.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, contract.RestoreType, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return contract.RestoreResultOf(run.Get(s.t.Context(), &r), r)
}

func (s *site) on(vm simulation.VM) bool {
	return s.vc.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOn
}

// left returns why a VM stays off; "" where the restore does not say.
func left(r preempt.RestoreResult, vm simulation.VM) policy.Reason {
	for _, l := range r.Left {
		if l.Ref == ref(vm.Ref) {
			return l.Reason
		}
	}
	return ""
}

// wantRestored checks how a restore ended and how many VMs it powered on, that they are on, and that their
// attributes say so.
func (s *site) wantRestored(r preempt.RestoreResult, state string, n int) {
	s.t.Helper()
	if r.State != state || len(r.Restored()) != n {
		s.t.Fatalf("want %s with %d VMs restored, got %s", state, n, pretty(r))
	}
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		a, ok := s.attribute(vm.Ref)
		if !ok {
			continue
		}
		ours := slices.Contains(r.Restored(), ref(vm.Ref))
		if ours != a.Restored || ours == a.Preempted || ours && (!s.on(vm) || a.RestoredBy != r.By || a.RestoredAt.IsZero() || a.RoundID == "") {
			s.t.Errorf("%s: restored=%v, on=%v, attribute %s", vm.Name, ours, s.on(vm), pretty(a))
		}
	}
	if st := s.ledger(); len(st.Reserved) > 0 {
		s.t.Errorf("the ledger still holds %v", st.Reserved)
	}
}

func TestAfterGreenAllComeBackMostImportantFirstInWaves(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	vms := s.vc.TaggedVMs("cluster-a")
	s.must(s.vc.CreateTag(policy.CategoryPriority, "500"))
	s.must(s.vc.AttachTag(policy.CategoryPriority, "500", vms[4].Ref))
	s.worker()
	s.preempted(6)
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.restored()
	s.wantRestored(r, contract.RestoreCompleted, 6)
	if r.VMs[0].Ref != ref(vms[4].Ref) || r.Waves != 3 || r.By != "cluster-cpu-above-80" || len(r.Left) != 0 {
		t.Errorf("unexpected restore %s", pretty(r))
	}
}

func TestWithoutLeaveOfThePolicyNobodyComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Enabled = false }))
	s.worker()
	s.preempted(6)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.until("alarm", "the alarm fell", func(p preempt.Response) bool { return len(p.Levels) == 0 })
	time.Sleep(time.Second)
	if _, ok := s.restoreState(); ok {
		t.Error("a restore began")
	}
}

func TestWhoWasTouchedSinceStaysOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Settle = policy.Duration(2 * time.Second) }))
	s.worker()
	vms := s.vc.TaggedVMs("cluster-a")
	s.preempted(6)
	owner := "alice@example.org"
	s.must(s.vc.PowerOnAs(vms[0].Ref, owner))
	s.must(s.vc.PowerOnAs(vms[1].Ref, owner))
	s.must(s.vc.PowerOffAs(vms[1].Ref, owner))
	s.must(s.vc.DetachTag("preemption", "preemptible", vms[2].Ref))
	s.annotate(vms[3], `{"note":"mine"}`)
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.restored()
	if r.State != contract.RestoreCompleted || len(r.Restored()) != 2 {
		t.Errorf("unexpected restore %s", pretty(r))
	}
	for vm, want := range map[int]policy.Reason{
		0: policy.TouchedByOwner, 1: policy.TouchedByOwner, 2: policy.Untagged, 3: policy.AttributeChanged,
	} {
		if got := left(r, vms[vm]); got != want || vm != 0 && s.on(vms[vm]) {
			t.Errorf("%s is left as %q, want %q; on=%v", vms[vm].Name, got, want, s.on(vms[vm]))
		}
	}
}

// annotate writes our attribute on a VM as somebody else would.
func (s *site) annotate(vm simulation.VM, value string) {
	s.t.Helper()
	g := s.gateway()
	s.must(g.Annotate(s.t.Context(), ref(vm.Ref), preemption.AttributeKey, value))
	g.Close(s.t.Context())
}
