package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// exclusion returns why the VM cannot be turned off, whatever its owner and the policy say, or "".
func exclusion(vm *vsphere.VM, s *vsphere.Snapshot, d *Demand, p *Policy) Reason {
	switch {
	case !vm.Tagged:
		return NotTagged
	case vm.Template:
		return Template
	case !inScope(vm, d.Scope):
		return OutOfScope
	case infrastructure(vm, s, d, p):
		return Infrastructure
	case vm.PowerState != vsphere.PoweredOn:
		return NotPoweredOn
	case !vm.Connected:
		return NotConnected
	case slices.Contains(vm.DisabledMethods, "PowerOffVM_Task"):
		return PendingOperation
	}
	return ""
}

func inScope(vm *vsphere.VM, scope vsphere.Ref) bool {
	return scope.Zero() || vm.Cluster == scope || vm.Host == scope || slices.Contains(vm.Ancestors, scope)
}

// infrastructure recognises VMs that keep vSphere or ourselves running.
func infrastructure(vm *vsphere.VM, s *vsphere.Snapshot, d *Demand, p *Policy) bool {
	if vm.ManagedBy == "com.vmware.vim.eam" || IsVCLS(vm.Name) {
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
	_, found := matching(p.NeverTouch, vm.Name)
	return found
}

// protection returns why its owner or the policy keeps the VM, with a detail, or "". A tag that cannot be
// read protects.
func protection(vm *vsphere.VM, preempted int, now time.Time, p *Policy) (Reason, string) {
	if r, detail := protectedByTag(vm, now); r != "" {
		return r, detail
	}
	if _, err := priority(vm, p); err != nil {
		return UnreadableTag, err.Error()
	}
	if glob, ok := matching(p.Protect.Names, vm.Name); ok {
		return ExcludedName, "name " + glob
	}
	if glob, ok := below(p.Protect.Folders, vm.FolderPath); ok {
		return ExcludedFolder, "folder " + glob
	}
	if glob, ok := below(p.Protect.ResourcePools, vm.PoolPath); ok {
		return ExcludedPool, "resource pool " + glob
	}
	if len(p.Protect.Folders) > 0 && vm.FolderUnseen {
		return FolderUnseen, unseen("folders", vm.FolderPath)
	}
	if len(p.Protect.ResourcePools) > 0 && vm.PoolUnseen {
		return PoolUnseen, unseen("resource pools", vm.PoolPath)
	}
	if least := p.Protect.MinRuntime.D(); least > 0 {
		switch ran := uptime(vm, now); {
		case !ran.known:
			return MinRuntime, "its time of power-on is unknown"
		case ran.least < least:
			return MinRuntime, fmt.Sprintf("within its minimum run time: %s of %s", ran, brief(least))
		}
	}
	if most := p.Protect.MaxPreemptionsPerDay; most > 0 && preempted >= most {
		return PreemptedOften, fmt.Sprintf("preempted %s in the last 24 h, at most %d", times(preempted), most)
	}
	return "", ""
}

// unseen describes the visible part of an incomplete path.
func unseen(what, path string) string {
	if path == "" {
		return "none of its " + what + " can be seen"
	}
	return fmt.Sprintf("of its %s only %s can be seen", what, path)
}

// protectedByTag reads the tags of CategoryProtect. Of several durations the longest applies.
func protectedByTag(vm *vsphere.VM, now time.Time) (Reason, string) {
	var longest time.Duration
	for _, tag := range vm.Tags[CategoryProtect] {
		if strings.EqualFold(tag, TagDoNotPreempt) {
			return Protected, "tag " + tag
		}
		d, err := time.ParseDuration(tag)
		if err != nil || d <= 0 {
			return UnreadableTag, fmt.Sprintf("unreadable protection %q: use %s, or a duration such as 4h", tag, TagDoNotPreempt)
		}
		longest = max(longest, d)
	}
	if longest == 0 {
		return "", ""
	}
	switch ran := uptime(vm, now); {
	case !ran.known:
		return Protected, "protected after power-on, whose time is unknown"
	case ran.least < longest:
		return Protected, fmt.Sprintf("protected for %s after power-on: %s passed", brief(longest), ran)
	}
	return "", ""
}

// priority reads the tag of CategoryPriority. Without one, the policy's default applies.
func priority(vm *vsphere.VM, p *Policy) (int, error) {
	tags := vm.Tags[CategoryPriority]
	switch len(tags) {
	case 0:
		return p.Order.priority(), nil
	case 1:
		n, err := strconv.Atoi(strings.TrimSpace(tags[0]))
		if err != nil || n < -maxPriority || n > maxPriority {
			return 0, fmt.Errorf("unreadable priority %q: use a whole number", tags[0])
		}
		return n, nil
	}
	return 0, fmt.Errorf("unreadable priority: %d tags of %s, of which one is allowed", len(tags), CategoryPriority)
}
