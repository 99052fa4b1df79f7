package ledger

import "time"

// Holding is what a running round holds, read from the round itself.
type Holding struct {
	Owner     string
	RequestID string // under which it was admitted
	Scope     string
	Rank      int
	Since     time.Time
	VMs       []string
	Loads     map[string]Load
}

// Rejoin adds what a running round holds to a state that may lack it, as after a loss. What the state already has
// is kept.
func (s *State) Rejoin(h Holding) {
	s.learn(h.Scope, WithinUnknown)
	if sc := s.scope(h.Scope); sc.Active == "" {
		sc.Active, sc.ActiveSince, sc.ActiveRank = h.Owner, h.Since, h.Rank
	}
	if s.Reserved == nil {
		s.Reserved = map[string]string{}
	}
	if s.Loads == nil {
		s.Loads = map[string]Load{}
	}
	for _, vm := range h.VMs {
		if s.Reserved[vm] != "" {
			continue
		}
		s.Reserved[vm] = h.Owner
		if load, ok := h.Loads[vm]; ok {
			s.Loads[vm] = load
		}
	}
	for _, seen := range s.Seen {
		if seen.RequestID == h.RequestID {
			return
		}
	}
	s.Seen = append(s.Seen, Seen{RequestID: h.RequestID, Owner: h.Owner, Time: h.Since})
}

// Doubt makes every plan so far stale, because its facts may be incomplete.
func (s *State) Doubt() {
	s.Version++
	s.Changed = s.Version
	s.FlightVersion++
}
