package policy

import (
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Resources is an amount of CPU and memory.
type Resources struct {
	CPUMHz   int64 `json:"cpuMHz"`
	MemoryMB int64 `json:"memoryMB"`
}

// load is the same, indexed by resource.
type load [2]int64

func (l load) resources() Resources { return Resources{CPUMHz: l[0], MemoryMB: l[1]} }

func (l load) plus(m load) load  { return load{l[0] + m[0], l[1] + m[1]} }
func (l load) minus(m load) load { return load{l[0] - m[0], l[1] - m[1]} }

// beyond returns how much of l the other leaves, at least nothing.
func (l load) beyond(m load) load { return load{max(0, l[0]-m[0]), max(0, l[1]-m[1])} }

// Load is the usage of one resource of a scope, in MHz or MB.
type Load struct {
	Capacity  int64 `json:"capacity"`
	Used      int64 `json:"used"`               // measured
	Credited  int64 `json:"credited,omitempty"` // of it, what was freed recently or is about to be freed
	After     int64 `json:"after"`              // used, less what is credited and what the targets free
	Kept      int64 `json:"kept,omitempty"`     // of the capacity, what is kept for hosts to fail: the target is a share of the rest
	Target    int   `json:"target,omitempty"`   // percent to come down to, the margin taken off; 0: none
	Shortfall int64 `json:"shortfall,omitempty"`
}

// Usage is the usage of a scope. It counts hosts that are connected and not in maintenance.
type Usage struct {
	Scope  vsphere.Ref `json:"scope,omitzero"` // zero: everything
	Name   string      `json:"name,omitempty"`
	Hosts  int         `json:"hosts"`            // that count
	Moving int         `json:"moving,omitempty"` // of them, entering maintenance
	// Standby are hosts that DPM may wake. They are no part of the capacity, except for a restore.
	Standby int  `json:"standby,omitempty"`
	CPU     Load `json:"cpu"`    // MHz
	Memory  Load `json:"memory"` // MB
}

// measured returns the usage of the contended scope. For a host's alarm, it returns the host and its cluster.
// A scope without a host that counts, or with no more of them than may fail, is left out.
func measured(s *vsphere.Snapshot, d *Demand, goal Goal) []Usage {
	scopes := []vsphere.Ref{d.Scope}
	for _, h := range s.Hosts {
		switch {
		case h.Ref == d.Scope && !h.Cluster.Zero():
			scopes = append(scopes, h.Cluster)
		case h.Ref == d.Host && h.Ref != d.Scope && (d.Scope.Zero() || h.Cluster == d.Scope):
			scopes = append(scopes, h.Ref)
		}
	}
	var all []Usage
	for _, scope := range scopes {
		if u := usageOf(s, d, scope); u.Hosts > goal.FailHosts {
			u.aim(s, goal)
			all = append(all, u)
		}
	}
	return all
}

func usageOf(s *vsphere.Snapshot, d *Demand, scope vsphere.Ref) Usage {
	u := Usage{Scope: scope}
	credits := freed(s, d)
	if scope == s.Scope {
		u.Name = s.ScopeName
	}
	for _, h := range s.Hosts {
		if h.Ref == scope {
			u.Name = h.Name
		}
		if h.Wakes() && !h.InMaintenance && holds(scope, &h) {
			u.Standby++
		}
		if !counts(&h, scope) {
			continue
		}
		u.Hosts++
		if h.EnteringMaintenance {
			u.Moving++
		}
		credit := d.uncommitted(creditOn(credits, h.Ref), h.Ref)
		u.CPU.count(h.CPUMHz, h.CPUUsedMHz, credit[0])
		u.Memory.count(h.MemoryMB, h.MemoryUsedMB, credit[1])
	}
	return u
}

// holds reports whether the host is of the scope.
func holds(scope vsphere.Ref, h *vsphere.Host) bool {
	return scope.Zero() || h.Ref == scope || h.Cluster == scope
}

// counts reports whether a host's capacity is the scope's.
func counts(h *vsphere.Host, scope vsphere.Ref) bool {
	return h.Connected && !h.InMaintenance && holds(scope, h)
}

// aim sets the targets, and what must be freed to reach them.
func (u *Usage) aim(s *vsphere.Snapshot, goal Goal) {
	kept := keptFor(s, u.Scope, goal.FailHosts)
	u.CPU.aim(goal.CPU, goal.Margin, kept[0])
	u.Memory.aim(goal.Memory, goal.Margin, kept[1])
}

// wake adds the capacity of the hosts that DPM wakes when VMs are powered on.
func (u *Usage) wake(s *vsphere.Snapshot) {
	for i := range s.Hosts {
		if h := &s.Hosts[i]; h.Wakes() && holds(u.Scope, h) {
			u.CPU.Capacity += h.CPUMHz
			u.Memory.Capacity += h.MemoryMB
		}
	}
}

// freed returns the credits without those of VMs that are on again, because they use their share again. A VM that was
// turned off just before the snapshot may still have been read as on, and one that was throttled is.
func freed(s *vsphere.Snapshot, d *Demand) []Credit {
	if !slices.ContainsFunc(d.Credits, func(c Credit) bool { return !c.VM.Zero() }) {
		return d.Credits
	}
	on := make(map[vsphere.Ref]bool, len(s.VMs))
	for _, vm := range s.VMs {
		on[vm.Ref] = vm.PowerState == vsphere.PoweredOn
	}
	return slices.DeleteFunc(slices.Clone(d.Credits), func(c Credit) bool { return !c.StaysOn && on[c.VM] && s.Time.Sub(c.At) > readLate })
}

// creditOn adds up the credits of one host.
func creditOn(credits []Credit, host vsphere.Ref) (sum load) {
	for _, c := range credits {
		if c.Host == host {
			sum = sum.plus(load{c.CPUMHz, c.MemoryMB})
		}
	}
	return sum
}

// uncommitted is what is left of the credits on a host beside the rooms that are held there: what has gone for a room is not
// free.
func (d *Demand) uncommitted(credit load, host vsphere.Ref) load {
	for i := range d.HeldRooms {
		if held := &d.HeldRooms[i]; held.Host == host {
			credit[0], credit[1] = max(0, credit[0]-held.CPUMHz), max(0, credit[1]-held.MemoryMB)
		}
	}
	return credit
}

// readLate is how long reading an inventory may take.
const readLate = 10 * time.Second

// count adds one host. Its credit is at most its usage.
func (l *Load) count(capacity, used, credit int64) {
	credit = min(max(0, credit), max(0, used))
	l.Capacity += capacity
	l.Used += used
	l.Credited += credit
	l.After += used - credit
}

// aim sets the target and what must be freed to reach it.
func (l *Load) aim(target, margin int, kept int64) {
	if target > 0 {
		l.Target, l.Kept = target-margin, kept
		l.Shortfall = max(0, l.After-l.most())
	}
}

// most is the usage that the target allows.
func (l *Load) most() int64 { return (l.Capacity - l.Kept) * int64(l.Target) / 100 }

// shortfall is the larger one of the measured scopes, per resource.
func shortfall(all []Usage) (need load) {
	for _, u := range all {
		need = load{max(need[0], u.CPU.Shortfall), max(need[1], u.Memory.Shortfall)}
	}
	return need
}

// after subtracts what the candidate frees from the usage of its scopes.
func after(all []Usage, c *candidate) {
	for i := range all {
		if u := &all[i]; inScope(c.vm, u.Scope) {
			u.CPU.After = max(0, u.CPU.After-c.frees[0])
			u.Memory.After = max(0, u.Memory.After-c.frees[1])
		}
	}
}
