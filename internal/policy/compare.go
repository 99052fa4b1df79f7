package policy

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Difference is how a plan for the same candidates differs from an earlier one. Their order does not count.
type Difference struct {
	Added   []Target `json:"added"`   // chosen now, but not before
	Dropped []Spared `json:"dropped"` // chosen before, but not now, with the reason
}

// None reports whether both plans choose the same VMs.
func (d Difference) None() bool { return len(d.Added)+len(d.Dropped) == 0 }

// Compare returns how the plan differs from the earlier choice.
func Compare(was []Target, is Plan) Difference {
	d := Difference{Added: []Target{}, Dropped: []Spared{}}
	went, goes, stays := map[vsphere.Ref]bool{}, map[vsphere.Ref]bool{}, map[vsphere.Ref]Spared{}
	for _, t := range was {
		went[t.Ref] = true
	}
	for _, t := range is.Targets {
		if goes[t.Ref] = true; !went[t.Ref] {
			d.Added = append(d.Added, t)
		}
	}
	for _, s := range is.Spared {
		stays[s.Ref] = s
	}
	for _, t := range was {
		if goes[t.Ref] {
			continue
		}
		s := stays[t.Ref]
		s.Ref, s.Name = t.Ref, t.Name
		d.Dropped = append(d.Dropped, s)
	}
	return d
}
