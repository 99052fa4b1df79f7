package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// owners checks whether the tags by which owners have a say can be seen: what our user has no permission on is absent,
// and vCenter says nothing of it.
func (e *examination) owners(ctx context.Context) {
	seen, err := e.VCenter.OwnerCategories(ctx, e.remediates())
	if err != nil {
		text, remedy := trouble(err, "")
		e.add(doctorapi.Failed, "tags of owners", text, remedy)
		return
	}
	for _, c := range seen {
		e.owner(c)
	}
}

// allowed warns where whoever may signal a workflow may name any tag of the site.
func (e *examination) allowed() {
	const name = "allowed tags"
	if len(e.Allowed) > 0 {
		e.add(doctorapi.OK, name, strings.Join(e.Allowed, ", "), "")
		return
	}
	e.add(doctorapi.Warning, name, "any tag may be asked for, by whoever may signal a workflow: VMs that carry another tag of the site could be turned off",
		fmt.Sprintf("write limits.allowedTags: [%s] into the file", strings.Join(e.ruleTags(), ", ")))
}

// remedyCategories are those by which owners have a say in remediation. A site may do without: they are asked about only
// where a rule changes VMs.
var remedyCategories = []string{placement.CategoryMode, placement.CategoryMaxCPUs, placement.CategoryMaxMemory}

// remediates reports whether a rule changes VMs that are in alarm.
func (e *examination) remediates() bool {
	return slices.ContainsFunc(e.features(), func(f feature) bool { return f.used && (f.name == "resize" || f.name == "move") })
}

func (e *examination) owner(c vcenter.OwnerCategory) {
	name := "category " + c.Name
	switch {
	case !c.Seen && slices.Contains(remedyCategories, c.Name):
		e.add(doctorapi.Warning, name, "not there, or not visible to "+e.VCenter.User()+": no owner has a say in remediation by it",
			fmt.Sprintf("make it: preemptctl tags create; or, if it is there, give %s Read-only as a global permission", e.VCenter.User()))
	case !c.Seen && c.Without:
		e.add(doctorapi.OK, name, "not there, as limits.withoutCategories says", "")
	case !c.Seen:
		e.add(doctorapi.Failed, name, "not there, or not visible to "+e.VCenter.User()+": no round plans anything, for VMs that their owners protect could not be told from others",
			fmt.Sprintf("give %s Read-only as a global permission; or make it: govc tags.category.create -t VirtualMachine -m %s; or add it to limits.withoutCategories if this site has none", e.VCenter.User(), c.Name))
	case c.Without:
		e.add(doctorapi.Warning, name, "it is there, though limits.withoutCategories says that this site has none; its tags count", "take it out of limits.withoutCategories: should the permission on it be lost, nobody would notice")
	case c.Tags == 0 && c.Name == policy.CategoryProtect:
		e.add(doctorapi.Warning, name, "no tag in it is visible to "+e.VCenter.User()+": no owner protects a VM by a tag",
			fmt.Sprintf("if there are tags in it, give %s Read-only on them; else make the one that protects: govc tags.create -c %s %s", e.VCenter.User(), c.Name, policy.TagDoNotPreempt))
	default:
		e.add(doctorapi.OK, name, fmt.Sprintf("seen, with %d tags", c.Tags), "")
	}
}
