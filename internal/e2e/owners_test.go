package e2e

import (
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// An account with permission on the preemption tag alone does not see who protects a VM.
func TestARoundIsRefusedWhileTheTagsOfOwnersCannotBeSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.vc.TaggedVMs("cluster-a")[0]
	if err := s.vc.SetTags(vm.Ref, policy.CategoryProtect, policy.TagDoNotPreempt); err != nil {
		t.Fatal(err)
	}
	s.vc.HideCategories(policy.CategoryProtect, policy.CategoryGroup, policy.CategoryPriority)
	s.worker()
	s.signal("unseen", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("the round is refused with the remedy", func() bool {
		r := s.state("unseen")
		return r.Round != nil && r.Round.State == "failed" &&
			strings.Contains(r.Round.Reason, policy.CategoryProtect) && strings.Contains(r.Round.Reason, "limits.withoutCategories")
	})
	if n := s.vc.Calls()["PowerOffVM_Task"]; n != 0 {
		t.Fatalf("%d VMs were turned off", n)
	}
}

func TestARoundGoesOnWhereTheFileSaysThatTheSiteHasNoTagsOfOwners(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.vc.HideCategories(policy.CategoryProtect, policy.CategoryGroup, policy.CategoryPriority)
	s.config = func(c *vcenter.Config) {
		c.WithoutCategories = []string{policy.CategoryProtect, policy.CategoryGroup, policy.CategoryPriority}
	}
	s.worker()
	s.signal("without", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("the round is over", func() bool {
		r := s.state("without")
		return r.Round != nil && r.Round.State == "completed" && len(r.VirtualMachines) == 6
	})
}
