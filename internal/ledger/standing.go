package ledger

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"
)

// StandingRequest replaces the scopes in which an intake's alarm is active. Without scopes the alarm is no longer
// active anywhere.
type StandingRequest struct {
	Owner  string   `json:"owner"` // workflow id of the intake
	Alarm  string   `json:"alarm,omitempty"`
	Scopes []string `json:"scopes,omitempty"`
	// Within is, by host among the scopes, as in AdmitRequest.
	Within map[string]string `json:"within,omitempty"`
}

// StandingAnswer names the restores under way in scopes that overlap what the request added.
type StandingAnswer struct {
	Restores []string `json:"restores,omitempty"`
}

// Standing is one alarm that is active in a scope.
type Standing struct {
	Owner string    `json:"owner,omitempty"` // workflow id of its intake
	Alarm string    `json:"alarm,omitempty"`
	Scope string    `json:"scope"`
	Since time.Time `json:"since"`
}

// Restoring is a restore that plans in a scope, and when it last did.
type Restoring struct {
	Scope string    `json:"scope,omitempty"`
	Seen  time.Time `json:"seen"`
}

// Limits on the active alarms and restores that are remembered. A restore under way plans every few minutes.
const (
	maxStanding       = 1000 // intakes
	maxStandingScopes = 100  // of one intake
	restoringFor      = time.Hour
)

// Stand replaces the scopes in which an intake's alarm is active.
func (s *State) Stand(now time.Time, r StandingRequest) StandingAnswer {
	for _, host := range workflow.DeterministicKeys(r.Within) {
		s.learn(host, r.Within[host])
	}
	before := s.Demands[r.Owner]
	var after []Standing
	var fresh []string
	for _, scope := range r.Scopes[:min(len(r.Scopes), maxStandingScopes)] {
		i := slices.IndexFunc(before, func(d Standing) bool { return d.Scope == scope })
		if i >= 0 {
			after = append(after, before[i])
			continue
		}
		after = append(after, Standing{Alarm: r.Alarm, Scope: scope, Since: now})
		fresh = append(fresh, scope)
	}
	s.setDemands(r.Owner, after)
	return StandingAnswer{Restores: s.restoresIn(now, fresh...)}
}

// stands adds one scope in which an intake's alarm is active.
func (s *State) stands(now time.Time, owner, alarm, scope string) {
	known := s.Demands[owner]
	if slices.ContainsFunc(known, func(d Standing) bool { return d.Scope == scope }) || len(known) >= maxStandingScopes {
		return
	}
	s.setDemands(owner, append(slices.Clone(known), Standing{Alarm: alarm, Scope: scope, Since: now}))
}

func (s *State) setDemands(owner string, list []Standing) {
	if len(list) == 0 {
		delete(s.Demands, owner)
		return
	}
	if s.Demands == nil {
		s.Demands = map[string][]Standing{}
	}
	s.Demands[owner] = list
	for len(s.Demands) > maxStanding {
		oldest := ""
		for _, o := range workflow.DeterministicKeys(s.Demands) {
			if oldest == "" || s.Demands[o][0].Since.Before(s.Demands[oldest][0].Since) {
				oldest = o
			}
		}
		delete(s.Demands, oldest)
	}
}

// standing returns the alarms that are active in scopes that overlap this one.
func (s *State) standing(scope string) (list []Standing) {
	for _, owner := range workflow.DeterministicKeys(s.Demands) {
		for _, d := range s.Demands[owner] {
			if s.overlaps(d.Scope, scope) {
				d.Owner = owner
				list = append(list, d)
			}
		}
	}
	return list
}

// restores records that a restore plans in a scope, so that a round there can stop it.
func (s *State) restores(now time.Time, id, scope string) {
	if s.Restores == nil {
		s.Restores = map[string]Restoring{}
	}
	s.Restores[id] = Restoring{Scope: scope, Seen: now}
	for _, other := range workflow.DeterministicKeys(s.Restores) {
		if now.Sub(s.Restores[other].Seen) > restoringFor {
			delete(s.Restores, other)
		}
	}
}

// restoresIn returns the restores that have planned recently in a scope that overlaps one of these.
func (s *State) restoresIn(now time.Time, scopes ...string) (ids []string) {
	for _, id := range workflow.DeterministicKeys(s.Restores) {
		r := s.Restores[id]
		if now.Sub(r.Seen) <= restoringFor && slices.ContainsFunc(scopes, func(scope string) bool { return s.overlaps(scope, r.Scope) }) {
			ids = append(ids, id)
		}
	}
	return ids
}
