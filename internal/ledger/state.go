// Package ledger remembers what holds across workflows: which round is active in which scope, which VM
// is reserved by which workflow, the cooldown of each scope, the requests that were already acted on, who
// was evicted lately, and who was resized, reconfigured or moved. One ledger workflow serves one task queue,
// and so one vCenter. It decides nothing about VMs.
package ledger

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// Verdict is the ledger's answer to a request for a round.
type Verdict string

// The verdicts.
const (
	Granted   Verdict = "granted"   // the round may start
	Duplicate Verdict = "duplicate" // the request was acted on before
	Busy      Verdict = "busy"      // another round is under way in this scope
	Cooldown  Verdict = "cooldown"  // too soon after the last round of this scope
	TooMany   Verdict = "too_many"  // as many rooms as may be were made in the last hour
	Paused    Verdict = "paused"    // a person holds up what is demanded
)

// AdmitRequest asks whether a round may start.
type AdmitRequest struct {
	RequestID string `json:"requestID"` // a repeated id is a duplicate
	Scope     string `json:"scope"`     // Type:Value; empty: everything tagged, which overlaps every scope
	Owner     string `json:"owner"`     // workflow id of the round
	Rank      int    `json:"rank"`      // the criticality's rank: a raise above what was acted on overrides the cooldown
	// Within is the cluster of a host, WithinUnknown if that is unknown, "" if it is in none.
	Within string `json:"within,omitempty"`
	// Intake is the workflow id of the intake whose Alarm is active in the scope, whatever the answer; empty: nobody
	// keeps demanding it, as after a person's request.
	Intake string `json:"intake,omitempty"`
	Alarm  string `json:"alarm,omitempty"` // that demands it; empty: none does
	// NoCooldown lets the round start although the scope was preempted a short time ago: cooldowns are for alarms.
	NoCooldown bool `json:"noCooldown,omitempty"`
	// Rooms is how many rooms the round is to begin, of at most RoomsPerHour; 0: none, or any number.
	Rooms        int `json:"rooms,omitempty"`
	RoomsPerHour int `json:"roomsPerHour,omitempty"`
}

// Admission is the answer.
type Admission struct {
	Verdict Verdict   `json:"verdict"`
	Owner   string    `json:"owner,omitempty"`  // the round that is active, or that acted on the request before
	Rank    int       `json:"rank,omitempty"`   // with Busy: the active round's rank; with Cooldown: what was acted on
	Until   time.Time `json:"until,omitzero"`   // with Cooldown, Paused: when it ends; with TooMany: when another room may be made
	Reason  string    `json:"reason,omitempty"` // with Paused: what is paused, by whom, for how long and why
	Rooms   int       `json:"rooms,omitempty"`  // with TooMany: how many may be made now
	// Restores are under way in scopes that overlap this one. The caller stops them before the round starts. There are
	// none where the round does not start and no alarm stays active, as when a request is repeated after its round.
	Restores []string `json:"restores,omitempty"`
}

// ReserveRequest asks for VMs to be reserved for one workflow. It replaces what the owner held before.
type ReserveRequest struct {
	Owner string   `json:"owner"`
	VMs   []string `json:"vms"` // Type:Value
	// Loads are what the VMs use that are to be evicted.
	Loads map[string]Load `json:"loads,omitempty"`
	// Seen is the Version of the Facts that the plan was made from; zero: none. The answer is Stale if the
	// facts about Scope, or about one that overlaps it, have changed since. Plans bound by budgets that span
	// scopes, such as those of application groups, leave Scope empty: it overlaps all.
	Seen  int64  `json:"seen,omitempty"`
	Scope string `json:"scope,omitempty"`
}

// Reservation is the answer: all or nothing. Conflicts name the VMs that others hold.
type Reservation struct {
	Granted   bool     `json:"granted"`
	Conflicts []string `json:"conflicts,omitempty"`
	Stale     bool     `json:"stale,omitempty"` // plan again, from new Facts
}

// CompleteRequest ends a round's hold on its scope and VMs.
type CompleteRequest struct {
	Owner     string        `json:"owner"`
	Scope     string        `json:"scope"`
	Preempted int           `json:"preempted"` // a round that preempted nothing starts no cooldown
	Rank      int           `json:"rank"`
	Cooldown  time.Duration `json:"cooldown"`
	Evicted   []Evicted     `json:"evicted,omitempty"` // all VMs of the round, reported before or not
	// Rooms are made, and held from now on by HeldBy, until that says otherwise.
	Rooms  []HeldRoom `json:"rooms,omitempty"`
	HeldBy string     `json:"heldBy,omitempty"`
}

// Scope is what the ledger remembers of one scope.
type Scope struct {
	Active      string    `json:"active,omitempty"` // workflow id of the round under way
	ActiveSince time.Time `json:"activeSince,omitzero"`
	ActiveRank  int       `json:"activeRank,omitempty"`
	ActiveAlarm string    `json:"activeAlarm,omitempty"` // that demands it
	LastOwner   string    `json:"lastOwner,omitempty"`   // the last round that completed
	Until       time.Time `json:"until,omitzero"`        // end of the cooldown
	HighestRank int       `json:"highestRank,omitempty"` // highest rank acted on since the cooldown began
	Changed     int64     `json:"changed,omitempty"`     // the Version in which plans for it last became stale
}

// Seen is a request that was acted on.
type Seen struct {
	RequestID string    `json:"requestID"`
	Owner     string    `json:"owner"`
	Time      time.Time `json:"time"`
	// Dropped means that its owner does not run and had not completed, so it may never have begun. The same request
	// is granted again. The workflow id ensures that a round which did run runs only once.
	Dropped bool `json:"dropped,omitempty"`
}

// State is all that the ledger remembers. It is carried across continue-as-new.
type State struct {
	Scopes   map[string]*Scope `json:"scopes"`
	Within   map[string]string `json:"within,omitempty"` // host → the cluster that it is in
	Reserved map[string]string `json:"reserved"`         // VM → owner
	Seen     []Seen            `json:"seen"`             // oldest first
	Loads    map[string]Load   `json:"loads,omitempty"`  // of the reserved VMs that are to be evicted

	Evictions []RoundEvictions `json:"evictions,omitempty"`
	// Demands are the alarms that are active, by intake; Restores the restores that planned lately, by workflow id.
	Demands  map[string][]ActiveAlarm `json:"demands,omitempty"`
	Restores map[string]Restoring     `json:"restores,omitempty"`
	// Version counts the changes that make plans stale; Changed is the last that concerned every scope.
	Version int64 `json:"version,omitempty"`
	Changed int64 `json:"changed,omitempty"`

	// For remediation: what is being done to reserved VMs; when each VM was last remedied in each way; the times of
	// the last hour's actions (Unix time, oldest first), and the requests (oldest first).
	Holds   map[string]Hold             `json:"holds,omitempty"`
	Acted   map[string]map[string]Acted `json:"acted,omitempty"`
	Actions []int64                     `json:"actions,omitempty"`
	Rooms   []int64                     `json:"rooms,omitempty"` // when the last hour's rooms were begun (Unix time, oldest first)
	Asked   []Asked                     `json:"asked,omitempty"`
	// FlightVersion counts the changes of moves under way.
	// Waiting are the owners that wait for a move, by the source datastore; the first is next.
	Waiting       map[string][]Waiter `json:"waiting,omitempty"`
	FlightVersion int64               `json:"flightVersion,omitempty"`

	Pauses []Pause `json:"pauses,omitempty"`
	Spares []Spare `json:"spares,omitempty"`
}

func (s *State) scope(key string) *Scope {
	if s.Scopes == nil {
		s.Scopes = map[string]*Scope{}
	}
	if s.Scopes[key] == nil {
		s.Scopes[key] = &Scope{}
	}
	return s.Scopes[key]
}

// overlapping returns the scopes that overlap key, in a stable order.
func (s *State) overlapping(key string) []*Scope {
	var out []*Scope
	for _, k := range workflow.DeterministicKeys(s.Scopes) {
		if s.overlaps(k, key) {
			out = append(out, s.Scopes[k])
		}
	}
	return out
}

// Raise records that the active round now acts at a higher rank.
func (s *State) Raise(owner string, rank int) {
	for _, key := range workflow.DeterministicKeys(s.Scopes) {
		if sc := s.Scopes[key]; sc.Active == owner {
			sc.ActiveRank = max(sc.ActiveRank, rank)
		}
	}
}

// Reserve reserves VMs for an owner, replacing what it held; nothing changes if others hold a VM, or if
// the plan is stale.
func (s *State) Reserve(r ReserveRequest) Reservation {
	var conflicts []string
	for _, vm := range r.VMs {
		if owner := s.Reserved[vm]; owner != "" && owner != r.Owner {
			conflicts = append(conflicts, vm)
		}
	}
	if stale := s.stale(r); stale || len(conflicts) > 0 {
		return Reservation{Conflicts: conflicts, Stale: stale}
	}
	s.release(r.Owner)
	if s.Reserved == nil {
		s.Reserved = map[string]string{}
	}
	for _, vm := range r.VMs {
		s.Reserved[vm] = r.Owner
		if load, ok := r.Loads[vm]; ok {
			if s.Loads == nil {
				s.Loads = map[string]Load{}
			}
			s.Loads[vm] = load
		}
	}
	if _, restore := s.Restores[r.Owner]; restore {
		s.comeBack(r.VMs)
	}
	if len(r.VMs) > 0 {
		s.reservationChanged(r.Owner, len(r.Loads) > 0)
	}
	return Reservation{Granted: true}
}

// release frees what an owner holds. Call it before the owner's hold on its scope ends.
func (s *State) release(owner string) {
	var vms []string
	for _, vm := range workflow.DeterministicKeys(s.Reserved) {
		if s.Reserved[vm] == owner {
			vms = append(vms, vm)
		}
	}
	key, active := s.activeScopes()[owner]
	s.releaseVMs(vms, key, active)
}

// releaseVMs frees the VMs of one owner, which is active in the scope of that key, or in none.
func (s *State) releaseVMs(vms []string, key string, active bool) {
	goes := false
	for _, vm := range vms {
		_, load := s.Loads[vm]
		goes = goes || load
		delete(s.Reserved, vm)
		delete(s.Loads, vm)
		s.letGo(vm)
	}
	if len(vms) > 0 && (active || goes) {
		s.change(key)
	}
}

// Complete ends a round. Only the first call of an owner counts for the cooldown.
func (s *State) Complete(now time.Time, r CompleteRequest) {
	s.Evicted(now, EvictedRequest{Owner: r.Owner, Scope: r.Scope, Evicted: r.Evicted})
	s.release(r.Owner)
	s.holdRooms(now, r.HeldBy, r.Scope, r.Rooms)
	sc := s.scope(r.Scope)
	first := sc.LastOwner != r.Owner
	if sc.Active == r.Owner {
		r.Rank = max(r.Rank, sc.ActiveRank)
		sc.end()
	}
	if first && r.Preempted > 0 {
		if now.Before(sc.Until) {
			r.Rank = max(r.Rank, sc.HighestRank)
		}
		sc.LastOwner, sc.Until, sc.HighestRank = r.Owner, now.Add(r.Cooldown), r.Rank
	}
}

// end notes that no round is under way in the scope any more.
func (sc *Scope) end() {
	sc.Active, sc.ActiveSince, sc.ActiveRank, sc.ActiveAlarm = "", time.Time{}, 0, ""
}

// Busy reports whether any workflow holds a scope or a VM.
func (s *State) Busy() bool {
	if len(s.Reserved) > 0 {
		return true
	}
	for _, key := range workflow.DeterministicKeys(s.Scopes) {
		if s.Scopes[key].Active != "" {
			return true
		}
	}
	return false
}

// Owners returns every workflow that holds a scope since before the given time, or a VM.
func (s *State) Owners(before time.Time) []string {
	young, found := map[string]bool{}, map[string]bool{}
	for _, key := range workflow.DeterministicKeys(s.Scopes) {
		switch sc := s.Scopes[key]; {
		case sc.Active == "":
		case sc.ActiveSince.Before(before):
			found[sc.Active] = true
		default:
			young[sc.Active] = true
		}
	}
	for _, vm := range workflow.DeterministicKeys(s.Reserved) {
		if owner := s.Reserved[vm]; !young[owner] {
			found[owner] = true
		}
	}
	return workflow.DeterministicKeys(found)
}

// Drop releases all that closed owners held.
// With begin, their requests may be granted again: the worker that was to start the round may have died.
func (s *State) Drop(owners []string, begin bool) {
	closed := make(map[string]bool, len(owners))
	for _, owner := range owners {
		closed[owner] = true
	}
	for i := range s.Seen {
		if begin && closed[s.Seen[i].Owner] {
			s.Seen[i].Dropped = true
		}
	}
	held := map[string][]string{}
	for _, vm := range workflow.DeterministicKeys(s.Reserved) {
		if owner := s.Reserved[vm]; closed[owner] {
			held[owner] = append(held[owner], vm)
		}
	}
	scopes := map[string][]string{}
	for _, key := range workflow.DeterministicKeys(s.Scopes) {
		if owner := s.Scopes[key].Active; closed[owner] {
			scopes[owner] = append(scopes[owner], key)
		}
	}
	for _, owner := range owners {
		last, active := "", false
		for _, key := range scopes[owner] {
			last, active = key, true
		}
		s.releaseVMs(held[owner], last, active)
		delete(held, owner)
		for _, key := range scopes[owner] {
			s.Scopes[key].end()
		}
		delete(scopes, owner)
	}
}
