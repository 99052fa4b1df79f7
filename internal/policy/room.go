package policy

import (
	"cmp"
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Room is room that is needed at once, in one piece: on one host.
type Room struct {
	For      string      `json:"for,omitempty"` // name of the VM that it is for; empty: only sizes were given
	VM       vsphere.Ref `json:"vm,omitzero"`   // that VM, which is never powered off for itself
	Priority int         `json:"priority"`      // of the one who asks: only VMs of a lower priority are powered off
	// CPUs and MemoryMB are what it will use. All of it must be free beside what the host's VMs use. CPUs count in full:
	// each as one core of the host.
	CPUs     int   `json:"cpus"`
	MemoryMB int64 `json:"memoryMB"`
	// CPUReservedMHz and MemoryReservedMB are what vCenter's admission control asks for. They must fit into what no
	// running VM has reserved.
	CPUReservedMHz   int64 `json:"cpuReservedMHz,omitempty"`
	MemoryReservedMB int64 `json:"memoryReservedMB,omitempty"`
	// CPUPool and MemoryPool are what the VM's resource pools let it reserve; nil: no more and no less than the hosts do.
	CPUPool    *RoomPool `json:"cpuPool,omitempty"`
	MemoryPool *RoomPool `json:"memoryPool,omitempty"`
	// CannotTake says in words, by host as Ref.String writes it, why a host cannot take the VM: its networks, its
	// datastores, a rule of DRS.
	CannotTake map[string]string `json:"cannotTake,omitempty"`
	// On is the one host that counts, if room was begun there; zero: any.
	On vsphere.Ref `json:"on,omitzero"`
	// Apart is the same for rooms, one after the other, of which each must be on another host: all of them, or none.
	Apart string `json:"apart,omitempty"`
	// Further is how many VMs are to go beyond what the figures ask for, because vCenter has refused the power-on.
	Further int `json:"further,omitempty"`
	// Refused says in words why no room is planned; empty: it is.
	Refused string `json:"refused,omitempty"`
}

// RoomPool is what is left of one resource in the pool that bounds what the VM may reserve: its own, or one above it from
// which its own takes what it lacks.
type RoomPool struct {
	Pool       vsphere.Ref   `json:"pool"`
	Name       string        `json:"name,omitempty"`
	Unreserved int64         `json:"unreserved"`    // for VMs, in MHz or MB
	VMs        []vsphere.Ref `json:"vms,omitempty"` // in it or in a pool below: what they reserve comes back to it
}

// HeldRoom is room that was made on a host and is not used yet. It counts as taken.
type HeldRoom struct {
	Host             vsphere.Ref `json:"host"`
	CPUMHz           int64       `json:"cpuMHz,omitempty"`
	MemoryMB         int64       `json:"memoryMB,omitempty"`
	CPUReservedMHz   int64       `json:"cpuReservedMHz,omitempty"`
	MemoryReservedMB int64       `json:"memoryReservedMB,omitempty"`
}

func (h *HeldRoom) space() space {
	return space{h.CPUMHz, h.MemoryMB, h.CPUReservedMHz, h.MemoryReservedMB}.beyond(space{})
}

// RoomPlan says on which host the room is, and how it compares with the other hosts.
//
// On each host, the plan looks for the VMs whose highest priority is lowest, of these for the fewest of that priority,
// then the fewest in all, then those that free least beyond the need, then the first in the order of candidates. What
// is freed beyond the need, in use or reserved, counts in parts of the host's capacity. Hosts are compared in the same
// way: one that needs no power-off is the cheapest. Of equal hosts the one with the smaller MoRef is chosen.
type RoomPlan struct {
	For      string      `json:"for,omitempty"` // whom it is for, in words
	Host     vsphere.Ref `json:"host,omitzero"` // where the room is or will be; zero: nowhere
	HostName string      `json:"hostName,omitempty"`
	Enough   bool        `json:"enough"`            // the host has the room already, or once the targets are off
	Refusal  string      `json:"refusal,omitempty"` // why no VM is powered off although room is missing, in words
	// Targets are whom to power off for it, and Earlier those of earlier plans of the same round; Room is what it takes on the host, once it is there.
	Targets []vsphere.Ref `json:"targets,omitempty"`
	Earlier []vsphere.Ref `json:"earlier,omitempty"`
	Room    HeldRoom      `json:"room,omitzero"`
	// Hosts are the hosts of the scope: the cheapest first, then those that cannot have the room, the nearest miss
	// first. Only the first 20 are listed.
	Hosts      []RoomOption `json:"hosts,omitempty"`
	OtherHosts int          `json:"otherHosts,omitempty"` // how many hosts of the scope the list leaves out
}

// RoomOption is what it takes to have the room on one host.
type RoomOption struct {
	Host            vsphere.Ref   `json:"host"`
	Name            string        `json:"name,omitempty"`
	Missing         Resources     `json:"missing,omitzero"`         // of what will be used, before anybody goes, in MHz and MB
	MissingReserved Resources     `json:"missingReserved,omitzero"` // of what admission asks for, before anybody goes, in MHz and MB
	MissingSlots    int64         `json:"missingSlots,omitempty"`   // of HA's admission control by slots, before anybody goes
	Targets         []vsphere.Ref `json:"targets,omitempty"`        // whom to power off, in the order of candidates
	Priority        int           `json:"priority,omitempty"`       // the highest among the targets
	OfPriority      int           `json:"ofPriority,omitempty"`     // how many targets have it
	Beyond          Resources     `json:"beyond,omitzero"`          // usage that the targets free beyond what is missing, in MHz and MB
	Why             string        `json:"why,omitempty"`            // why it cannot have the room, in words; empty: it can
}

// mostOptions bounds RoomPlan.Hosts.
const mostOptions = 20

// space is an amount of what a host gives: CPU and memory in use, CPU and memory reserved, in MHz and MB; and of what
// stands above it: slots of HA's admission control, and CPU and memory that the VM's resource pools let it reserve.
type space [7]int64

// Where a space counts slots, and what pools give. What is before is measured against the host's capacity.
const (
	slots      = 4
	poolCPU    = 5
	poolMemory = 6
)

func (a space) plus(b space) space {
	for r := range a {
		a[r] += b[r]
	}
	return a
}

func (a space) minus(b space) space {
	for r := range a {
		a[r] -= b[r]
	}
	return a
}

// atLeast returns the larger of each amount.
func (a space) atLeast(b space) space {
	for r := range a {
		a[r] = max(a[r], b[r])
	}
	return a
}

// beyond returns how much of a the other leaves, at least nothing.
func (a space) beyond(b space) space {
	for r := range a {
		a[r] = max(0, a[r]-b[r])
	}
	return a
}

func (a space) used() Resources     { return Resources{CPUMHz: a[0], MemoryMB: a[1]} }
func (a space) reserved() Resources { return Resources{CPUMHz: a[2], MemoryMB: a[3]} }

// on returns what is asked of a host.
func (r *Room) on(h *vsphere.Host) space {
	return space{int64(r.CPUs) * h.CoreMHz, r.MemoryMB, r.CPUReservedMHz, r.MemoryReservedMB}.beyond(space{})
}

// capacity returns what the host can give. What can be used can be reserved.
func capacity(h *vsphere.Host) space { return space{h.CPUMHz, h.MemoryMB, h.CPUMHz, h.MemoryMB} }

// gives returns what the power-off of the candidate gives back.
func (c *candidate) gives() space {
	return space{c.frees[0], c.frees[1], c.vm.CPUReservedMHz, c.vm.MemoryReservedMB}.beyond(space{})
}

// price is what room on a host costs. The zero price is that of a host that has it already.
type price struct {
	priority, ofPriority, all int
	beyond                    float64 // freed beyond the need, in parts of the host's capacity
}

func (a price) compare(b price) int {
	return cmp.Or(cmp.Compare(min(a.all, 1), min(b.all, 1)), cmp.Compare(a.priority, b.priority),
		cmp.Compare(a.ofPriority, b.ofPriority), cmp.Compare(a.all, b.all), cmp.Compare(a.beyond, b.beyond))
}

// clearing is the state of one choice of rooms.
type clearing struct {
	s      *vsphere.Snapshot
	d      *Demand
	limits *limits
	most   int                   // VMs that may be powered off
	full   Spared                // why a further one may not
	taken  map[vsphere.Ref]space // by rooms that are held or were planned, less what goes for these
	gone   map[*candidate]bool   // targets of the rooms before
	room   *Room                 // the one that is being planned
	made   []HeldRoom            // rooms that are held or were planned
	counts []*slotCount          // of the clusters with slots, for this room
	drawn  []drawnFrom           // what earlier rooms of this plan take from resource pools
	pools  [2]poolCount          // of CPU and memory, for this room
	apart  map[vsphere.Ref]bool  // hosts that this room must not be on
}

// makeRooms chooses a host for each room in their order, and the targets on it. What an earlier room takes is taken for
// the later ones. eligible are the candidates in order.
func (plan *Plan) makeRooms(c *clearing, eligible []candidate) {
	defer plan.sortSpared()
	c.taken, c.gone = map[vsphere.Ref]space{}, map[*candidate]bool{}
	for i := range c.d.HeldRooms {
		held := &c.d.HeldRooms[i]
		c.taken[held.Host] = c.taken[held.Host].plus(held.space())
	}
	c.made = slices.Clone(c.d.HeldRooms)
	stays := make(map[*candidate]Explanation, len(eligible))
	for i := 0; i < len(c.d.Rooms); {
		n := sharing(c.d.Rooms[i:])
		if n == 1 {
			c.room = &c.d.Rooms[i]
			plan.Rooms = append(plan.Rooms, plan.makeRoom(c, eligible, stays))
		} else {
			plan.makeApart(c, c.d.Rooms[i:i+n], eligible, stays)
		}
		i += n
	}
	for i := range eligible {
		if vm := &eligible[i]; !c.gone[vm] {
			plan.spare(vm.vm, stays[vm].Reason, stays[vm].Detail)
		}
	}
}

// makeRoom plans one room. stays is told why each candidate stays that is no target.
func (plan *Plan) makeRoom(c *clearing, eligible []candidate, stays map[*candidate]Explanation) RoomPlan {
	if c.room.Refused != "" {
		return RoomPlan{For: c.room.whom(), Refusal: c.room.Refused}
	}
	lower := make([]*candidate, 0, len(eligible))
	for i := range eligible {
		vm := &eligible[i]
		reason, detail := c.room.outranks(vm.vm.Ref, vm.priority)
		switch {
		case c.gone[vm]:
		case reason != "":
			stays[vm] = Explanation{reason, detail}
		default:
			lower = append(lower, vm)
		}
	}
	c.pools = c.countPools()
	places := c.places(lower)
	out := c.compare(places)
	if !out.Enough {
		reason := NotMeasured
		if len(places) > 0 {
			reason = places[0].reason
		}
		for _, vm := range lower {
			stays[vm] = Explanation{reason, out.Refusal}
		}
		return out
	}
	best := &places[0]
	var freed space
	for _, t := range best.targets {
		plan.target(t, t.whyRoom(len(plan.Targets)+1, c.room, best.host))
		out.Targets = append(out.Targets, t.vm.Ref)
		c.gone[t] = true
		c.limits.use(t.vm) // it is allowed: the search has heeded the limits
		freed = freed.plus(t.gives())
	}
	c.most -= len(best.targets)
	need := c.room.on(best.host)
	out.Room = HeldRoom{Host: best.host.Ref, CPUMHz: need[0], MemoryMB: need[1], CPUReservedMHz: need[2], MemoryReservedMB: need[3]}
	c.taken[best.host.Ref] = c.taken[best.host.Ref].plus(need).minus(freed)
	c.made = append(c.made, out.Room)
	c.draw()
	c.stayBeside(best, lower, stays)
	return out
}

// stayBeside says why the candidates stay that are not needed on the chosen host, and those on other hosts.
func (c *clearing) stayBeside(best *place, lower []*candidate, stays map[*candidate]Explanation) {
	detail := "the room is made on " + best.name()
	if len(best.targets) == 0 {
		detail = best.name() + " has the room already"
	}
	for _, vm := range lower {
		switch {
		case c.gone[vm]:
		case vm.vm.Host == best.host.Ref:
			stays[vm] = Explanation{NotNeeded, detail}
		default:
			stays[vm] = Explanation{AnotherHost, detail}
		}
	}
}

// compare lists the places, which are in order, as options.
func (c *clearing) compare(places []place) RoomPlan {
	plan := RoomPlan{For: c.room.whom(), OtherHosts: max(0, len(places)-mostOptions)}
	for i := range places[:min(len(places), mostOptions)] {
		p := &places[i]
		if p.kind == limited {
			p.reason, p.why = c.whyLimited(p)
		}
		o := RoomOption{
			Host: p.host.Ref, Name: p.host.Name, Missing: p.missing.used(), MissingReserved: p.missing.reserved(), MissingSlots: p.missing[slots], Why: p.why,
		}
		if p.kind == suitable {
			var freed space
			for _, t := range p.targets {
				o.Targets = append(o.Targets, t.vm.Ref)
				freed = freed.plus(t.gives())
			}
			o.Priority, o.OfPriority, o.Beyond = p.price.priority, p.price.ofPriority, freed.beyond(p.missing).used()
		}
		plan.Hosts = append(plan.Hosts, o)
	}
	if len(places) > 0 && places[0].kind == suitable {
		plan.Enough, plan.Host, plan.HostName = true, places[0].host.Ref, places[0].host.Name
	} else {
		plan.Refusal = c.whyNowhere(places)
	}
	return plan
}

// AboveAll is the priority of one who asks before whom all VMs may go.
const AboveAll = maxPriority + 1

// AskerPriority reads the tags of CategoryPriority on the VM that room is for. Without one it is above all.
func AskerPriority(tags []string) (int, error) {
	if len(tags) == 0 {
		return AboveAll, nil
	}
	return priority(&vsphere.VM{Tags: map[string][]string{CategoryPriority: tags}}, &Policy{})
}
