package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Room is what is to fit on one host, in one piece.
type Room struct {
	For      string      `json:"for,omitempty"` // name of the VM; empty: only sizes were given
	VM       vsphere.Ref `json:"vm,omitzero"`
	Priority int         `json:"priority"` // only VMs of a lower one go
	// CPUs, at the speed of the host's cores, and MemoryMB are what it will use.
	CPUs     int   `json:"cpus,omitempty"`
	MemoryMB int64 `json:"memoryMB,omitempty"`
	// What admission asks for: what must be unreserved on the host, memory with the VM's overhead.
	CPUReservedMHz   int64 `json:"cpuReservedMHz,omitempty"`
	MemoryReservedMB int64 `json:"memoryReservedMB,omitempty"`
}

// AboveAll is the priority of an asker before which all VMs may go.
const AboveAll = maxPriority + 1

// AskerPriority reads the tags of CategoryPriority on a VM that room is for. Without one it is above all.
func AskerPriority(tags []string) (int, error) {
	if len(tags) == 0 {
		return AboveAll, nil
	}
	return priorityOf(tags)
}

// RoomPlan says on which host the room is, and what it costs on each.
type RoomPlan struct {
	Host     vsphere.Ref `json:"host,omitzero"`
	HostName string      `json:"hostName,omitempty"`
	Enough   bool        `json:"enough"`            // the host has the room, or has it when the targets have gone
	Refusal  string      `json:"refusal,omitempty"` // why there is no such host, in words
	// Hosts are the first of those in scope: what costs least, then those that cannot have the room. More are not listed.
	Hosts []RoomOption `json:"hosts"`
	More  int          `json:"more,omitempty"`
}

// RoomOption is what the room costs on one host.
type RoomOption struct {
	Host       vsphere.Ref   `json:"host"`
	Name       string        `json:"name,omitempty"`
	Why        string        `json:"why,omitempty"` // why it cannot have the room, in words
	Targets    []vsphere.Ref `json:"targets,omitempty"`
	Priority   int           `json:"priority,omitempty"`   // the highest among the targets
	OfPriority int           `json:"ofPriority,omitempty"` // targets that have it
	// Missing is what is missing before anybody goes, of what is used and of what is reserved; Beyond is what the targets
	// free beyond that, of what is used.
	Missing         Resources `json:"missing,omitzero"`
	MissingReserved Resources `json:"missingReserved,omitzero"`
	Beyond          Resources `json:"beyond,omitzero"`
}

// maxRoomHosts is how many hosts a plan lists.
const maxRoomHosts = 20

// roomPlanning is a plan for room in the making.
type roomPlanning struct {
	plan   *Plan
	s      *vsphere.Snapshot
	d      *Demand
	limits *limits
	most   int // VMs that may go
	full   string
	now    time.Time
	below  []candidate // of lower priority than the asker, in order
}

// makeRoom chooses the host on which the room costs least, and the VMs that go there.
func (plan *Plan) makeRoom(s *vsphere.Snapshot, d *Demand, p *Policy, l *limits, eligible []candidate, now time.Time) {
	r := &roomPlanning{plan: plan, s: s, d: d, limits: l, now: now, most: max(0, p.MaxVMs-d.Already)}
	r.full = fmt.Sprintf("maxVMs lets %d go in one round", p.MaxVMs)
	if l.room >= 0 && l.room < r.most {
		r.most, r.full = l.room, l.detail
	}
	if l.blackout != "" {
		r.most, r.full = 0, l.blackout
	}
	for _, c := range eligible {
		if c.priority < d.Room.Priority {
			r.below = append(r.below, c)
		} else {
			plan.spare(c.vm, PriorityNotLower, "")
		}
	}
	offers := r.offers()
	slices.SortFunc(offers, compareOffers)
	r.settle(offers)
}

// offers computes what the room costs on each host in scope.
func (r *roomPlanning) offers() (offers []offer) {
	on := map[vsphere.Ref][]int{}
	for i := range r.below {
		on[r.below[i].vm.Host] = append(on[r.below[i].vm.Host], i)
	}
	credits := map[vsphere.Ref]load{}
	for _, c := range freed(r.s, r.d) {
		credits[c.Host] = credits[c.Host].plus(load{c.CPUMHz, c.MemoryMB})
	}
	for i := range r.s.Hosts {
		h := &r.s.Hosts[i]
		if scope := r.d.Scope; scope.Zero() || h.Ref == scope || h.Cluster == scope {
			offers = append(offers, r.offer(h, credits[h.Ref], on[h.Ref]))
		}
	}
	return offers
}

// offer computes what the room costs on one host, where these candidates are.
func (r *roomPlanning) offer(h *vsphere.Host, credit load, here []int) offer {
	o := offer{host: h, capacity: footprint{h.CPUMHz, h.MemoryMB, h.CPUMHz, h.MemoryMB}}
	asked := footprint{int64(r.d.Room.CPUs) * h.CoreMHz, r.d.Room.MemoryMB, r.d.Room.CPUReservedMHz, r.d.Room.MemoryReservedMB}
	if o.why = unfit(h, r.d.Room, asked); o.why != "" {
		return o
	}
	used := footprint{h.CPUUsedMHz - min(credit[0], h.CPUUsedMHz), h.MemoryUsedMB - min(credit[1], h.MemoryUsedMB), h.CPUReservedMHz, h.MemoryReservedMB}
	o.missing = asked.plus(used).beyond(o.capacity)
	if o.missing == (footprint{}) {
		return o
	}
	search := roomSearch{all: make([]roomCandidate, 0, len(here)), need: o.missing, capacity: o.capacity, most: r.most}
	all := footprint{}
	for _, g := range r.limits.groups {
		search.left = append(search.left, g.left)
	}
	for _, i := range here {
		c := roomCandidate{candidate: &r.below[i], index: i, frees: freesOf(r.below[i].vm)}
		search.all = append(search.all, c)
		all = all.plus(c.frees)
	}
	if still := o.missing.beyond(all); still != (footprint{}) {
		o.why, o.short = evenSo(len(here))+still.words()+" missing", still.of(o.capacity)
		return o
	}
	if o.found = search.best(); o.found == nil {
		o.why = "those that may go would be enough, but " + r.bound(search)
	}
	return o
}

func evenSo(n int) string {
	switch n {
	case 0:
		return "no VM there may go, and "
	case 1:
		return "even when the one VM that may go has gone, "
	}
	return fmt.Sprintf("even when all %d VMs that may go have gone, ", n)
}

// bound says which limit keeps enough of the VMs from going.
func (r *roomPlanning) bound(search roomSearch) string {
	search.most = len(search.all)
	if search.best() != nil || r.most == 0 {
		return r.full
	}
	for _, c := range search.all {
		for _, g := range c.groups {
			if r.limits.groups[g].left < len(search.all) {
				return r.limits.groups[g].detail
			}
		}
	}
	return r.full
}

// unfit says why a host cannot have the room, whoever goes; empty: it can.
func unfit(h *vsphere.Host, room *Room, asked footprint) string {
	switch {
	case h.Standby:
		return "it is in standby"
	case !h.Connected:
		return "it is not connected"
	case h.InMaintenance:
		return "it is in maintenance"
	case h.EnteringMaintenance:
		return "it is entering maintenance"
	case h.CannotTake != "":
		return h.CannotTake
	case room.CPUs > h.Threads && h.Threads > 0:
		return fmt.Sprintf("it has %d logical processors, and %d are asked for", h.Threads, room.CPUs)
	}
	if over := asked.beyond(footprint{h.CPUMHz, h.MemoryMB, h.CPUMHz, h.MemoryMB}); over != (footprint{}) {
		return "it is too small: empty, " + over.words() + " missing"
	}
	return ""
}

// settle records the cheapest offer, its targets, and why the others stay.
func (r *roomPlanning) settle(offers []offer) {
	out := &RoomPlan{Hosts: []RoomOption{}}
	r.plan.Room = out
	for _, o := range offers[:min(len(offers), maxRoomHosts)] {
		out.Hosts = append(out.Hosts, o.option())
	}
	out.More = len(offers) - len(out.Hosts)
	going := map[int]bool{}
	if len(offers) > 0 && offers[0].why == "" {
		best := offers[0]
		out.Host, out.HostName, out.Enough = best.host.Ref, best.host.Name, true
		for rank, c := range best.found {
			going[c.index] = true
			after(r.plan.Usage, c.vm)
			r.plan.Targets = append(r.plan.Targets, Target{
				Ref: c.vm.Ref, Name: c.vm.Name, InstanceUUID: c.vm.InstanceUUID, ToolsRunning: c.vm.ToolsRunning,
				CPUMHz: c.vm.CPUMHz, MemoryMB: c.vm.MemoryMB, Host: c.vm.Host, Rank: rank + 1, Priority: c.priority,
				Why: c.why(rank+1, load{}, r.now) + "; makes room" + forWhom(r.d.Room) + " on " + cmp.Or(best.host.Name, best.host.Ref.Value),
			})
		}
	} else {
		out.Refusal = refusal(offers)
	}
	for i := range r.below {
		switch vm := r.below[i].vm; {
		case going[i]:
		case !out.Enough:
			r.plan.spare(vm, RoomNowhere, "")
		case vm.Host == out.Host || len(going) == 0:
			r.plan.spare(vm, NotNeeded, "")
		default:
			r.plan.spare(vm, AnotherHost, "")
		}
	}
}

func forWhom(room *Room) string {
	if room.For == "" {
		return ""
	}
	return " for " + room.For
}

// refusal says why none of the sorted offers has the room.
func refusal(offers []offer) string {
	if len(offers) == 0 {
		return "no host of the scope can be seen"
	}
	closest := offers[0]
	return fmt.Sprintf("none of %d hosts can have it; %s comes closest: %s", len(offers), cmp.Or(closest.host.Name, closest.host.Ref.Value), closest.why)
}

// priorityOf reads the tags of CategoryPriority.
func priorityOf(tags []string) (int, error) {
	if len(tags) != 1 {
		return 0, fmt.Errorf("unreadable priority: %d tags of %s, of which one is allowed", len(tags), CategoryPriority)
	}
	n, err := strconv.Atoi(strings.TrimSpace(tags[0]))
	if err != nil || n < -maxPriority || n > maxPriority {
		return 0, fmt.Errorf("unreadable priority %q: use a whole number", tags[0])
	}
	return n, nil
}
