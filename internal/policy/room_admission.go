package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// failover returns what HA keeps of the host's cluster; nil: nothing that is known.
func (c *clearing) failover(h *vsphere.Host) *vsphere.Failover {
	at := slices.IndexFunc(c.s.Failover, func(f vsphere.Failover) bool { return !f.Cluster.Zero() && f.Cluster == h.Cluster })
	if at < 0 {
		return nil
	}
	return &c.s.Failover[at]
}

// whyKept says that HA keeps the host for a failover, or nothing.
func (c *clearing) whyKept(h *vsphere.Host) string {
	if f := c.failover(h); f != nil && slices.Contains(f.Hosts, h.Ref) {
		return "it is kept for failover"
	}
	return ""
}

// admit raises what is missing on the host to what HA's admission control asks for, by percentages. Who goes on the host
// lowers it.
func (c *clearing) admit(p *place) {
	f := c.failover(p.host)
	switch {
	case f == nil || len(f.Hosts) > 0:
		return
	case f.Slots != nil:
		p.policy = "HA's admission control keeps slots for " + someHosts(f.Slots.Failures) + " to fail"
	default:
		p.policy = fmt.Sprintf("HA's admission control keeps %d %% of the cluster's CPU and %d %% of its memory", f.CPUPercent, f.MemoryPercent)
		p.missing = p.missing.atLeast(c.overPercent(f, p.host))
	}
}

func someHosts(n int) string {
	if n == 1 {
		return "one host"
	}
	return fmt.Sprintf("%d hosts", n)
}

// overPercent is by how much the reservations of a cluster would pass what HA admits, were the room used.
func (c *clearing) overPercent(f *vsphere.Failover, host *vsphere.Host) space {
	need := c.room.on(host)
	var admitted, reserved space
	for i := range c.s.Hosts {
		h := &c.s.Hosts[i]
		if !counted(f, h) {
			continue
		}
		taken := c.taken[h.Ref]
		admitted = admitted.plus(space{2: h.CPUMHz * (100 - f.CPUPercent) / 100, 3: h.MemoryMB * (100 - f.MemoryPercent) / 100})
		reserved = reserved.plus(space{2: h.CPUReservedMHz + taken[2], 3: h.MemoryReservedMB + taken[3]})
	}
	return space{2: need[2], 3: need[3]}.plus(reserved).beyond(admitted)
}

// counted reports whether HA counts on the host.
func counted(f *vsphere.Failover, h *vsphere.Host) bool {
	return h.Cluster == f.Cluster && h.Connected && !h.InMaintenance
}

// note names what stands in the way of a host where all are off, beside the host itself: HA's admission control, a resource
// pool and what to do about it. It is empty if nothing does.
func (p *place) note(all space) string {
	var notes []string
	own := p.own.beyond(all)
	if p.policy != "" && (p.lacks[2] > own[2] || p.lacks[3] > own[3] || p.lacks[slots] > 0) {
		notes = append(notes, p.policy)
	}
	for r, lacks := range []int64{p.lacks[poolCPU], p.lacks[poolMemory]} {
		if lacks > 0 {
			notes = append(notes, p.pools[r].remedy([]string{"CPU", "memory"}[r]))
		}
	}
	if len(notes) == 0 {
		return ""
	}
	return ": " + strings.Join(notes, "; ")
}

// slotCount is how the slots of a cluster stand for one room: with the VM that it is for on, and all earlier rooms used.
type slotCount struct {
	*vsphere.Slots
	cluster vsphere.Ref
	hosts   []*vsphere.Host
	claims  map[vsphere.Claim]int
	largest vsphere.Claim
}

// countSlots counts the slots of each cluster whose HA counts by them.
func (c *clearing) countSlots() (counts []*slotCount) {
	for i := range c.s.Failover {
		f := &c.s.Failover[i]
		if f.Slots == nil {
			continue
		}
		count := &slotCount{Slots: f.Slots, cluster: f.Cluster, claims: map[vsphere.Claim]int{}}
		in := map[vsphere.Ref]bool{}
		for j := range c.s.Hosts {
			h := &c.s.Hosts[j]
			if in[h.Ref] = h.Cluster == f.Cluster; counted(f, h) {
				count.hosts = append(count.hosts, h)
			}
		}
		for _, claims := range f.Slots.VMs {
			count.add(claims.Claim, claims.Number)
		}
		for _, room := range c.made {
			if in[room.Host] {
				count.add(vsphere.Claim{CPUMHz: room.CPUReservedMHz, MemoryMB: room.MemoryReservedMB}, 1)
			}
		}
		for vm := range c.gone {
			if in[vm.vm.Host] {
				count.add(vm.claim(), -1)
			}
		}
		count.add(vsphere.Claim{CPUMHz: c.room.CPUReservedMHz, MemoryMB: c.room.MemoryReservedMB}, 1)
		count.largest = count.largestOf(nil)
		counts = append(counts, count)
	}
	return counts
}

func (c *candidate) claim() vsphere.Claim {
	return vsphere.Claim{CPUMHz: c.vm.CPUReservedMHz, MemoryMB: c.vm.MemoryReservedMB}
}

func (s *slotCount) add(claim vsphere.Claim, n int) { s.claims[claim.AtLeast(s.AtLeast)] += n }

// largestOf is the largest claim, of each resource by itself, of all but some candidates.
func (s *slotCount) largestOf(but []*candidate) (largest vsphere.Claim) {
	without := map[vsphere.Claim]int{}
	for _, vm := range but {
		without[vm.claim().AtLeast(s.AtLeast)]++
	}
	for claim, n := range s.claims {
		if n > without[claim] {
			largest = largest.AtLeast(claim)
		}
	}
	return largest
}

// size is that of a slot where VMs claim so much at most.
func (s *slotCount) size(largest vsphere.Claim) vsphere.Claim {
	if s.Fixed != (vsphere.Claim{}) {
		return s.Fixed.AtLeast(vsphere.Claim{CPUMHz: 1, MemoryMB: 1})
	}
	if s.AtMost.CPUMHz > 0 {
		largest.CPUMHz = min(largest.CPUMHz, s.AtMost.CPUMHz)
	}
	if s.AtMost.MemoryMB > 0 {
		largest.MemoryMB = min(largest.MemoryMB, s.AtMost.MemoryMB)
	}
	return largest.AtLeast(vsphere.Claim{CPUMHz: 1, MemoryMB: 1})
}

// missing is how many slots of a size lack before anybody goes.
func (s *slotCount) missing(size vsphere.Claim) (n int64) {
	for claim, number := range s.claims {
		n += int64(number) * slotsOf(claim, size)
	}
	have := make([]int64, 0, len(s.hosts))
	for _, h := range s.hosts {
		have = append(have, min(h.CPUMHz/size.CPUMHz, h.MemoryMB/size.MemoryMB))
	}
	slices.Sort(have)
	for _, more := range have[:max(0, len(have)-s.Failures)] {
		n -= more
	}
	return max(0, n)
}

// slotsOf is how many slots of a size a claim takes: one, unless the size is bounded.
func slotsOf(claim, size vsphere.Claim) int64 {
	return max(1, (claim.CPUMHz+size.CPUMHz-1)/size.CPUMHz, (claim.MemoryMB+size.MemoryMB-1)/size.MemoryMB)
}

// slotLevel is a size that slots may have once some have gone: those that claim more must be among them.
type slotLevel struct {
	size    vsphere.Claim
	least   vsphere.Claim // what a VM counts for that claims less
	missing int64         // slots of that size, before anybody goes
	must    map[*candidate]bool
}

// musts is how many candidates must go; none without slots.
func (l *slotLevel) musts() int {
	if l == nil {
		return 0
	}
	return len(l.must)
}

// takes is how many slots the candidate gives back.
func (l *slotLevel) takes(c *candidate) int64 { return slotsOf(c.claim().AtLeast(l.least), l.size) }

// mostLevels bounds the sizes of slots that are tried on one host.
const mostLevels = 32

// levels are the sizes that slots may have when candidates of the host go, the one before anybody goes first. Without any,
// there are slots enough. Only the host where the largest claim of the cluster is has more than one.
func (c *clearing) levels(p *place) (levels []slotLevel) {
	at := slices.IndexFunc(c.counts, func(s *slotCount) bool { return s.cluster == p.host.Cluster })
	if at < 0 {
		return nil
	}
	s := c.counts[at]
	missing := s.missing(s.size(s.largest))
	if missing == 0 {
		return nil
	}
	first := slotLevel{size: s.size(s.largest), least: s.AtLeast, missing: missing}
	shapes := func(c *candidate) bool {
		claim := c.claim().AtLeast(s.AtLeast)
		return claim.CPUMHz == s.largest.CPUMHz || claim.MemoryMB == s.largest.MemoryMB
	}
	if s.Fixed != (vsphere.Claim{}) || !slices.ContainsFunc(p.on, shapes) {
		return []slotLevel{first}
	}
	base := s.largestOf(p.on)
	cpus, memories := []int64{base.CPUMHz}, []int64{base.MemoryMB}
	for _, vm := range p.on {
		claim := vm.claim().AtLeast(base)
		cpus, memories = append(cpus, claim.CPUMHz), append(memories, claim.MemoryMB)
	}
	for _, mhz := range falling(cpus) {
		for _, mb := range falling(memories) {
			levels = append(levels, s.level(vsphere.Claim{CPUMHz: mhz, MemoryMB: mb}, p.on))
		}
	}
	slices.SortStableFunc(levels, func(a, b slotLevel) int { return cmp.Compare(len(a.must), len(b.must)) })
	return levels[:min(len(levels), mostLevels)]
}

// level is that at which no VM claims more.
func (s *slotCount) level(largest vsphere.Claim, on []*candidate) slotLevel {
	l := slotLevel{size: s.size(largest), least: s.AtLeast, must: map[*candidate]bool{}}
	for _, vm := range on {
		if claim := vm.claim(); claim.CPUMHz > largest.CPUMHz || claim.MemoryMB > largest.MemoryMB {
			l.must[vm] = true
		}
	}
	l.missing = s.missing(l.size)
	return l
}

// falling sorts values, the largest first, each once.
func falling(values []int64) []int64 {
	slices.SortFunc(values, func(a, b int64) int { return cmp.Compare(b, a) })
	return slices.Compact(values)
}
