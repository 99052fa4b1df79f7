package e2e

import (
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// An account with permission on the preemption tag alone does not see who protects a VM.
func TestARoundIsRefusedWhileTheTagsOfOwnersCannotBeSeen(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	vm := s.VC.TaggedVMs("cluster-a")[0]
	if err := s.VC.SetTags(vm.Ref, policy.CategoryProtect, policy.TagDoNotPreempt); err != nil {
		t.Fatal(err)
	}
	s.VC.HideCategories(policy.CategoryProtect, policy.CategoryGroup, policy.CategoryPriority)
	s.Worker()
	s.Signal("unseen", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("the round is refused with the remedy", func() bool {
		r := s.State("unseen")
		return r.Round != nil && r.Round.State == "failed" &&
			strings.Contains(r.Round.Reason, policy.CategoryProtect) && strings.Contains(r.Round.Reason, "limits.withoutCategories")
	})
	if n := s.VC.Calls()["PowerOffVM_Task"]; n != 0 {
		t.Fatalf("%d VMs were turned off", n)
	}
}

func TestARoundGoesOnWhereTheFileSaysThatTheSiteHasNoTagsOfOwners(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.VC.HideCategories(policy.CategoryProtect, policy.CategoryGroup, policy.CategoryPriority)
	s.Config = func(c *vcenter.Config) {
		c.WithoutCategories = []string{policy.CategoryProtect, policy.CategoryGroup, policy.CategoryPriority}
	}
	s.Worker()
	s.Signal("without", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("the round is over", func() bool {
		r := s.State("without")
		return r.Round != nil && r.Round.State == "completed" && len(r.VirtualMachines) == 6
	})
}
