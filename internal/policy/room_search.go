package policy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// footprint is what a host gives and a VM takes: used CPU and memory, reserved CPU and memory; MHz and MB.
type footprint [4]int64

func (a footprint) plus(b footprint) footprint {
	for r := range a {
		a[r] += b[r]
	}
	return a
}

func (a footprint) minus(b footprint) footprint {
	for r := range a {
		a[r] -= b[r]
	}
	return a
}

// beyond returns how much of a the other leaves, at least nothing.
func (a footprint) beyond(b footprint) footprint {
	for r := range a {
		a[r] = max(0, a[r]-b[r])
	}
	return a
}

// of is the sum of its amounts, each in parts of the capacity.
func (a footprint) of(capacity footprint) (sum float64) {
	for r := range a {
		sum += float64(a[r]) / float64(max(1, capacity[r]))
	}
	return sum
}

// words names what is not zero.
func (a footprint) words() string {
	var parts []string
	for r, what := range []string{"GHz of CPU", "GiB of memory", "GHz of unreserved CPU", "GiB of unreserved memory"} {
		if a[r] > 0 {
			unit := 1000.0
			if r%2 == 1 {
				unit = 1024
			}
			parts = append(parts, fmt.Sprintf("%.1f %s", float64(a[r])/unit, what))
		}
	}
	if len(parts) == 1 {
		return parts[0] + " is"
	}
	return strings.Join(parts, " and ") + " are"
}

// freesOf is what the power-off of a VM gives back.
func freesOf(vm *vsphere.VM) footprint {
	return footprint{max(0, vm.CPUMHz), max(0, vm.MemoryMB), max(0, vm.CPUReservedMHz), max(0, vm.MemoryReservedMB)}
}

// offer is what the room costs on one host.
type offer struct {
	host     *vsphere.Host
	capacity footprint
	missing  footprint // before anybody goes
	found    []roomCandidate
	why      string  // why it cannot have the room
	short    float64 // what is missing even so, in parts of the capacity
}

// cost is what offers are compared by.
func (o *offer) cost() roomCost { return costOf(o.found, o.missing, o.capacity) }

// compareOffers puts the cheapest first, then what only a limit keeps from it, then what comes closest, then the rest.
func compareOffers(a, b offer) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.short, b.short), a.cost().compare(b.cost()), compareRefs(a.host.Ref, b.host.Ref))
}

func (o *offer) rank() int {
	switch {
	case o.why == "":
		return 0
	case o.short > 0:
		return 2
	case o.missing != (footprint{}):
		return 1
	}
	return 3
}

func (o *offer) option() RoomOption {
	out := RoomOption{
		Host: o.host.Ref, Name: o.host.Name, Why: o.why,
		Missing: Resources{o.missing[0], o.missing[1]}, MissingReserved: Resources{o.missing[2], o.missing[3]},
	}
	if o.why != "" || len(o.found) == 0 {
		return out
	}
	all := footprint{}
	for _, c := range o.found {
		out.Targets = append(out.Targets, c.vm.Ref)
		all = all.plus(c.frees)
	}
	beyond, cost := all.beyond(o.missing), o.cost()
	out.Priority, out.OfPriority, out.Beyond = cost.priority, cost.ofPriority, Resources{beyond[0], beyond[1]}
	return out
}

// roomCandidate is a candidate, its place in the order of all, and what it frees.
type roomCandidate struct {
	*candidate
	index int
	frees footprint
}

// roomCost is what sets of VMs are compared by, the most important first.
type roomCost struct {
	priority   int     // the highest
	ofPriority int     // VMs that have it
	vms        int     // in all
	beyond     float64 // freed beyond the need, in parts of the host's capacity
}

func costOf(set []roomCandidate, need, capacity footprint) roomCost {
	c := roomCost{priority: math.MinInt, vms: len(set)}
	all := footprint{}
	for _, v := range set {
		all = all.plus(v.frees)
		switch {
		case v.priority > c.priority:
			c.priority, c.ofPriority = v.priority, 1
		case v.priority == c.priority:
			c.ofPriority++
		}
	}
	c.beyond = all.beyond(need).of(capacity)
	return c
}

func (c roomCost) compare(o roomCost) int {
	return cmp.Or(cmp.Compare(c.priority, o.priority), cmp.Compare(c.ofPriority, o.ofPriority), cmp.Compare(c.vms, o.vms), cmp.Compare(c.beyond, o.beyond))
}

// roomSearch looks for the cheapest set of VMs on one host that frees what is needed.
type roomSearch struct {
	all      []roomCandidate // in order: lower priorities first
	need     footprint
	capacity footprint
	most     int   // VMs that may go
	left     []int // how many more of each limited group may go

	top     int         // the first of the highest priority that is tried
	largest []footprint // at i: the most that one of all[i:] frees, of each resource
	steps   int
	set     []roomCandidate
	found   []roomCandidate
	beyond  float64
}

// How far the search goes.
const (
	exactRoom = 16    // with so few candidates the set is the cheapest
	roomSteps = 5_000 // with more, the search ends after so many steps, and takes what a greedy one finds
)

// best returns the cheapest set, in order; nil: the limits allow none. It goes up in priority until the VMs up to it can
// free enough, then takes as few of the highest as possible, then as few in all.
func (s *roomSearch) best() []roomCandidate {
	lower := footprint{}
	for from := 0; from < len(s.all); {
		to := from + 1
		for to < len(s.all) && s.all[to].priority == s.all[from].priority {
			to++
		}
		for _, c := range s.all[from:to] {
			lower = lower.plus(c.frees)
		}
		if s.need.beyond(lower) == (footprint{}) {
			if set := s.upTo(from, to); set != nil {
				return set
			}
		}
		from = to
	}
	return nil
}

// upTo returns the cheapest set of all[:to] with at least one of all[top:to].
func (s *roomSearch) upTo(top, to int) []roomCandidate {
	part := roomSearch{all: s.all[:to], need: s.need, capacity: s.capacity, most: s.most, left: slices.Clone(s.left), top: top}
	part.bound()
	for ofTop := 1; ofTop <= min(to-top, s.most); ofTop++ {
		for lower := 0; lower <= min(top, s.most-ofTop); lower++ {
			if part.try(0, lower, ofTop, part.need); part.found != nil {
				return part.found
			}
			if part.spent() {
				return part.greedy()
			}
		}
	}
	return nil
}

// bound computes what the rest of the candidates may free at most.
func (s *roomSearch) bound() {
	s.largest = make([]footprint, len(s.all)+1)
	for i := len(s.all) - 1; i >= 0; i-- {
		for r := range s.need {
			s.largest[i][r] = max(s.largest[i+1][r], s.all[i].frees[r])
		}
	}
}

func (s *roomSearch) spent() bool { return len(s.all) > exactRoom && s.steps > roomSteps }

// try completes the set with so many of the lower priorities and so many of the top one, from all[i:]; it keeps the one
// that frees least beyond the need, of equal ones the first in order.
func (s *roomSearch) try(i, lower, ofTop int, missing footprint) {
	s.steps++
	if lower+ofTop == 0 {
		if missing.beyond(footprint{}) != (footprint{}) {
			return
		}
		if beyond := (footprint{}).beyond(missing).of(s.capacity); s.found == nil || beyond < s.beyond {
			s.found, s.beyond = slices.Clone(s.set), beyond
		}
		return
	}
	if lower == 0 {
		i = max(i, s.top)
	}
	for ; i < len(s.all) && !s.spent(); i++ {
		if !s.canFree(i, lower+ofTop, missing) || lower > 0 && s.top-i < lower {
			return
		}
		c := s.all[i]
		if !s.may(c) {
			continue
		}
		s.hold(c, 1)
		s.set = append(s.set, c)
		if i < s.top {
			s.try(i+1, lower-1, ofTop, missing.minus(c.frees))
		} else {
			s.try(i+1, lower, ofTop-1, missing.minus(c.frees))
		}
		s.set = s.set[:len(s.set)-1]
		s.hold(c, -1)
	}
}

// canFree reports whether so many of all[i:] may free what is missing.
func (s *roomSearch) canFree(i, n int, missing footprint) bool {
	for r := range missing {
		if missing[r] > s.largest[i][r]*int64(n) {
			return false
		}
	}
	return true
}

// may reports whether the groups still allow a VM to go.
func (s *roomSearch) may(c roomCandidate) bool {
	return !slices.ContainsFunc(c.groups, func(g int) bool { return s.left[g] == 0 })
}

func (s *roomSearch) hold(c roomCandidate, n int) {
	for _, g := range c.groups {
		s.left[g] -= n
	}
}

// greedy takes what frees most of what is missing, lower priorities first, and gives back what is not needed, higher ones
// first. nil: it did not come to a set within the limits.
func (s *roomSearch) greedy() []roomCandidate {
	var set []roomCandidate
	missing, taken := s.need, make([]bool, len(s.all))
	for missing != (footprint{}) && len(set) < s.most {
		best, most := -1, 0.0
		for i, c := range s.all {
			gain := missing.minus(missing.beyond(c.frees)).of(s.need)
			if taken[i] || gain == 0 || !s.may(c) || best >= 0 && (c.priority > s.all[best].priority || gain <= most) {
				continue
			}
			best, most = i, gain
		}
		if best < 0 {
			return nil
		}
		taken[best] = true
		s.hold(s.all[best], 1)
		set = append(set, s.all[best])
		missing = missing.beyond(s.all[best].frees)
	}
	if missing != (footprint{}) {
		return nil
	}
	slices.SortFunc(set, func(a, b roomCandidate) int { return cmp.Compare(a.index, b.index) })
	all := footprint{}
	for _, c := range set {
		all = all.plus(c.frees)
	}
	for i := len(set) - 1; i >= 0; i-- {
		if s.need.beyond(all.minus(set[i].frees)) == (footprint{}) {
			all = all.minus(set[i].frees)
			set = slices.Delete(set, i, i+1)
		}
	}
	return set
}
