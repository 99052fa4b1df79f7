package doctor

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

func TestOwnersTagsThatCannotBeSeenFail(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	r := p.diagnose()
	p.want(r, "category preemption-protect", doctorapi.OK, "seen, with 1 tags")
	p.want(r, "category preemption-group", doctorapi.OK, "seen, with 0 tags")
	p.vc.HideCategories(policy.CategoryProtect, policy.CategoryGroup)
	r = p.diagnose()
	p.want(r, "category preemption-protect", doctorapi.Failed, "no round plans", `VSPHERE.LOCAL\preemption Read-only as a global permission`, "limits.withoutCategories", "govc tags.category.create -t VirtualMachine -m preemption-protect")
	p.want(r, "category preemption-group", doctorapi.Failed)
	p.want(r, "category preemption-priority", doctorapi.OK)
}

func TestCategoriesThatTheFileSaysTheSiteHasNotAreNoFailure(t *testing.T) {
	without := func(c *vcenter.Config) {
		c.WithoutCategories = []string{policy.CategoryProtect, policy.CategoryGroup, policy.CategoryPriority}
	}
	p := newPatient(t, simulation.Options{NoOwnerCategories: true}, without)
	p.want(p.diagnose(), "category preemption-protect", doctorapi.OK, "as limits.withoutCategories says")
	p = newPatient(t, simulation.Options{}, without)
	p.want(p.diagnose(), "category preemption-protect", doctorapi.Warning, "its tags count")
}

func TestACategoryOfProtectionWithoutTagsIsWarnedOf(t *testing.T) {
	p := newPatient(t, simulation.Options{NoOwnerCategories: true})
	if err := p.vc.CreateCategory(policy.CategoryProtect, false); err != nil {
		t.Fatal(err)
	}
	p.want(p.diagnose(), "category preemption-protect", doctorapi.Warning, "no tag in it is visible", "govc tags.create -c preemption-protect do-not-preempt")
}

func TestAWorkerThatTakesAnyTagIsWarnedOf(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	p.want(p.diagnose(), "allowed tags", doctorapi.OK, "preemptible")
	p.Allowed = nil
	p.want(p.diagnose(), "allowed tags", doctorapi.Warning, "any tag", "limits.allowedTags: [preemptible]")
}

func TestWhereARuleChangesVMsTheOwnersCategoriesOfRemediationAreLookedFor(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	for _, c := range p.diagnose().Checks {
		if c.Name == "category remediation-mode" {
			t.Error("it is looked for although no rule remedies")
		}
	}
	p.Rules = append(p.Rules, trigger.Rule{Alarm: placement.AlarmCPU, Action: trigger.Resize{Settings: placement.Resize{Mode: placement.ModeHotAdd}}})
	if err := p.vc.CreateTag(placement.CategoryMode, placement.ModeOff); err != nil {
		t.Fatal(err)
	}
	r := p.diagnose()
	p.want(r, "category remediation-mode", doctorapi.OK, "seen, with 1 tags")
	p.want(r, "category remediation-max-cpus", doctorapi.Warning, "no owner has a say", "preemptctl tags create")
	p.vc.HideCategories(placement.CategoryMode)
	p.want(p.diagnose(), "category remediation-mode", doctorapi.Warning, "not visible")
}
