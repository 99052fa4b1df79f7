package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// Difference returns what the tags of a VM ask to change about its hardware, and the tags that cannot be applied,
// in the order of Settings. A bad tag keeps no other from being applied.
func Difference(vm VM) (Change, []BadTag) {
	var r tagReader
	cpus := r.number(vm, CategoryCPUs, vm.CPUs)
	memory := r.number(vm, CategoryMemory, vm.MemoryMB)
	cores := r.number(vm, CategoryCoresPerSocket, vm.CoresPerSocket)
	if most := largestHost(vm); cpus != nil && *cpus != vm.CPUs && most > 0 && *cpus > most {
		cpus = r.refuse(vm, CategoryCPUs, fmt.Sprintf("the largest host has %d CPUs", most))
	}
	cpus, cores = r.topology(vm, cpus, cores)
	c := Change{
		CPUs: changed(cpus, vm.CPUs), CoresPerSocket: changed(cores, vm.CoresPerSocket), MemoryMB: changed(memory, vm.MemoryMB),
		MemoryHotAdd: changed(r.boolean(vm, CategoryMemoryHotAdd), vm.MemoryHotAdd),
		CPUHotAdd:    changed(r.boolean(vm, CategoryCPUHotAdd), vm.CPUHotAdd),
		CPUHotRemove: changed(r.boolean(vm, CategoryCPUHotRemove), vm.CPUHotRemove),
	}
	slices.SortStableFunc(r.bad, func(a, b BadTag) int {
		return slices.Index(Settings(), a.Category) - slices.Index(Settings(), b.Category)
	})
	return c, r.bad
}

// changed returns the wanted value, or nil where it is the present one.
func changed[T comparable](want *T, is T) *T {
	if want == nil || *want == is {
		return nil
	}
	return want
}

// largestHost is how many CPUs the largest host has that the VM may run on; 0: unknown.
func largestHost(vm VM) int { return max(vm.HostCPUs, vm.ClusterCPUs) }

// topology checks that the CPUs are whole sockets, with what the VM has where no tag asks for another number.
// Where they are not, the tag is bad without which they are: the cores per socket, else the CPUs, else both.
func (r *tagReader) topology(vm VM, cpus, cores *int) (cpusLeft, coresLeft *int) {
	whole := func(cpus, cores *int) bool {
		return wholeSockets(orElse(cpus, vm.CPUs), orElse(cores, vm.CoresPerSocket))
	}
	if cpus == nil && cores == nil || whole(cpus, cores) {
		return cpus, cores
	}
	why := fmt.Sprintf("%d CPUs are not whole sockets of %d cores", orElse(cpus, vm.CPUs), orElse(cores, vm.CoresPerSocket))
	switch {
	case cores != nil && whole(cpus, nil):
		return cpus, r.refuse(vm, CategoryCoresPerSocket, why)
	case cpus != nil && whole(nil, cores):
		return r.refuse(vm, CategoryCPUs, why), cores
	}
	if cpus != nil {
		r.refuse(vm, CategoryCPUs, why)
	}
	if cores != nil {
		r.refuse(vm, CategoryCoresPerSocket, why)
	}
	return nil, nil
}

func orElse(want *int, is int) int {
	if want == nil {
		return is
	}
	return *want
}

// wholeSockets tells whether the CPUs are a multiple of the cores per socket; 0 cores: vSphere chooses them.
func wholeSockets(cpus, cores int) bool {
	return cores == 0 || cores > 0 && cores <= cpus && cpus%cores == 0
}

// tagReader reads the tags of a VM, and keeps the bad ones.
type tagReader struct{ bad []BadTag }

// refuse notes all tags of the category as bad. It returns nil: no value.
func (r *tagReader) refuse(vm VM, category, reason string) *int {
	for _, tag := range slices.Sorted(slices.Values(vm.Tags[category])) {
		r.bad = append(r.bad, BadTag{Category: category, Tag: tag, Reason: reason})
	}
	return nil
}

// one returns the one tag of the category without blanks around it; ok is false where there is none, or several,
// which are bad.
func (r *tagReader) one(vm VM, category string) (tag string, ok bool) {
	tags := vm.Tags[category]
	if len(tags) > 1 {
		r.refuse(vm, category, fmt.Sprintf("%d tags of %s, of which one is allowed", len(tags), category))
	}
	if len(tags) != 1 {
		return "", false
	}
	return strings.TrimSpace(tags[0]), true
}

// number reads a number of CPUs, cores or MB; nil where there is none that can be applied. What the VM has
// already can always be.
func (r *tagReader) number(vm VM, category string, is int) *int {
	tag, ok := r.one(vm, category)
	if !ok {
		return nil
	}
	n, err := strconv.Atoi(tag)
	low, high := 1, maxCPUs
	memory := category == CategoryMemory || category == CategoryMaxMemory
	if memory {
		low, high = memoryUnit, maxMemoryMB
	}
	switch {
	case err != nil:
		return r.refuse(vm, category, "it is not a whole number")
	case n == is:
	case n < low || n > high:
		return r.refuse(vm, category, fmt.Sprintf("it is not within %d to %d", low, high))
	case category == CategoryMemory && n%memoryUnit != 0:
		return r.refuse(vm, category, fmt.Sprintf("it is not a multiple of %d MB", memoryUnit))
	}
	return &n
}

// boolean reads true or false, in any case; nil where there is neither.
func (r *tagReader) boolean(vm VM, category string) *bool {
	tag, ok := r.one(vm, category)
	if !ok {
		return nil
	}
	yes := strings.EqualFold(tag, "true")
	if !yes && !strings.EqualFold(tag, "false") {
		r.refuse(vm, category, "it is neither true nor false")
		return nil
	}
	return &yes
}

// mode reads the tag of CategoryMode; "" where there is none, or none that can be read.
func (r *tagReader) mode(vm VM) string {
	tag, ok := r.one(vm, CategoryMode)
	if !ok {
		return ""
	}
	modes := []string{ModeRecommend, ModeTag, ModeHotAdd, ModeHotOrOff, ModePowerCycle, ModeOff}
	if !slices.Contains(modes, tag) {
		r.refuse(vm, CategoryMode, "it is not one of "+strings.Join(modes, ", "))
		return ""
	}
	return tag
}

// Mode is the mode that the VM's own tag names: "" where it has none, ModeRecommend where it cannot be read.
func Mode(vm VM) string {
	if len(vm.Tags[CategoryMode]) == 0 {
		return ""
	}
	r := tagReader{}
	return cmp.Or(r.mode(vm), ModeRecommend)
}

// The reasons for which a VM stays where it is, that hold for any remediation. The values are stable.
const (
	stayTemplate      = "template"
	stayDisconnected  = "disconnected"
	stayManaged       = "managed"
	stayFaultTolerant = "fault_tolerant"
)

// Decline returns in words why a VM must not be touched at all; "" if it may.
func Decline(vm VM) (reason string) {
	_, reason = decline(vm)
	return reason
}

// decline returns the stable reason, too.
func decline(vm VM) (stable, words string) {
	switch {
	case vm.Template:
		return stayTemplate, "it is a template"
	case !vm.Connected:
		return stayDisconnected, "its host is not connected"
	case vm.ManagedBy != "":
		return stayManaged, "the extension " + vm.ManagedBy + " manages it"
	case policy.IsVCLS(vm.Name):
		return stayManaged, "it belongs to vSphere Cluster Services"
	case vm.FaultTolerant:
		return stayFaultTolerant, "it is fault tolerant"
	}
	return "", ""
}

// Owner returns in words why a VM is not ours to change; "" if it is. never are globs of names as in neverTouch,
// self the BIOS UUIDs of the VMs that we run on, vcenter the names and addresses of vCenter.
func Owner(vm VM, never, self, vcenter []string) (reason string) {
	if vm.BIOSUUID != "" && slices.ContainsFunc(self, func(id string) bool { return strings.EqualFold(id, vm.BIOSUUID) }) {
		return "we run on it"
	}
	for _, addr := range vm.GuestAddrs {
		if addr != "" && slices.ContainsFunc(vcenter, func(v string) bool { return strings.EqualFold(v, addr) }) {
			return "vCenter runs on it"
		}
	}
	if glob, ok := policy.Match(never, vm.Name); ok {
		return "neverTouch names it: " + glob
	}
	return ""
}
