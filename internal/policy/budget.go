package policy

import (
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// limits are what the budgets still allow for a plan.
type limits struct {
	blackout string         // the window in which no VM is turned off, in words; empty: none
	room     int            // VMs that the scope budgets still allow; -1: any number
	detail   string         // of the most restrictive scope budget
	groups   []groupLimit   // of the groups that have a budget
	index    map[string]int // into groups, by name
	pools    []int          // see Plan.Pools
}

// groupLimit is how many of a group's VMs may still be turned off.
type groupLimit struct {
	left   int
	detail string
}

// limitsOf computes what the budgets still allow. Of several budgets the most restrictive one applies.
func limitsOf(s *vsphere.Snapshot, d *Demand, p *Policy, now time.Time) limits {
	l := limits{room: -1, index: map[string]int{}}
	var groups []group
	for i, b := range p.Budgets {
		switch {
		case b.Group != "":
			if groups == nil {
				groups = groupsIn(s, setOf(d.Reserved))
			}
			l.group(b, groups)
		case b.Scope:
			l.scope(i, s, d, p, now)
		case b.Window != "" && l.blackout == "":
			l.blackout = b.blackout(now)
		}
	}
	return l
}

// group is an application group: how many VMs it has, and how many are on and not already being turned off.
type group struct {
	name      string
	total, up int
}

// groupsIn counts the groups of the candidates.
func groupsIn(s *vsphere.Snapshot, reserved map[vsphere.Ref]bool) (groups []group) {
	index := map[string]int{}
	for i := range s.VMs {
		vm := &s.VMs[i]
		for _, name := range vm.Tags[CategoryGroup] {
			at, ok := index[name]
			if !ok {
				at, index[name] = len(groups), len(groups)
				groups = append(groups, group{name: name})
			}
			if g := &groups[at]; !vm.Template {
				g.total++
				if vm.PowerState == vsphere.PoweredOn && !reserved[vm.Ref] {
					g.up++
				}
			}
		}
	}
	for i := range groups { // if all members are known, they count
		if known, ok := s.Groups[groups[i].name]; ok {
			groups[i].total, groups[i].up = max(known.Total, len(known.Up)), 0
			for _, ref := range known.Up {
				if !reserved[ref] {
					groups[i].up++
				}
			}
		}
	}
	return groups
}

// group lowers the limit of each group that the budget names.
func (l *limits) group(b Budget, groups []group) {
	for _, g := range groups {
		if _, ok := matching([]string{b.Group}, g.name); !ok {
			continue
		}
		least := b.MinAvailable.atLeast(g.total)
		limit := groupLimit{
			left:   max(0, g.up-least),
			detail: fmt.Sprintf("group %s: %d of %d must stay up, %d are up", g.name, least, g.total, g.up),
		}
		if at, ok := l.index[g.name]; !ok {
			l.index[g.name] = len(l.groups)
			l.groups = append(l.groups, limit)
		} else if limit.left < l.groups[at].left {
			l.groups[at] = limit
		}
	}
}

// scope lowers the room to what the budget allows. A percentage is taken of the candidates that are on or were turned
// off within the budget's time, so that it does not shrink while they are turned off.
func (l *limits) scope(at int, s *vsphere.Snapshot, d *Demand, p *Policy, now time.Time) {
	b := p.Budgets[at]
	pool, went := map[vsphere.Ref]bool{}, 0
	for _, e := range d.Evictions {
		if now.Sub(e.Time) < b.per().D() {
			pool[e.VM] = true
			went++
		}
	}
	total, of := 0, ""
	if b.Max.Percent {
		if at < len(d.Pools) {
			total = d.Pools[at]
		} else {
			for i := range s.VMs {
				vm := &s.VMs[i]
				if vm.Tagged && !vm.Template && vm.PowerState == vsphere.PoweredOn && inScope(vm, d.Scope) && !infrastructure(vm, s, d, p) {
					pool[vm.Ref] = true
				}
			}
			total = len(pool)
		}
		if l.pools == nil {
			l.pools = make([]int, len(p.Budgets))
		}
		l.pools[at] = total
		of = fmt.Sprintf(" of %d candidates", total)
	}
	if left := max(0, b.Max.atMost(total)-went); l.room < 0 || left < l.room {
		l.room = left
		l.detail = fmt.Sprintf("at most %s%s per %s: %d went", b.Max, of, brief(b.per().D()), went)
	}
}

// blackout returns the window in words if it is open at now. A window that cannot be read is always open, which
// protects.
func (b Budget) blackout(now time.Time) string {
	c, err := parseStarts(b.Window)
	if err != nil {
		return fmt.Sprintf("the window %q cannot be read", b.Window)
	}
	zone, err := b.location()
	if err != nil {
		return fmt.Sprintf("the time zone %q of the window %q is not known here", b.TimeZone, b.Window)
	}
	start, ok := c.started(now, b.Duration.D(), zone)
	if !ok {
		return ""
	}
	end := start.Add(b.Duration.D()).In(zone)
	return fmt.Sprintf("window %s for %s, until %s", b.Window, brief(b.Duration.D()), end.Format("2006-01-02 15:04 MST"))
}

func setOf(refs []vsphere.Ref) map[vsphere.Ref]bool {
	set := make(map[vsphere.Ref]bool, len(refs))
	for _, ref := range refs {
		set[ref] = true
	}
	return set
}

// groupsOf returns which of the limited groups the VM is in.
func (l *limits) groupsOf(vm *vsphere.VM) (groups []int) {
	if len(l.groups) == 0 {
		return nil
	}
	for _, name := range vm.Tags[CategoryGroup] {
		if at, ok := l.index[name]; ok {
			groups = append(groups, at)
		}
	}
	return groups
}

// most returns how many VMs may be turned off, and why a further one may not.
func (l *limits) most(p *Policy, d *Demand) (int, Spared) {
	most := max(0, p.MaxVMs-d.Already)
	if l.room >= 0 && l.room < most {
		return l.room, Spared{Reason: ScopeBudget, Detail: l.detail}
	}
	return most, Spared{Reason: OverLimit}
}

// left returns how many more VMs of each limited group may be turned off.
func (l *limits) left() (left []int) {
	for _, g := range l.groups {
		left = append(left, g.left)
	}
	return left
}

// use subtracts the VM from what the budgets allow, or returns the budget that does not allow it.
func (l *limits) use(vm *vsphere.VM) (Reason, string) {
	groups := l.groupsOf(vm)
	if l.blackout != "" {
		return Blackout, l.blackout
	}
	for _, g := range groups {
		if l.groups[g].left == 0 {
			return GroupBudget, l.groups[g].detail
		}
	}
	if l.room == 0 {
		return ScopeBudget, l.detail
	}
	for _, g := range groups {
		l.groups[g].left--
	}
	if l.room > 0 {
		l.room--
	}
	return "", ""
}
