package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// maxFailHosts bounds the hosts for whose loss room is kept.
const maxFailHosts = 16

// Headroom is what is to stay free in a cluster, so that VMs can start and hosts can fail. It is a share of what is left of the
// capacity when that of the largest failHosts hosts is taken off.
type Headroom struct {
	CPU       Amount `json:"cpu,omitzero"`        // a percentage, 1 to 99; zero: CPU does not matter, but for failHosts
	Memory    Amount `json:"memory,omitzero"`     // the same of memory
	FailHosts int    `json:"failHosts,omitempty"` // hosts whose VMs the others could carry; 0 to 16
}

// Set reports whether there is a headroom to keep.
func (h Headroom) Set() bool { return h != (Headroom{}) }

// ErrNoHeadroom says that a policy keeps no headroom.
var ErrNoHeadroom = errors.New("it has no headroom: give it one, such as headroom: {cpu: 10%, memory: 20%} or headroom: {failHosts: 1}")

// ForHeadroom returns the policy with its headroom for its target: what it is chosen by where a request is for the headroom. No
// margin is taken off, so that no VM goes while the headroom is there.
func (p Policy) ForHeadroom() (Policy, error) {
	if !p.Headroom.Set() {
		return p, ErrNoHeadroom
	}
	ifShort := p.Target.IfShort
	p.Target = Goal{CPU: p.Headroom.most(p.Headroom.CPU), Memory: p.Headroom.most(p.Headroom.Memory), IfShort: ifShort, FailHosts: p.Headroom.FailHosts}
	return p, nil
}

// most is the utilisation that leaves a share free, in percent; 0: it does not matter.
func (h Headroom) most(share Amount) int {
	if share.N == 0 && h.FailHosts == 0 {
		return 0
	}
	return 100 - share.N
}

// whyUnmeasured says why a scope may count as unmeasured although it has hosts; empty: it has none that count.
func (g Goal) whyUnmeasured() string {
	if g.FailHosts == 0 {
		return ""
	}
	return fmt.Sprintf("no more hosts count in the cluster than may fail: failHosts is %d", g.FailHosts)
}

// keptFor is the capacity of the largest hosts of a scope, of each resource by itself: whichever of them fail, the others have at
// least the rest.
func keptFor(s *vsphere.Snapshot, scope vsphere.Ref, failHosts int) (kept load) {
	if failHosts <= 0 {
		return kept
	}
	var cpu, memory []int64
	for i := range s.Hosts {
		if h := &s.Hosts[i]; counts(h, scope) {
			cpu, memory = append(cpu, h.CPUMHz), append(memory, h.MemoryMB)
		}
	}
	for r, all := range [][]int64{cpu, memory} {
		slices.Sort(all)
		for _, c := range all[max(0, len(all)-failHosts):] {
			kept[r] += c
		}
	}
	return kept
}

func (c *check) headroom(h Headroom) {
	for _, r := range []struct {
		key   string
		share Amount
	}{{"headroom.cpu", h.CPU}, {"headroom.memory", h.Memory}} {
		switch {
		case r.share == Amount{}:
		case !r.share.Percent:
			c.add(r.key, "%s is no percentage: write %s%%", r.share, r.share)
		default:
			c.within(r.key, r.share.N, 1, 99)
		}
	}
	c.within("headroom.failHosts", h.FailHosts, 0, maxFailHosts)
}
