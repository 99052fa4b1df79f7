package policy

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// exclusion returns why the VM cannot go, whatever its owner and the policy say, or "".
func exclusion(vm *VM, s *Snapshot, d *Demand, p *Policy) Reason {
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
	}
	return ""
}

func inScope(vm *VM, scope Ref) bool {
	return scope.Zero() || vm.Cluster == scope || vm.Host == scope || slices.Contains(vm.Ancestors, scope)
}

// infrastructure recognises VMs that keep vSphere or ourselves running.
func infrastructure(vm *VM, s *Snapshot, d *Demand, p *Policy) bool {
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
	_, found := matching(p.NeverTouch, vm.Name)
	return found
}

// protection returns why its owner or the policy keeps the VM, with a detail, or "". A tag that cannot be
// read protects.
func protection(vm *VM, preempted int, now time.Time, p *Policy) (Reason, string) {
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
	if least := p.Protect.MinRuntime.D(); least > 0 {
		if ran, ok := uptime(vm, now); !ok {
			return MinRuntime, "its time of power-on is unknown"
		} else if ran < least {
			return MinRuntime, fmt.Sprintf("within its minimum run time: %s of %s", age(ran), brief(least))
		}
	}
	if most := p.Protect.MaxPreemptionsPerDay; most > 0 && preempted >= most {
		return PreemptedOften, fmt.Sprintf("preempted %s in the last 24 h, at most %d", times(preempted), most)
	}
	return "", ""
}

// protectedByTag reads the tags of CategoryProtect: of several durations the longest holds.
func protectedByTag(vm *VM, now time.Time) (Reason, string) {
	var longest time.Duration
	for _, tag := range vm.Tags[CategoryProtect] {
		if tag == TagDoNotPreempt {
			return Protected, "tag " + TagDoNotPreempt
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
	if ran, ok := uptime(vm, now); !ok {
		return Protected, "protected after power-on, whose time is unknown"
	} else if ran < longest {
		return Protected, fmt.Sprintf("protected for %s after power-on: %s passed", brief(longest), age(ran))
	}
	return "", ""
}

// priority reads the tag of CategoryPriority; without one the policy's default holds.
func priority(vm *VM, p *Policy) (int, error) {
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

// uptime returns how long the VM has been on; ok is false where vCenter does not say since when. A start
// in the future, which differing clocks bring about, is a start just now.
func uptime(vm *VM, now time.Time) (ran time.Duration, ok bool) {
	return max(0, now.Sub(vm.BootTime)), !vm.BootTime.IsZero()
}

// matching returns the first glob that matches the name, in which a slash is a letter like any other. A glob
// that cannot be read matches: that protects.
func matching(globs []string, name string) (string, bool) {
	slashed := strings.Contains(name, "/")
	if slashed {
		name = strings.ReplaceAll(name, "/", "\x00")
	}
	for _, glob := range globs {
		pattern := glob
		if slashed {
			pattern = strings.ReplaceAll(glob, "/", "\x00")
		}
		if ok, err := path.Match(pattern, name); ok || err != nil {
			return glob, true
		}
	}
	return "", false
}

// below returns the first glob that matches something on the inventory path: a glob that begins with a slash
// matches paths, another one names.
func below(globs []string, at string) (string, bool) {
	for at != "" && len(globs) > 0 {
		slash := strings.LastIndexByte(at, '/')
		for i, glob := range globs {
			what := at[slash+1:]
			if strings.HasPrefix(glob, "/") {
				what, glob = at, strings.TrimSuffix(glob, "/")
			}
			if ok, err := path.Match(glob, what); ok || err != nil {
				return globs[i], true
			}
		}
		at = at[:max(0, slash)]
	}
	return "", false
}
