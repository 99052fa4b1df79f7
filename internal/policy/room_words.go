package policy

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// outranks returns why the VM is not powered off for this room, whatever host it is on, or "".
func (r *Room) outranks(vm vsphere.Ref, priority int) (Reason, string) {
	switch {
	case !r.VM.Zero() && vm == r.VM:
		return PriorityNotLower, "it is the one who asks"
	case priority >= r.Priority:
		return PriorityNotLower, fmt.Sprintf("priority %d, the one who asks has %d", priority, r.Priority)
	}
	return "", ""
}

// outrankedBy returns why a VM is powered off for none of the rooms, or "".
func outrankedBy(rooms []Room, vm vsphere.Ref, priority int) (reason Reason, detail string) {
	for i := range rooms {
		if reason, detail = rooms[i].outranks(vm, priority); reason == "" {
			return "", ""
		}
	}
	return reason, detail
}

// whom names the VM that the room is for.
func (r *Room) whom() string {
	if r.For != "" {
		return r.For
	}
	return fmt.Sprintf("a VM of %d CPUs and %s", r.CPUs, gib(r.MemoryMB))
}

// whyUnfit returns why a host does not count, or "".
func (r *Room) whyUnfit(h *vsphere.Host) string {
	switch {
	case h.Standby:
		return "it is in standby"
	case h.InMaintenance:
		return "it is in maintenance"
	case h.EnteringMaintenance:
		return "it is entering maintenance"
	case !h.Connected:
		return "it is not connected"
	case !r.On.Zero() && r.On != h.Ref:
		return "the room was begun on another host"
	case r.CannotTake[h.Ref.String()] != "":
		return r.CannotTake[h.Ref.String()]
	case h.Threads < r.CPUs:
		return fmt.Sprintf("it has %d logical processors, fewer than the %d CPUs asked for", h.Threads, r.CPUs)
	case h.CoreMHz <= 0 && r.CPUs > 0:
		return "the speed of its cores is not known"
	}
	if over := r.on(h).beyond(capacity(h)); over != (space{}) {
		return "even without any VM, it lacks " + over.words()
	}
	return ""
}

// whyShort says what is missing on a host even when the n candidates that may be powered off there are off.
func whyShort(n int, lacks space) string {
	if n == 0 {
		return fmt.Sprintf("%s are missing, and no VM there may go", lacks.words())
	}
	return fmt.Sprintf("%s, %s are missing", whenGone(n), lacks.words())
}

func whenGone(n int) string {
	switch n {
	case 1:
		return "even when the one VM that may go has gone"
	case 2:
		return "even when both VMs that may go have gone"
	}
	return fmt.Sprintf("even when all %d VMs that may go have gone", n)
}

// whyNowhere says why no host can have the room, by the one that comes closest. places are in order.
func (c *clearing) whyNowhere(places []place) string {
	if len(places) == 0 {
		return "no host of the scope is known"
	}
	first := &places[0]
	on := "on " + first.name() + ", "
	if len(places) > 1 {
		on += "which comes closest, "
	}
	switch {
	case first.kind == limited:
		return on + first.why
	case first.kind == short && len(first.on) > 0:
		return on + first.lacks.words() + " are missing " + whenGone(len(first.on)) + first.note(first.all())
	case first.kind == short:
		return on + first.why
	}
	var whys []string
	for i := range places[:min(len(places), mostWhys)] {
		whys = append(whys, places[i].name()+": "+places[i].why)
	}
	if more := len(places) - mostWhys; more > 0 {
		whys = append(whys, fmt.Sprintf("and %d more", more))
	}
	return "no host can take it: " + strings.Join(whys, "; ")
}

// mostWhys is how many hosts a refusal names if none counts.
const mostWhys = 3

// whyLimited says which limit prevents the room on a host where all together would free enough.
func (c *clearing) whyLimited(p *place) (Reason, string) {
	if c.limits.blackout != "" {
		return Blackout, Explanation{Blackout, c.limits.blackout}.Words()
	}
	ungrouped := newSweep(p, c.most, nil).cheapest()
	if ungrouped != nil {
		return GroupBudget, c.whyGroups(p, ungrouped)
	}
	why := c.whyFull()
	if newSweep(p, math.MaxInt, c.limits.left()).cheapest() == nil {
		why += ", and " + c.whyGroups(p, p.indices())
	}
	return c.full.Reason, why
}

// whyFull says that more VMs would have to go than may.
func (c *clearing) whyFull() string {
	limit, more := "maxVMs", fmt.Sprintf("more than the %d VMs that", c.most)
	if c.most == 1 {
		more = "more than the one VM that"
	}
	if c.full.Reason == ScopeBudget {
		limit = "the scope's budget"
	}
	out := fmt.Sprintf("it takes %s %s allows", more, limit)
	if c.most == 0 {
		out = limit + " allows no further VM"
	}
	if c.full.Detail != "" {
		out += " (" + c.full.Detail + ")"
	}
	return out
}

// whyGroups names the budgets that a set would break.
func (c *clearing) whyGroups(p *place, set []int) string {
	left, named := c.limits.left(), map[int]bool{}
	var details []string
	for _, i := range set {
		for _, g := range p.on[i].groups {
			if left[g]--; left[g] < 0 && !named[g] {
				named[g] = true
				details = append(details, c.limits.groups[g].detail)
			}
		}
	}
	return "a group must keep enough VMs up (" + strings.Join(details, "; ") + ")"
}

// whyRoom explains in words why the candidate is powered off at its rank.
func (c *candidate) whyRoom(rank int, room *Room, h *vsphere.Host) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rank %d: priority %d", rank, c.priority)
	if c.preempted > 0 {
		fmt.Fprintf(&b, ", preempted %s in the last 24 h", times(c.preempted))
	}
	gives := c.gives()
	fmt.Fprintf(&b, ", makes room for %s on %s: frees %s and %s", room.whom(), cmp.Or(h.Name, h.Ref.Value), ghz(gives[0]), gib(gives[1]))
	if r := gives.reserved(); r != (Resources{}) {
		fmt.Fprintf(&b, " in use, %s and %s reserved", ghz(r.CPUMHz), gib(r.MemoryMB))
	}
	return b.String()
}

// words writes what is missing in units that people read.
func (a space) words() string {
	var parts []string
	for r, amount := range a {
		if amount > 0 {
			unit := []func(int64) string{ghz, gib, ghz, gib, howMany, ghz, gib}[r]
			parts = append(parts, unit(amount)+[]string{" of CPU", " of memory", " of unreserved CPU", " of unreserved memory", " of HA's slots", " of the pool's unreserved CPU", " of the pool's unreserved memory"}[r])
		}
	}
	if last := len(parts) - 1; last > 0 {
		return strings.Join(parts[:last], ", ") + " and " + parts[last]
	}
	return strings.Join(parts, "")
}

func howMany(n int64) string { return strconv.FormatInt(n, 10) }

// ghz writes MHz; less than one GHz as it is.
func ghz(mhz int64) string {
	if mhz < 1000 {
		return fmt.Sprintf("%d MHz", mhz)
	}
	return fmt.Sprintf("%.1f GHz", float64(mhz)/1000)
}

// gib writes MB as vSphere means them, which are MiB; less than one GiB as it is.
func gib(mb int64) string {
	if mb < 1024 {
		return fmt.Sprintf("%d MiB", mb)
	}
	return fmt.Sprintf("%.1f GiB", float64(mb)/1024)
}
