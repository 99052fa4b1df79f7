package e2e

import (
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/restore"
)

func TestNobodyIsRestoredByItsMoRefAlone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.Worker()
	s.Preempted(6)
	vms := s.VC.TaggedVMs("cluster-a")
	s.Must(s.VC.ReplaceVM(vms[0].Ref)) // before it is planned

	g := s.Gateway()
	defer g.Close(t.Context())
	a := s.Preemption(s.Dial(), g).Restore
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	env.RegisterActivity(a.PlanRestore)
	env.RegisterActivity(a.PowerOnVMs)
	p := s.Settings.Policies["default"]
	var plan restore.PlanResult
	got, err := env.ExecuteActivity(a.PlanRestore, restore.PlanInput{RestoreID: s.RestoreID(), Scope: s.Cluster("cluster-a"), Tag: "preemptible", Policy: p, Person: true})
	s.Must(err)
	s.Must(got.Get(&plan))
	if len(plan.Returns.Returns) != 5 || len(plan.Left) != 1 || plan.Left[0].Reason != policy.OtherInstance {
		t.Fatalf("unexpected plan %s", sitetest.Pretty(plan))
	}
	changed := plan.Returns.Returns[0]
	for _, vm := range vms {
		if sitetest.Ref(vm.Ref) == changed.Ref {
			s.Must(s.VC.ReplaceVM(vm.Ref)) // after it was planned
		}
	}
	var res restore.PowerOnResult
	got, err = env.ExecuteActivity(a.PowerOnVMs, restore.PowerOnInput{
		RestoreID: s.RestoreID(), By: preemptapi.ByHand, Tag: "preemptible", Targets: plan.Returns.Returns, Timeout: p.PowerOffTimeout, PlannedAt: plan.PlannedAt,
	})
	s.Must(err)
	s.Must(got.Get(&res))
	for _, vm := range res.VMs {
		switch {
		case vm.Ref == changed.Ref && (vm.Outcome != preemptapi.OutcomeLeft || vm.Reason != policy.Because(policy.OtherInstance)):
			t.Errorf("another VM that has the MoRef: %s", sitetest.Pretty(vm))
		case vm.Ref != changed.Ref && vm.Outcome != preemptapi.OutcomeRestored:
			t.Errorf("unexpected %s", sitetest.Pretty(vm))
		}
	}
	for _, vm := range vms {
		if other := sitetest.Ref(vm.Ref) == changed.Ref || vm.Ref == vms[0].Ref; other == s.On(vm) {
			t.Errorf("%s: on=%v", vm.Name, s.On(vm))
		}
	}
}
