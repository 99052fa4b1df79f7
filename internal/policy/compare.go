package policy

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Difference is how a plan for the same candidates differs from an earlier one. The order in which they go does
// not count.
type Difference struct {
	Added   []Target `json:"added"`   // go now, and did not
	Dropped []Spared `json:"dropped"` // stay now, and went; with why
}

// None tells whether both plans choose the same.
func (d Difference) None() bool { return len(d.Added)+len(d.Dropped) == 0 }

// Compare tells what the plan changes about the earlier choice.
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
