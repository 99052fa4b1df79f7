package ledger

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// Limits on the past requests that are remembered.
const (
	maxSeen = 2000
	seenFor = 24 * time.Hour
)

// forget drops old entries.
func (s *State) forget(now time.Time) {
	old := 0
	for old < len(s.Seen) && (len(s.Seen)-old > maxSeen || now.Sub(s.Seen[old].Time) > seenFor) {
		old++
	}
	s.Seen = s.Seen[old:]
	s.forgetEvictions(now)
	s.forgetHeldUp(now)
	for _, key := range workflow.DeterministicKeys(s.Scopes) {
		if sc := s.Scopes[key]; sc.Active == "" && now.Sub(sc.Until) > seenFor {
			s.Changed = max(s.Changed, sc.Changed)
			delete(s.Scopes, key)
		}
	}
	s.forgetWithin()
}
