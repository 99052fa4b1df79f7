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
}

// RoomPlan says on which host the room is, and how it compares with the other hosts.
//
// On each host, the plan looks for the VMs whose highest priority is lowest, of these for the fewest of that priority,
// then the fewest in all, then those that free least beyond the need, then the first in the order of candidates. What
// is freed beyond the need, in use or reserved, counts in parts of the host's capacity. Hosts are compared in the same
// way: one that needs no power-off is the cheapest. Of equal hosts the one with the smaller MoRef is chosen.
type RoomPlan struct {
	Host     vsphere.Ref `json:"host,omitzero"` // where the room is or will be; zero: nowhere
	HostName string      `json:"hostName,omitempty"`
	Enough   bool        `json:"enough"`            // the host has the room already, or once the targets are off
	Refusal  string      `json:"refusal,omitempty"` // why no VM is powered off although room is missing, in words
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
	Targets         []vsphere.Ref `json:"targets,omitempty"`        // whom to power off, in the order of candidates
	Priority        int           `json:"priority,omitempty"`       // the highest among the targets
	OfPriority      int           `json:"ofPriority,omitempty"`     // how many targets have it
	Beyond          Resources     `json:"beyond,omitzero"`          // usage that the targets free beyond what is missing, in MHz and MB
	Why             string        `json:"why,omitempty"`            // why it cannot have the room, in words; empty: it can
}

// mostOptions bounds RoomPlan.Hosts.
const mostOptions = 20

// space is an amount of what a host gives: CPU and memory in use, CPU and memory reserved, in MHz and MB.
type space [4]int64

func (a space) plus(b space) space {
	for r := range a {
		a[r] += b[r]
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

// clearing is the state of one choice of room.
type clearing struct {
	s      *vsphere.Snapshot
	d      *Demand
	limits *limits
	most   int    // VMs that may be powered off
	full   Spared // why a further one may not
}

// makeRoom chooses the host, and the targets on it. eligible are the candidates in order.
func (plan *Plan) makeRoom(c *clearing, eligible []candidate) {
	defer plan.sortSpared()
	lower := make([]*candidate, 0, len(eligible))
	for i := range eligible {
		vm := eligible[i].vm
		if reason, detail := c.d.Room.outranks(vm.Ref, eligible[i].priority); reason != "" {
			plan.spare(vm, reason, detail)
			continue
		}
		lower = append(lower, &eligible[i])
	}
	places := c.places(lower)
	plan.Room = c.compare(places)
	if !plan.Room.Enough {
		reason := NotMeasured
		if len(places) > 0 {
			reason = places[0].reason
		}
		for _, vm := range lower {
			plan.spare(vm.vm, reason, plan.Room.Refusal)
		}
		return
	}
	best := &places[0]
	for _, t := range best.targets {
		plan.target(t, t.whyRoom(len(plan.Targets)+1, c.d.Room, best.host))
	}
	plan.spareBeside(best, lower)
}

// spareBeside spares the candidates that are not needed on the chosen host, and those on other hosts.
func (plan *Plan) spareBeside(best *place, lower []*candidate) {
	detail := "the room is made on " + best.name()
	if len(best.targets) == 0 {
		detail = best.name() + " has the room already"
	}
	for _, c := range lower {
		switch {
		case slices.Contains(best.targets, c):
		case c.vm.Host == best.host.Ref:
			plan.spare(c.vm, NotNeeded, detail)
		default:
			plan.spare(c.vm, AnotherHost, detail)
		}
	}
}

// compare lists the places, which are in order, as options.
func (c *clearing) compare(places []place) *RoomPlan {
	plan := &RoomPlan{OtherHosts: max(0, len(places)-mostOptions)}
	for i := range places[:min(len(places), mostOptions)] {
		p := &places[i]
		if p.kind == limited {
			p.reason, p.why = c.whyLimited(p)
		}
		o := RoomOption{
			Host: p.host.Ref, Name: p.host.Name, Missing: p.missing.used(), MissingReserved: p.missing.reserved(), Why: p.why,
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
