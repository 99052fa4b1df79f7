package ledger

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"
)

// ActiveRequest replaces the scopes in which an intake's alarm is active. Without scopes the alarm is no longer
// active anywhere.
type ActiveRequest struct {
	Owner  string   `json:"owner"` // workflow id of the intake
	Alarm  string   `json:"alarm,omitempty"`
	Scopes []string `json:"scopes,omitempty"`
	// For says whom the owner makes room for, where it is no intake: its scope is kept from restores as an alarm's is. Rooms
	// are those that are made and not used yet.
	For   string     `json:"for,omitempty"`
	Rooms []HeldRoom `json:"rooms,omitempty"`
	// Within is, by host among the scopes, as in AdmitRequest.
	Within map[string]string `json:"within,omitempty"`
}

// ActiveAnswer names the restores under way in scopes that overlap what the request added.
type ActiveAnswer struct {
	Restores []string `json:"restores,omitempty"`
}

// ActiveAlarm is one alarm that is active in a scope.
type ActiveAlarm struct {
	Owner string    `json:"owner,omitempty"` // workflow id of its intake
	Alarm string    `json:"alarm,omitempty"`
	Scope string    `json:"scope"`
	Since time.Time `json:"since"`
	// For and Rooms are as in ActiveRequest.
	For   string     `json:"for,omitempty"`
	Rooms []HeldRoom `json:"rooms,omitempty"`
	// Paused says in words who holds it up; then there is no alarm.
	Paused string `json:"paused,omitempty"`
}

// Restoring is a restore that plans in a scope, and when it last did.
type Restoring struct {
	Scope string    `json:"scope,omitempty"`
	Seen  time.Time `json:"seen"`
}

// Limits on the active alarms and restores that are remembered. A restore under way plans every few minutes.
const (
	maxActive       = 1000 // intakes
	maxActiveScopes = 100  // of one intake
	restoringFor    = time.Hour
)

// SetActive replaces the scopes in which an intake's alarm is active.
func (s *State) SetActive(now time.Time, r ActiveRequest) ActiveAnswer {
	for _, host := range workflow.DeterministicKeys(r.Within) {
		s.learn(host, r.Within[host])
	}
	before := s.Demands[r.Owner]
	var after []ActiveAlarm
	var fresh []string
	for _, scope := range r.Scopes[:min(len(r.Scopes), maxActiveScopes)] {
		i := slices.IndexFunc(before, func(d ActiveAlarm) bool { return d.Scope == scope })
		if i >= 0 {
			d := before[i]
			d.For, d.Rooms = r.For, r.Rooms
			after = append(after, d)
			continue
		}
		after = append(after, ActiveAlarm{Alarm: r.Alarm, Scope: scope, Since: now, For: r.For, Rooms: r.Rooms})
		fresh = append(fresh, scope)
	}
	s.setDemands(r.Owner, after)
	return ActiveAnswer{Restores: s.restoresIn(now, fresh...)}
}

// stands adds one scope in which an intake's alarm is active.
func (s *State) stands(now time.Time, owner, alarm, scope string) {
	known := s.Demands[owner]
	if slices.ContainsFunc(known, func(d ActiveAlarm) bool { return d.Scope == scope }) || len(known) >= maxActiveScopes {
		return
	}
	s.setDemands(owner, append(slices.Clone(known), ActiveAlarm{Alarm: alarm, Scope: scope, Since: now}))
}

func (s *State) setDemands(owner string, list []ActiveAlarm) {
	if len(list) == 0 {
		delete(s.Demands, owner)
		return
	}
	if s.Demands == nil {
		s.Demands = map[string][]ActiveAlarm{}
	}
	s.Demands[owner] = list
	for len(s.Demands) > maxActive {
		oldest := ""
		for _, o := range workflow.DeterministicKeys(s.Demands) {
			if oldest == "" || s.Demands[o][0].Since.Before(s.Demands[oldest][0].Since) {
				oldest = o
			}
		}
		delete(s.Demands, oldest)
	}
}

// activeIn returns the alarms that are active in scopes that overlap this one.
func (s *State) activeIn(scope string) (list []ActiveAlarm) {
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
