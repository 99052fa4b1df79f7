package e2e

import (
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/restore"
)

func TestNobodyIsRestoredByItsMoRefAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	s.worker()
	s.preempted(6)
	vms := s.vc.TaggedVMs("cluster-a")
	s.must(s.vc.ReplaceVM(vms[0].Ref)) // before it is planned

	g := s.gateway()
	defer g.Close(t.Context())
	a := s.preemption(s.dial(), g).Restore
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	env.RegisterActivity(a.PlanRestore)
	env.RegisterActivity(a.PowerOnVMs)
	p := s.set.Policies["default"]
	var plan restore.PlanResult
	got, err := env.ExecuteActivity(a.PlanRestore, restore.PlanInput{RestoreID: s.restoreID(), Scope: s.cluster("cluster-a"), Tag: "preemptible", Policy: p, Person: true})
	s.must(err)
	s.must(got.Get(&plan))
	if len(plan.Returns.Returns) != 5 || len(plan.Left) != 1 || plan.Left[0].Reason != policy.OtherInstance {
		t.Fatalf("unexpected plan %s", pretty(plan))
	}
	changed := plan.Returns.Returns[0]
	for _, vm := range vms {
		if ref(vm.Ref) == changed.Ref {
			s.must(s.vc.ReplaceVM(vm.Ref)) // after it was planned
		}
	}
	var res restore.PowerOnResult
	got, err = env.ExecuteActivity(a.PowerOnVMs, restore.PowerOnInput{
		RestoreID: s.restoreID(), By: preemptapi.ByHand, Tag: "preemptible", Targets: plan.Returns.Returns, Timeout: p.PowerOffTimeout, PlannedAt: plan.PlannedAt,
	})
	s.must(err)
	s.must(got.Get(&res))
	for _, vm := range res.VMs {
		switch {
		case vm.Ref == changed.Ref && (vm.Outcome != preemptapi.OutcomeLeft || vm.Reason != string(policy.OtherInstance)):
			t.Errorf("another VM that has the MoRef: %s", pretty(vm))
		case vm.Ref != changed.Ref && vm.Outcome != preemptapi.OutcomeRestored:
			t.Errorf("unexpected %s", pretty(vm))
		}
	}
	for _, vm := range vms {
		if other := ref(vm.Ref) == changed.Ref || vm.Ref == vms[0].Ref; other == s.on(vm) {
			t.Errorf("%s: on=%v", vm.Name, s.on(vm))
		}
	}
}
