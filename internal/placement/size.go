package placement

import (
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// What sets the bound of a size.
const (
	boundTag     = "tag"
	boundRule    = "rule"
	boundDefault = "default"
	boundHost    = "host"
	boundCluster = "cluster"
)

// linuxHotMB is where hot memory ends for a Linux guest that has less.
const linuxHotMB = 3072

// NextSize decides the next size of a VM in alarm: larger than what it has and than the wish that its tag holds,
// and within the smallest of its bounds. It never makes a VM smaller. Whether the VM is busy is not looked at.
func NextSize(vm VM, s Resize) Sized {
	s = s.WithDefaults("")
	var r tagReader
	z := Sized{Resource: s.Resource, Current: vm.CPUs}
	wish, bound := CategoryCPUs, CategoryMaxCPUs
	switch s.Resource {
	case CPU:
	case Memory:
		z.Current, wish, bound = vm.MemoryMB, CategoryMemory, CategoryMaxMemory
	default:
		z.Verdict, z.Mode, z.Reason = Infeasible, s.Mode, fmt.Sprintf("resource %q is neither %s nor %s", s.Resource, CPU, Memory)
		return z
	}
	z.Mode = r.effective(vm, s)
	if pending := r.number(vm, wish, z.Current); pending != nil {
		z.Pending = *pending
	}
	z.bound(vm, s, bound, &r)
	z.Bad = r.bad
	z.decide(vm, s)
	return z
}

// effective is the mode by the VM's tag, else by the rule. A tag that cannot be heeded leaves nothing but to
// recommend.
func (r *tagReader) effective(vm VM, s Resize) string {
	if len(vm.Tags[CategoryMode]) == 0 {
		return s.Mode
	}
	mode := r.mode(vm)
	if mode == ModePowerCycle && s.PowerCycle() == (policy.Window{}) {
		r.refuse(vm, CategoryMode, "the rule has no window")
		return ModeRecommend
	}
	if mode == "" {
		return ModeRecommend
	}
	return mode
}

// bound finds the smallest of the bounds. Where the owner's cannot be read it is the present size.
func (z *Sized) bound(vm VM, s Resize, category string, r *tagReader) {
	least := func(by string, n int) {
		if n > 0 && (z.BoundBy == "" || n < z.Bound) {
			z.Bound, z.BoundBy = n, by
		}
	}
	if len(vm.Tags[category]) > 0 {
		if n := r.number(vm, category, z.Current); n != nil {
			least(boundTag, *n)
		} else {
			least(boundTag, z.Current)
		}
	}
	if s.Max == s.defaultMax() {
		least(boundDefault, s.Max)
	} else {
		least(boundRule, s.Max)
	}
	if z.Resource == CPU {
		least(boundHost, vm.HostCPUs)
		least(boundCluster, vm.ClusterCPUs)
	} else {
		least(boundHost, vm.HostMemoryMB)
		least(boundCluster, vm.ClusterMemoryMB)
	}
}

// decide fills the verdict.
func (z *Sized) decide(vm VM, s Resize) {
	switch {
	case vm.Template:
		z.Verdict, z.Reason = Skip, "it is a template"
		return
	case !vm.Connected:
		z.Verdict, z.Reason = Skip, "its host is not connected"
		return
	case z.Current < 1:
		z.Verdict, z.Reason = Skip, "its size is not known"
		return
	case z.Mode == ModeOff:
		z.Verdict, z.Reason = Skip, "a tag on it says that it is left alone"
		return
	case vm.FaultTolerant:
		z.Verdict, z.Reason = Infeasible, "it is fault tolerant"
		return
	}
	base := max(z.Current, z.Pending)
	next, unit := z.step(vm, s, base)
	if next > z.Bound {
		next = unit.down(z.Bound)
	}
	if next <= base {
		z.Verdict, z.Reason = AtLimit, z.atLimit(base)
		return
	}
	z.Verdict, z.Next = Grow, next
	z.Reason = fmt.Sprintf("from %s to %s", z.amount(base), z.amount(next))
	if z.Pending > z.Current {
		z.Reason = fmt.Sprintf("from %s, of which %s wait for its next power-off, to %s", z.amount(base), z.amount(base-z.Current), z.amount(next))
	}
	z.WhyNot = z.whyNotHot(vm)
	z.Hot = z.WhyNot == ""
	if z.Mode == ModeHotAdd && !z.Hot {
		z.Verdict, z.Next = Infeasible, 0
		z.Reason = fmt.Sprintf("%s cannot be added while it is on: %s", z.amount(next-z.Current), z.WhyNot)
	}
}

// step returns the next size without regard to the bound, and the sizes that are possible.
func (z *Sized) step(vm VM, s Resize, base int) (int, grid) {
	if z.Resource == CPU {
		sockets := grid{unit: max(1, vm.CoresPerSocket)}
		return sockets.up(base + 1), sockets
	}
	g := memoryGrid(vm)
	if s.Sizing == SizingOriginal {
		n := memoryUnit
		for n <= base {
			n *= 2
		}
		return n, g
	}
	return g.up(base + max(1024, (base+3)/4)), g
}

// memoryGrid are the sizes of memory that can be reached hot, if vCenter says which.
func memoryGrid(vm VM) grid {
	unit := memoryUnit
	if vm.HotMemoryStepMB > 0 && vm.MemoryMB%memoryUnit == 0 {
		for unit = vm.HotMemoryStepMB; unit%memoryUnit != 0; {
			unit += vm.HotMemoryStepMB
		}
		return grid{unit: unit, from: vm.MemoryMB % unit}
	}
	return grid{unit: unit}
}

// grid are the sizes from, from+unit, from+2·unit and so on.
type grid struct{ unit, from int }

// up is the smallest of the sizes that is at least n.
func (g grid) up(n int) int { return g.down(n + g.unit - 1) }

// down is the largest of the sizes that is at most n; 0 where there is none.
func (g grid) down(n int) int {
	if n < g.from {
		return 0
	}
	return n - (n-g.from)%g.unit
}

// atLimit says in words why there is no larger size.
func (z *Sized) atLimit(base int) string {
	by := map[string]string{
		boundTag: "a tag on it", boundRule: "the rule", boundDefault: "the default",
		boundHost: "the size of its host", boundCluster: "the largest host of its cluster",
	}[z.BoundBy]
	for _, bad := range z.Bad {
		if z.BoundBy == boundTag && (bad.Category == CategoryMaxCPUs || bad.Category == CategoryMaxMemory) {
			return fmt.Sprintf("it has %s, and the tag %q of %s that bounds it cannot be read: %s", z.amount(z.Current), bad.Tag, bad.Category, bad.Reason)
		}
	}
	if z.Pending > z.Current {
		return fmt.Sprintf("it has %s, %s wait for its next power-off, and %s allows %s", z.amount(z.Current), z.amount(base), by, z.amount(z.Bound))
	}
	return fmt.Sprintf("it has %s, and %s allows %s", z.amount(z.Current), by, z.amount(z.Bound))
}

// whyNotHot says in words why the VM does not take the next size while it is on; "" if it does.
func (z *Sized) whyNotHot(vm VM) string {
	switch {
	case vm.PowerState == vsphere.PoweredOff:
		return "it is off"
	case vm.PowerState == vsphere.Suspended:
		return "it is suspended"
	case vm.PowerState != vsphere.PoweredOn:
		return fmt.Sprintf("its power state is %q", vm.PowerState)
	case z.Resource == CPU && !vm.CPUHotAdd:
		return "CPU hot add is not enabled"
	case z.Resource == CPU:
		return ""
	case !vm.MemoryHotAdd:
		return "memory hot add is not enabled"
	case vm.HotMemoryLimitMB > 0 && z.Next > vm.HotMemoryLimitMB:
		return fmt.Sprintf("it takes no more than %d MB while it is on", vm.HotMemoryLimitMB)
	case vm.HotMemoryStepMB > 0 && (z.Next-z.Current)%vm.HotMemoryStepMB != 0:
		return fmt.Sprintf("it takes memory in steps of %d MB while it is on", vm.HotMemoryStepMB)
	case vm.Linux && z.Current < linuxHotMB && z.Next > linuxHotMB:
		return fmt.Sprintf("a Linux guest with less than %d MB cannot grow beyond them while it is on", linuxHotMB)
	}
	return ""
}

// amount is a size in words.
func (z *Sized) amount(n int) string {
	switch {
	case z.Resource == Memory:
		return fmt.Sprintf("%d MB", n)
	case n == 1:
		return "1 CPU"
	}
	return fmt.Sprintf("%d CPUs", n)
}
