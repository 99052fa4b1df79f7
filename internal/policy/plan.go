package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Demand is the input of a plan: what is requested, and what is known about earlier plans.
type Demand struct {
	Tag         string        `json:"tag"`
	Criticality string        `json:"criticality"`
	Scope       vsphere.Ref   `json:"scope,omitzero"` // zero: everything tagged
	Host        vsphere.Ref   `json:"host,omitzero"`  // the host in alarm, if the alarm is a host's
	Now         time.Time     `json:"now,omitzero"`   // zero: the time of the snapshot
	Reserved    []vsphere.Ref `json:"reserved,omitempty"`
	Self        []string      `json:"self,omitempty"`    // BIOS UUIDs of our own VMs
	Already     int           `json:"already,omitempty"` // targets this round has committed in an earlier plan
	// Preempted is how often VMs were preempted in the last 24 hours, by reference as Ref.String writes it.
	Preempted map[string]int `json:"preempted,omitempty"`
	// Evictions are those done or under way in this scope, as far back as the longest scope budget looks.
	Evictions []Eviction `json:"evictions,omitempty"`
	// Pools are those of the plan that is checked again; nil counts the candidates of the snapshot.
	Pools []int `json:"pools,omitempty"`
	// Credits are what was freed in the last minute, which vCenter's statistics do not show yet, or is being
	// freed, by this round too.
	Credits []Credit `json:"credits,omitempty"`
	// Rooms are what is to be free, each on one host, the most important first. If there are any, the policy's target
	// utilisation does not matter.
	Rooms []Room `json:"rooms,omitempty"`
	// HeldRooms are rooms that others have made and not used yet.
	HeldRooms []HeldRoom `json:"heldRooms,omitempty"`
	// Throttle says that the chosen VMs are throttled. They then free CPU down to their limit, and no memory. Nil: they are
	// turned off.
	Throttle *Throttle `json:"throttle,omitempty"`
	// Only are the VMs of the step before, of which the next step takes as many as are still needed. They are on; that they were
	// acted on once counts towards no limit again. Empty: any.
	Only []vsphere.Ref `json:"only,omitempty"`
	// Spares are VMs that a person spares for a time, with why in words.
	Spares []Spare `json:"spares,omitempty"`
	// MemoryOnly says that the alarm is about memory, where the policy has no target that tells what is short.
	MemoryOnly bool `json:"memoryOnly,omitempty"`
}

// Spare is a VM that a person spares for a time.
type Spare struct {
	VM  vsphere.Ref `json:"vm"`
	Why string      `json:"why,omitempty"`
}

// Eviction is a VM that was preempted, and when.
type Eviction struct {
	VM   vsphere.Ref `json:"vm"`
	Time time.Time   `json:"time"`
}

// Credit is what a VM freed, or is about to free, on a host.
type Credit struct {
	VM       vsphere.Ref `json:"vm,omitzero"`       // that was turned off; zero: it is still on, or these are several VMs
	StaysOn  bool        `json:"staysOn,omitempty"` // it was throttled: that it is on does not mean that it uses its share again
	At       time.Time   `json:"at,omitzero"`       // when it was turned off
	Host     vsphere.Ref `json:"host"`
	CPUMHz   int64       `json:"cpuMHz"`
	MemoryMB int64       `json:"memoryMB"`
}

// Target is a candidate that a plan has chosen.
type Target struct {
	Ref          vsphere.Ref `json:"ref"`
	Name         string      `json:"name"`
	InstanceUUID string      `json:"instanceUUID,omitempty"`
	ToolsRunning bool        `json:"toolsRunning"`
	CPUMHz       int64       `json:"cpuMHz"`
	MemoryMB     int64       `json:"memoryMB"`
	Host         vsphere.Ref `json:"host,omitzero"`
	Rank         int         `json:"rank,omitempty"` // from 1
	Priority     int         `json:"priority,omitempty"`
	Why          string      `json:"why,omitempty"` // why it is turned off at this rank, in words
	// LimitMHz is the CPU limit that it gets, if it is throttled. CPUMHz and MemoryMB are what that frees.
	LimitMHz int64 `json:"limitMHz,omitempty"`
}

// Spared is a candidate that stays, and why.
type Spared struct {
	Ref    vsphere.Ref `json:"ref"`
	Name   string      `json:"name,omitempty"`
	Reason Reason      `json:"reason"`
	Detail string      `json:"detail,omitempty"` // details about this candidate, in words; empty: the reason is enough
}

// Explanation says why it stays.
func (s Spared) Explanation() Explanation { return Explanation{Reason: s.Reason, Detail: s.Detail} }

// Plan is the targets in their order, and for every other candidate the reason why it stays on.
type Plan struct {
	Targets []Target `json:"targets"`
	Spared  []Spared `json:"spared"`
	// Usage is the usage of the contended scope, before and after. For a host's alarm: of the host and its cluster.
	Usage     []Usage   `json:"usage,omitempty"`
	Shortfall Resources `json:"shortfall,omitzero"` // what must be freed to reach the policy's target
	Covered   Resources `json:"covered,omitzero"`   // of it, what the targets free
	Partial   bool      `json:"partial,omitempty"`  // the shortfall is not covered
	// Next are the first of those that would go as well if more had to, in their order; at most mostNext.
	Next []Next `json:"next,omitempty"`
	// Pools are the numbers of VMs of which the budgets' percentages are taken, one for each budget; 0 if the
	// budget has no percentage. Nil if no budget has one.
	Pools []int `json:"pools,omitempty"`
	// Rooms say, for each demanded room in the same order, where it is, or why it is nowhere.
	Rooms []RoomPlan `json:"rooms,omitempty"`
}

// Next is a VM that would go as well if more had to, and what that would free.
type Next struct {
	Ref      vsphere.Ref `json:"ref"`
	Name     string      `json:"name"`
	CPUMHz   int64       `json:"cpuMHz"`
	MemoryMB int64       `json:"memoryMB"`
}

// mostNext is how many of them a plan names.
const mostNext = 5

// candidate is a VM that may be turned off, with the values that decide its order.
type candidate struct {
	vm        *vsphere.VM
	priority  int
	preempted int  // in the last 24 h
	frees     load // its live usage, or what a throttle frees of it
	groups    []int
	limit     int64 // the CPU limit that it gets; 0: it is turned off
}

// Choose computes the plan. The same inventory, in whatever order, gives the same plan.
//
// With a target utilisation, it chooses the fewest VMs that cover the shortfall; without one, up to maxVMs. Lower
// priorities come first: a VM is chosen only if those of lower priority are not enough. Among equally small sets, it
// prefers VMs that were preempted less often in the last 24 hours, that fit closest to what is missing, that are the
// youngest, and that have the smaller MoRef. Limits and budgets are applied last, so that a candidate that cannot be
// turned off never takes the place of one that can.
//
// If the demand is for rooms, the plan makes each on the host where that is cheapest: see RoomPlan. Shortfall, Covered and
// Partial are then zero.
func Choose(s vsphere.Snapshot, d Demand, p Policy) Plan {
	now := d.at(s)
	if len(d.Rooms) > 0 {
		p.Target = Goal{}
	}
	plan := Plan{Targets: []Target{}, Spared: make([]Spared, 0, len(s.VMs)+len(s.Others)+len(s.Elsewhere)), Usage: measured(&s, &d, p.Target)}
	limits := limitsOf(&s, &d, &p, now)
	plan.Pools = limits.pools
	need, coverable := d.needs(plan.Usage, p.Target)
	eligible := plan.sift(&s, &d, &p, &limits, now)
	most, full := limits.most(&p, &d)
	if len(d.Rooms) > 0 {
		c := clearing{s: &s, d: &d, limits: &limits, most: most, full: full}
		plan.makeRooms(&c, eligible)
		return plan
	}
	choice := selection{all: eligible, need: coverable, room: most, left: limits.left()}
	before := choice
	switch {
	case limits.blackout != "", p.Target.Set() && len(plan.Usage) == 0:
	case p.Target.Set():
		choice = choice.cover()
	default:
		choice.inOrder()
	}
	short := !choice.covered()
	if short && p.Target.IfShort == ShortNone {
		possible := choice.freed
		choice = before
		choice.possible = possible
	}
	plan.settle(&choice, need, now, p.Target)
	why := staying{limits: &limits, choice: &choice, goal: p.Target, measured: len(plan.Usage) > 0, full: full}
	for i := range eligible {
		if !choice.has(i) {
			reason, detail := why.of(&eligible[i])
			plan.spare(eligible[i].vm, reason, detail)
			plan.next(&eligible[i], reason)
		}
	}
	plan.sortSpared()
	return plan
}

// at returns the time that counts.
func (d *Demand) at(s vsphere.Snapshot) time.Time {
	if d.Now.IsZero() {
		return s.Time
	}
	return d.Now
}

// sift spares candidates that cannot or must not be turned off, and returns the others in order.
func (plan *Plan) sift(s *vsphere.Snapshot, d *Demand, p *Policy, l *limits, now time.Time) []candidate {
	for _, ref := range s.Others {
		reason := NotAVM
		if ref.Type == vsphere.TypeVM {
			reason = Gone
		}
		plan.Spared = append(plan.Spared, Spared{Ref: ref, Reason: reason})
	}
	for _, ref := range s.Elsewhere {
		plan.Spared = append(plan.Spared, Spared{Ref: ref, Reason: OutOfScope})
	}
	reserved, only := setOf(d.Reserved), setOf(d.Only)
	eligible := make([]candidate, 0, len(s.VMs))
	for i := range s.VMs {
		vm := &s.VMs[i]
		c := candidate{vm: vm, frees: load{max(0, vm.CPUMHz), max(0, vm.MemoryMB)}}
		if len(d.Preempted) > 0 {
			c.preempted = d.Preempted[vm.Ref.String()]
		}
		reason, detail := exclusion(vm, s, d, p), ""
		if reason == "" {
			reason = taken(vm, reserved, only)
		}
		if reason == "" {
			reason, detail = d.spared(vm.Ref)
		}
		if reason == "" {
			reason, detail = protection(vm, c.preempted, now, p)
		}
		if reason == "" && d.Throttle != nil {
			c.limit = d.Throttle.limit(vm)
			c.frees, reason, detail = d.unthrottled(vm)
		}
		if reason != "" {
			plan.spare(vm, reason, detail)
			continue
		}
		c.priority, _ = priority(vm, p)
		c.groups = l.groupsOf(vm)
		eligible = append(eligible, c)
	}
	slices.SortFunc(eligible, order)
	return eligible
}

// taken returns why a VM is no candidate of this plan whatever its state, or "".
func taken(vm *vsphere.VM, reserved, only map[vsphere.Ref]bool) Reason {
	switch {
	case reserved[vm.Ref]:
		return BeingEvicted
	case len(only) > 0 && !only[vm.Ref]:
		return NotOfThisStep
	}
	return ""
}

// spared returns why a person spares the VM, or "".
func (d *Demand) spared(vm vsphere.Ref) (Reason, string) {
	for i := range d.Spares {
		if s := &d.Spares[i]; s.VM == vm {
			return SparedForNow, s.Why
		}
	}
	return "", ""
}

func (plan *Plan) spare(vm *vsphere.VM, reason Reason, detail string) {
	plan.Spared = append(plan.Spared, Spared{Ref: vm.Ref, Name: vm.Name, Reason: reason, Detail: detail})
}

// next names a candidate that goes next, unless something forbids that it goes.
func (plan *Plan) next(c *candidate, reason Reason) {
	if len(plan.Next) < mostNext && (reason == NotNeeded || reason == OverLimit) {
		plan.Next = append(plan.Next, Next{Ref: c.vm.Ref, Name: c.vm.Name, CPUMHz: c.frees[0], MemoryMB: c.frees[1]})
	}
}

func (plan *Plan) sortSpared() {
	slices.SortFunc(plan.Spared, func(a, b Spared) int { return compareRefs(a.Ref, b.Ref) })
}

// settle records the targets, what they free, and what of the need that leaves.
func (plan *Plan) settle(choice *selection, need load, now time.Time, goal Goal) {
	for rank, i := range choice.ranked() {
		c := &choice.all[i]
		plan.target(c, c.why(rank+1, choice.need, now))
	}
	if goal.Set() {
		missing := need.beyond(choice.freed)
		plan.Shortfall = need.resources()
		plan.Covered = need.minus(missing).resources()
		plan.Partial = missing != load{}
	}
}

// target adds a target at the next rank, and takes what it frees off the usage.
func (plan *Plan) target(c *candidate, why string) {
	after(plan.Usage, c)
	plan.Targets = append(plan.Targets, Target{
		Ref: c.vm.Ref, Name: c.vm.Name, InstanceUUID: c.vm.InstanceUUID, ToolsRunning: c.vm.ToolsRunning,
		CPUMHz: c.vm.CPUMHz, MemoryMB: c.vm.MemoryMB, Host: c.vm.Host,
		Rank: len(plan.Targets) + 1, Priority: c.priority, Why: why,
	})
	if c.limit > 0 {
		t := &plan.Targets[len(plan.Targets)-1]
		t.CPUMHz, t.MemoryMB, t.LimitMHz = c.frees[0], c.frees[1], c.limit
	}
}

// order puts lower priorities first, then those preempted less often, the youngest, the smaller MoRef.
func order(a, b candidate) int {
	if a.priority != b.priority {
		return cmp.Compare(a.priority, b.priority)
	}
	if a.preempted != b.preempted {
		return cmp.Compare(a.preempted, b.preempted)
	}
	if c := b.vm.BootTime.Compare(a.vm.BootTime); c != 0 {
		return c
	}
	return compareRefs(a.vm.Ref, b.vm.Ref)
}

// compareRefs orders references by type, then by value, shorter values first so that vm-9 precedes vm-10.
func compareRefs(a, b vsphere.Ref) int {
	if a.Type != b.Type {
		return cmp.Compare(a.Type, b.Type)
	}
	if len(a.Value) != len(b.Value) {
		return cmp.Compare(len(a.Value), len(b.Value))
	}
	return cmp.Compare(a.Value, b.Value)
}
