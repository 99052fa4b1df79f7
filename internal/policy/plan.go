package policy

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Reason says why a candidate stays.
type Reason string

// The reasons for which a candidate stays.
const (
	NotAVM           Reason = "not_a_vm"          // the tag stands on another kind of object
	NotTagged        Reason = "not_tagged"        // the tag was taken off meanwhile
	Gone             Reason = "gone"              // the VM was destroyed; its tag association lives on
	Template         Reason = "template"          // a template never runs
	NotPoweredOn     Reason = "not_powered_on"    // already off or suspended
	OutOfScope       Reason = "out_of_scope"      // not in the contended cluster or host
	Infrastructure   Reason = "infrastructure"    // vCLS, vCenter, ourselves, or named in neverTouch
	PendingOperation Reason = "pending_operation" // vCenter refuses to power it off at this moment
	NotConnected     Reason = "not_connected"     // its host is away: vCenter cannot act on it
	BeingEvicted     Reason = "being_evicted"     // another round has reserved it
	OverLimit        Reason = "limit"             // the plan already holds maxVMs
)

// Explain returns the reason in words.
func (r Reason) Explain() string {
	words := map[Reason]string{
		NotTagged: "it does not carry the tag (any more)", NotAVM: "the tag stands on an object that is no VM", Gone: "the VM no longer exists",
		Template: "it is a template", NotPoweredOn: "it is not powered on",
		OutOfScope:     "it is not in the contended cluster",
		Infrastructure: "it is an infrastructure VM or named in neverTouch", PendingOperation: "an operation is under way on it",
		NotConnected: "its host is not connected", BeingEvicted: "another round is evicting it",
		OverLimit: "the plan already holds as many VMs as the policy allows",
	}
	if w, ok := words[r]; ok {
		return w
	}
	return string(r)
}

// Demand is what is asked of a plan.
type Demand struct {
	Tag         string   `json:"tag"`
	Criticality string   `json:"criticality"`
	Scope       Ref      `json:"scope,omitzero"` // zero: everything tagged
	Reserved    []Ref    `json:"reserved,omitempty"`
	Self        []string `json:"self,omitempty"`    // BIOS UUIDs of our own VMs
	Already     int      `json:"already,omitempty"` // targets this round has committed in an earlier plan
}

// Target is a candidate chosen to go.
type Target struct {
	Ref          Ref    `json:"ref"`
	Name         string `json:"name"`
	InstanceUUID string `json:"instanceUUID,omitempty"`
	ToolsRunning bool   `json:"toolsRunning"`
	CPUMHz       int64  `json:"cpuMHz"`
	MemoryMB     int64  `json:"memoryMB"`
}

// Spared is a candidate that stays, and why.
type Spared struct {
	Ref    Ref    `json:"ref"`
	Name   string `json:"name,omitempty"`
	Reason Reason `json:"reason"`
}

// Plan is who goes, in order, and why every other candidate stays.
type Plan struct {
	Targets []Target `json:"targets"`
	Spared  []Spared `json:"spared"`
}

// Choose computes the plan. The same inventory, in whatever order, gives the same plan: targets are
// ordered youngest first (latest boot), then by MoRef. The limit is applied last, so that a candidate
// which cannot go never takes the place of one that can.
func Choose(s Snapshot, d Demand, p Policy) Plan {
	plan := Plan{Targets: []Target{}, Spared: []Spared{}}
	for _, ref := range s.Others {
		reason := NotAVM
		if ref.Type == TypeVM {
			reason = Gone
		}
		plan.Spared = append(plan.Spared, Spared{Ref: ref, Reason: reason})
	}
	var eligible []VM
	for _, vm := range s.VMs {
		if reason := exclusion(vm, s, d, p); reason != "" {
			plan.Spared = append(plan.Spared, Spared{Ref: vm.Ref, Name: vm.Name, Reason: reason})
			continue
		}
		eligible = append(eligible, vm)
	}
	slices.SortFunc(eligible, order)
	room := max(0, p.MaxVMs-d.Already)
	for i, vm := range eligible {
		if i >= room {
			plan.Spared = append(plan.Spared, Spared{Ref: vm.Ref, Name: vm.Name, Reason: OverLimit})
			continue
		}
		plan.Targets = append(plan.Targets, Target{
			Ref: vm.Ref, Name: vm.Name, InstanceUUID: vm.InstanceUUID, ToolsRunning: vm.ToolsRunning,
			CPUMHz: vm.CPUMHz, MemoryMB: vm.MemoryMB,
		})
	}
	slices.SortFunc(plan.Spared, func(a, b Spared) int { return compareRefs(a.Ref, b.Ref) })
	return plan
}

// exclusion returns why the VM may not go, or "".
func exclusion(vm VM, s Snapshot, d Demand, p Policy) Reason {
	switch {
	case !vm.Tagged:
		return NotTagged
	case vm.Template:
		return Template
	case !inScope(vm, d.Scope):
		return OutOfScope
	case infrastructure(vm, s, d, p):
		return Infrastructure
	case vm.PowerState != PoweredOn:
		return NotPoweredOn
	case !vm.Connected:
		return NotConnected
	case slices.Contains(vm.DisabledMethods, "PowerOffVM_Task"):
		return PendingOperation
	case slices.Contains(d.Reserved, vm.Ref):
		return BeingEvicted
	}
	return ""
}

func inScope(vm VM, scope Ref) bool {
	return scope.Zero() || vm.Cluster == scope || vm.Host == scope || slices.Contains(vm.Ancestors, scope)
}

// infrastructure recognises VMs that keep vSphere or ourselves running.
func infrastructure(vm VM, s Snapshot, d Demand, p Policy) bool {
	if vm.ManagedBy == "com.vmware.vim.eam" || strings.HasPrefix(vm.Name, "vCLS") {
		return true
	}
	if vm.BIOSUUID != "" && slices.ContainsFunc(d.Self, func(id string) bool { return strings.EqualFold(id, vm.BIOSUUID) }) {
		return true
	}
	for _, addr := range vm.GuestAddrs {
		if addr != "" && slices.ContainsFunc(s.VCenterAddrs, func(v string) bool { return strings.EqualFold(v, addr) }) {
			return true
		}
	}
	return slices.ContainsFunc(p.NeverTouch, func(glob string) bool {
		ok, err := path.Match(glob, vm.Name)
		return ok || err != nil
	})
}

// order puts the youngest first, then the smaller MoRef.
func order(a, b VM) int {
	if c := b.BootTime.Compare(a.BootTime); c != 0 {
		return c
	}
	return compareRefs(a.Ref, b.Ref)
}

// compareRefs orders references by type, then by value, shorter values first so that vm-9 precedes vm-10.
func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(len(a.Value), len(b.Value)), cmp.Compare(a.Value, b.Value))
}

// Recheck tells why a target may no longer be acted on, from its state just before; "" where it may. The
// power state is left to the caller, who knows what an unexpected "off" means.
func Recheck(vm VM, scope Ref) Reason {
	switch {
	case vm.Ref.Zero():
		return Gone
	case !vm.Tagged:
		return NotTagged
	case vm.Template:
		return Template
	case !inScope(vm, scope):
		return OutOfScope
	case !vm.Connected:
		return NotConnected
	case slices.Contains(vm.DisabledMethods, "PowerOffVM_Task"):
		return PendingOperation
	}
	return ""
}
