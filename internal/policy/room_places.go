package policy

import (
	"cmp"
	"math"
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// kind is what a host is for the room that is asked for. Kinds are in the order of the options.
type kind int

const (
	suitable kind = iota // it has the room, or can have it
	limited              // it could have it if maxVMs and the budgets allowed more
	short                // it lacks something even when all that may be powered off are off
	unfit                // it does not count: it is away, or can never take the VM
)

// place is a host, and what it takes to have the room there.
type place struct {
	host    *vsphere.Host
	on      []*candidate // that may be powered off there, in order
	missing space        // before anybody goes
	own     space        // the same, but for what HA's admission control asks for
	pools   *[2]poolCount
	level   *slotLevel // the size of HA's slots that is reckoned with; nil: slots stand in no room's way
	policy  string     // of HA's admission control where it asks for more than the host lacks, in words
	kind    kind
	targets []*candidate // in order; if limits prevent it, those that would be the cheapest without them
	price   price        // of the targets
	lacks   space        // even when all are off
	reason  Reason       // why it cannot have the room
	why     string       // the same, in words
}

// name returns what people call the host.
func (p *place) name() string { return cmp.Or(p.host.Name, p.host.Ref.Value) }

// places returns the hosts of the scope, in the order of the options.
func (c *clearing) places(lower []*candidate) (places []place) {
	on := make(map[vsphere.Ref][]*candidate, len(c.s.Hosts))
	for _, vm := range lower {
		on[vm.vm.Host] = append(on[vm.vm.Host], vm)
	}
	credits := freed(c.s, c.d)
	c.counts = c.countSlots()
	for i := range c.s.Hosts {
		h := &c.s.Hosts[i]
		if !holds(c.d.Scope, h) {
			continue
		}
		p := place{host: h, on: on[h.Ref], why: cmp.Or(c.room.whyUnfit(h), c.whyKept(h), c.whyApart(h))}
		if p.why != "" {
			p.kind, p.reason = unfit, NoHost
		} else {
			p.measure(c.room, creditOn(credits, h.Ref), c.taken[h.Ref])
			p.own = p.missing
			p.pools = &c.pools
			p.missing[poolCPU], p.missing[poolMemory] = c.pools[0].missing, c.pools[1].missing
			c.admit(&p)
			c.clear(&p)
		}
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(a.compare(&b), compareRefs(a.host.Ref, b.host.Ref)) })
	return places
}

// compare orders places, the cheapest first, then those that cannot have the room, the nearest miss first.
func (p *place) compare(b *place) int {
	return cmp.Or(cmp.Compare(p.kind, b.kind), p.price.compare(b.price), cmp.Compare(p.lacks[slots], b.lacks[slots]),
		cmp.Compare(p.lacks[poolMemory], b.lacks[poolMemory]), cmp.Compare(p.lacks[poolCPU], b.lacks[poolCPU]),
		cmp.Compare(p.parts(p.lacks), b.parts(b.lacks)))
}

// measure sets what is missing on the host, beside what is planned there already. Credits lower its usage as they do in a plan that reaches a utilisation.
func (p *place) measure(room *Room, credit load, planned space) {
	var u Usage
	u.CPU.count(p.host.CPUMHz, p.host.CPUUsedMHz, credit[0])
	u.Memory.count(p.host.MemoryMB, p.host.MemoryUsedMB, credit[1])
	taken := space{u.CPU.After, u.Memory.After, p.host.CPUReservedMHz, p.host.MemoryReservedMB}.beyond(space{}).plus(planned).beyond(space{})
	p.missing = room.on(p.host).plus(taken).beyond(capacity(p.host))
}

// indices returns where the targets are among the candidates.
func (p *place) indices() (set []int) {
	for i, c := range p.on {
		if slices.Contains(p.targets, c) {
			set = append(set, i)
		}
	}
	return set
}

// parts adds up an amount in parts of the host's capacity. Of hosts of one size, equal amounts have equal parts.
func (p *place) parts(l space) float64 {
	return float64(l[0]+l[2])/float64(max(1, p.host.CPUMHz)) + float64(l[1]+l[3])/float64(max(1, p.host.MemoryMB))
}

// clear finds the cheapest targets on the host, whatever size of slots they lead to.
func (c *clearing) clear(p *place) {
	levels := c.levels(p)
	if len(levels) == 0 {
		c.clearAt(p)
		return
	}
	var best place
	for i := range levels {
		at := *p
		at.level, at.missing[slots] = &levels[i], levels[i].missing
		c.clearAt(&at)
		if i == 0 || cmp.Or(at.compare(&best), slices.Compare(at.indices(), best.indices())) < 0 {
			best = at
		}
	}
	*p = best
}

// clearAt finds the cheapest targets on the host at one size of slots.
func (c *clearing) clearAt(p *place) {
	if p.missing == (space{}) && p.level.musts() == 0 {
		c.further(p, nil)
		return
	}
	all := p.all()
	if p.lacks = p.missing.beyond(all); p.lacks != (space{}) {
		p.kind, p.reason, p.why = short, CannotCover, whyShort(len(p.on), p.lacks)+p.note(all)
		return
	}
	set := []int(nil)
	if c.limits.blackout == "" {
		set = newSweep(p, c.most, c.limits.left()).cheapest()
	}
	if set == nil {
		p.kind, set = limited, newSweep(p, math.MaxInt, nil).cheapest()
	}
	if p.kind == suitable && c.room.Further > 0 {
		c.further(p, set)
		return
	}
	p.take(set)
}

// further takes the set, and as many more VMs as vCenter's refusals ask for: the first in the order of candidates. Where
// none more may go, the host cannot have the room.
func (c *clearing) further(p *place, set []int) {
	left, more := c.limits.left(), 0
	for _, i := range set {
		for _, g := range p.on[i].groups {
			left[g]--
		}
	}
	for i, vm := range p.on {
		full := more == c.room.Further || len(set) >= c.most || c.limits.blackout != ""
		if full || slices.Contains(set, i) || slices.ContainsFunc(vm.groups, func(g int) bool { return left[g] <= 0 }) {
			continue
		}
		for _, g := range vm.groups {
			left[g]--
		}
		set = append(set, i)
		more++
	}
	if c.room.Further > 0 && more == 0 {
		p.kind, p.reason, p.why = short, CannotCover, "by vCenter's figures the room is there, but vCenter refuses it, and no further VM there may go"
		return
	}
	slices.Sort(set)
	p.take(set)
}

// all is what all candidates there give back together.
func (p *place) all() (all space) {
	for _, vm := range p.on {
		all = all.plus(p.gives(vm))
	}
	return all
}

// gives returns what the power-off of a candidate there gives back.
func (p *place) gives(c *candidate) space {
	out := c.gives()
	if p.pools != nil {
		out[poolCPU], out[poolMemory] = p.pools[0].given(c, out[2]), p.pools[1].given(c, out[3])
	}
	if p.level != nil {
		out[slots] = p.level.takes(c)
	}
	return out
}

// take records the targets and their price.
func (p *place) take(set []int) {
	var freed space
	for _, i := range set {
		t := p.on[i]
		p.targets = append(p.targets, t)
		freed = freed.plus(t.gives())
		if p.price.ofPriority == 0 || t.priority > p.price.priority {
			p.price.priority, p.price.ofPriority = t.priority, 0
		}
		if t.priority == p.price.priority {
			p.price.ofPriority++
		}
	}
	p.price.all, p.price.beyond = len(set), p.parts(freed.beyond(p.missing))
}
