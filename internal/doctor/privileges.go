package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// feature is what needs privileges.
type feature struct {
	name       string
	used       bool // by the worker's file; requests may ask for it all the same
	privileges []string
}

const onVMs = "VirtualMachine."

// features lists what needs which privileges: preemption, the actions and the rules by their tables, and the rest.
// docs/security.md has the same list.
func (e *examination) features() []feature {
	var all featureList
	all.add("preempt", true, action.PowerOff.Privileges(), trigger.KindPreempt.Privileges())
	for _, a := range action.All() {
		all.add(string(a), e.treats(func(t policy.Treatment) bool { return t.Action == a }), a.Privileges())
	}
	all.add("notice", e.treats(func(t policy.Treatment) bool { return t.Notice > 0 }), []string{"VirtualMachine.Config.AdvancedConfig"})
	for _, a := range action.All() {
		treats := e.treats(func(t policy.Treatment) bool { return t.Action == a })
		all.add("restore", e.restores() && (treats || !a.StaysOn()), a.Undo())
	}
	for _, k := range trigger.Kinds() {
		all.add(string(k), e.changes(k), k.Privileges())
	}
	all.add("tag", e.tagsVMs(), []string{"InventoryService.Tagging.AttachTag", "InventoryService.Tagging.ObjectAttachable"})
	return all
}

// featureList is a list of features. What needs nothing beyond an earlier feature is part of that one.
type featureList []feature

func (l *featureList) add(name string, used bool, privileges ...[]string) {
	needs := slices.Concat(privileges...)
	for i := range *l {
		f := &(*l)[i]
		if !slices.ContainsFunc(needs, func(p string) bool { return !slices.Contains(f.privileges, p) }) {
			f.used = f.used || used
			return
		}
	}
	*l = append(*l, feature{name, used, needs})
}

// treats reports whether a policy treats VMs so at some criticality.
func (e *examination) treats(so func(policy.Treatment) bool) bool {
	for _, p := range e.Policies {
		if slices.ContainsFunc(p.Criticality.All(), so) {
			return true
		}
	}
	return false
}

// changes reports whether a rule of the kind changes VMs.
func (e *examination) changes(k trigger.Kind) bool {
	return slices.ContainsFunc(e.Rules, func(r trigger.Rule) bool { return r.Action.Kind() == k && r.Action.Acts() })
}

// tagsVMs reports whether a rule leaves sizes as tags.
func (e *examination) tagsVMs() bool {
	return slices.ContainsFunc(e.Rules, func(r trigger.Rule) bool {
		a, ok := r.Action.(trigger.Resize)
		return ok && (a.Settings.Mode == placement.ModeTag || a.Settings.Mode == placement.ModeHotOrOff)
	})
}

// maxAsked is on how many VMs privileges are asked for.
const maxAsked = 100

// privileges asks, for each feature, what our user lacks: on VMs that may go, or on the datacenters where none carries a
// tag. What is not of VMs is needed elsewhere too, so that its absence from VMs is a hint and no more.
func (e *examination) privileges(ctx context.Context) {
	on, sure := e.carrier[:min(maxAsked, len(e.carrier))], true
	where := fmt.Sprintf("on %d tagged VMs", len(on))
	if len(on) == 0 {
		centers, err := e.VCenter.Datacenters(ctx)
		if err != nil || len(centers) == 0 {
			e.add(doctorapi.Failed, "privileges", "our user sees neither a tagged VM nor a datacenter", "give "+e.VCenter.User()+" a role on the datacenters, see docs/security.md")
			return
		}
		for _, c := range centers {
			on = append(on, c.Ref)
		}
		sure, where = false, fmt.Sprintf("on %d datacenters", len(on))
	}
	for _, f := range e.features() {
		e.feature(ctx, f, on, where, sure)
	}
}

func (e *examination) feature(ctx context.Context, f feature, on []vsphere.Ref, where string, sure bool) {
	name := "privileges to " + f.name
	lacks, err := e.VCenter.Lacks(ctx, f.privileges, on)
	if err != nil {
		text, remedy := trouble(err, "")
		e.add(doctorapi.Warning, name, text, remedy)
		return
	}
	if len(lacks) == 0 {
		e.add(doctorapi.OK, name, "granted "+where, "")
		return
	}
	var missing []string
	ofVMs := false
	for _, l := range lacks {
		missing = append(missing, l.Privilege)
		ofVMs = ofVMs || strings.HasPrefix(l.Privilege, onVMs) || l.Privilege == "Global.SetCustomField"
	}
	text := fmt.Sprintf("%s lacks %s on %s", e.VCenter.User(), strings.Join(missing, ", "), some(lacks))
	remedy := "add them to its role there: govc role.update -a ROLE " + strings.Join(missing, " ")
	switch {
	case !f.used:
		e.add(doctorapi.OK, name, text+"; no rule and no policy needs it", "")
	case sure && ofVMs:
		e.add(doctorapi.Failed, name, text, remedy)
	default:
		e.add(doctorapi.Warning, name, text+"; it may have them where they are needed", remedy)
	}
}

// some names a few of the objects that something is lacking on.
func some(lacks []vcenter.Lack) string {
	var names []string
	for _, l := range lacks {
		for _, o := range l.On {
			names = append(names, o.String())
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if more := len(names) - 3; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), more)
	}
	return strings.Join(names, ", ")
}
