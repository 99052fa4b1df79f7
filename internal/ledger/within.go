package ledger

import (
	"strings"

	"go.temporal.io/sdk/workflow"
)

// WithinUnknown stands for the cluster of a host if that is unknown: it may be any cluster.
const WithinUnknown = "unknown"

// learn records the cluster of a host. A host without this information overlaps no cluster, as in recorded histories.
func (s *State) learn(scope, within string) {
	if within == "" || !strings.HasPrefix(scope, usualHost) {
		return
	}
	if s.Within == nil {
		s.Within = map[string]string{}
	}
	if within != WithinUnknown || s.Within[scope] == "" {
		s.Within[scope] = within
	}
}

// overlaps reports whether two scopes share VMs: everything overlaps all scopes, and a host overlaps its cluster.
func (s *State) overlaps(a, b string) bool {
	return a == b || a == "" || b == "" || s.isWithin(a, b) || s.isWithin(b, a)
}

func (s *State) isWithin(host, cluster string) bool {
	switch within := s.Within[host]; within {
	case "":
		return false
	case WithinUnknown:
		return !strings.HasPrefix(cluster, usualHost) && !strings.HasPrefix(cluster, usualVM)
	default:
		return within == cluster
	}
}

// forgetWithin drops hosts that have no other entry.
func (s *State) forgetWithin() {
	if len(s.Within) == 0 {
		return
	}
	known := map[string]bool{}
	for _, round := range s.Evictions {
		known[round.Scope] = true
	}
	for _, owner := range workflow.DeterministicKeys(s.Demands) {
		for _, d := range s.Demands[owner] {
			known[d.Scope] = true
		}
	}
	for _, owner := range workflow.DeterministicKeys(s.Demands) {
		for _, d := range s.Demands[owner] {
			known[d.Scope] = true
		}
	}
	for _, id := range workflow.DeterministicKeys(s.Restores) {
		known[s.Restores[id].Scope] = true
	}
	for _, host := range workflow.DeterministicKeys(s.Within) {
		if s.Scopes[host] == nil && !known[host] {
			delete(s.Within, host)
		}
	}
}
