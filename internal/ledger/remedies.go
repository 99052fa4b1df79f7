package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// RemedyFactsRequest asks for what a remediation must know about others and earlier ones.
type RemedyFactsRequest struct {
	RequestID string   `json:"requestID,omitempty"` // a duplicate if another run repeats it; an empty id is never one
	By        string   `json:"by,omitempty"`        // the asking run
	PerHour   int      `json:"perHour,omitempty"`   // as in RemedyRequest
	VMs       []string `json:"vms,omitempty"`       // whose Reserved and Last to return; none: all
}

// RemedyFacts are the answer.
type RemedyFacts struct {
	Now       time.Time            `json:"now"`
	Version   int64                `json:"version"` // for RemedyRequest.Seen; never 0
	Duplicate bool                 `json:"duplicate,omitempty"`
	Reserved  map[string]string    `json:"reserved,omitempty"` // VM → owner
	Flights   []placement.Flight   `json:"flights,omitempty"`  // all moves under way
	Last      map[string]time.Time `json:"last,omitempty"`     // LastKey → when the VM was last remedied so
	Actions   int                  `json:"actions"`            // in the last hour, with those under way
	Tripped   time.Time            `json:"tripped,omitzero"`   // until when the circuit breaker allows only recommendations; zero: it is closed
}

// RemedyRequest asks for one VM, to change or move it at once. An owner that waits holds nothing.
type RemedyRequest struct {
	Owner    string        `json:"owner"`           // workflow id
	VM       string        `json:"vm"`              // Type:Value
	Scope    string        `json:"scope,omitempty"` // Type:Value of its cluster; empty: it is not known
	Alarm    string        `json:"alarm,omitempty"` // by which it is caused
	What     string        `json:"what"`            // cpu, memory, reconfigure, move
	Cooldown time.Duration `json:"cooldown,omitempty"`
	PerHour  int           `json:"perHour,omitempty"` // most actions in an hour, on any VMs; 0: any number

	Flight *placement.Flight `json:"flight,omitempty"` // of a move
	// Seen is the Version of the RemedyFacts that the move was chosen from; zero: none.
	Seen int64 `json:"seen,omitempty"`
	// Most moves at once off one datastore, to one host, and of all; 0: any number.
	PerSource int `json:"perSource,omitempty"`
	PerHost   int `json:"perHost,omitempty"`
	AtOnce    int `json:"atOnce,omitempty"`
}

// RemedyGrant is the answer. If nothing is granted, it has one reason.
type RemedyGrant struct {
	Granted bool      `json:"granted"`
	Version int64     `json:"version,omitempty"` // with Granted: for Seen of the owner's next request
	Holder  string    `json:"holder,omitempty"`  // another owner has the VM
	Until   time.Time `json:"until,omitzero"`    // the VM is in its cooldown until then
	Tripped time.Time `json:"tripped,omitzero"`  // until when the circuit breaker allows only recommendations
	Full    string    `json:"full,omitempty"`    // in words, what to wait for: the limit on moves that is reached, who is first, a pause
	Ahead   int       `json:"ahead,omitempty"`   // with Full: how many wait before it for a move off the same datastore
	Stale   bool      `json:"stale,omitempty"`   // the moves under way have changed since Seen: choose again
}

// RemediedRequest ends the hold on one VM.
type RemediedRequest struct {
	Owner string `json:"owner"`
	VM    string `json:"vm"`
	What  string `json:"what"`
	Acted bool   `json:"acted"` // it was changed, or may have been: it counts for the cooldown and the circuit breaker
}

// Hold is what is being done to a VM that is reserved for remediation.
type Hold struct {
	What     string            `json:"what"`
	Cooldown time.Duration     `json:"cooldown,omitempty"`
	Flight   *placement.Flight `json:"flight,omitempty"`
}

// Asked is an earlier request for remediation.
type Asked struct {
	ID string `json:"id"`
	By string `json:"by"`
	At int64  `json:"at"` // Unix time
}

// Acted is when a VM was last remedied in one way, and how long that is remembered, as Unix time and seconds,
// because there may be many.
type Acted [2]int64

func (a Acted) at() time.Time { return time.Unix(a[0], 0).UTC() }

func (a Acted) over(now time.Time) bool { return now.Unix() > a[0]+a[1] }

// Limits on the past remediations that are remembered.
const (
	maxActed   = 5000
	maxActions = 1000 // for the circuit breaker
	actedFor   = 24 * time.Hour
	longestFor = 31 * 24 * time.Hour
)

// LastKey is the key of RemedyFacts.Last.
func LastKey(vm, what string) string { return vm + "|" + what }

// RemedyFacts returns what a remediation must know, and remembers its request.
func (s *State) RemedyFacts(now time.Time, r RemedyFactsRequest) RemedyFacts {
	s.FlightVersion = max(s.FlightVersion, 1)
	actions := s.actions(now, "")
	f := RemedyFacts{
		Now: now, Version: s.FlightVersion, Duplicate: s.ask(now, r), Reserved: map[string]string{}, Last: map[string]time.Time{},
		Actions: len(actions), Tripped: tripped(actions, r.PerHour),
	}
	asked := make(map[string]bool, len(r.VMs))
	for _, vm := range r.VMs {
		asked[vm] = true
	}
	told := func(vm string) bool { return len(asked) == 0 || asked[vm] }
	for _, vm := range workflow.DeterministicKeys(s.Reserved) {
		if told(vm) {
			f.Reserved[vm] = s.Reserved[vm]
		}
	}
	for _, vm := range workflow.DeterministicKeys(s.Acted) {
		if !told(vm) {
			continue
		}
		for _, what := range workflow.DeterministicKeys(s.Acted[vm]) {
			f.Last[LastKey(vm, what)] = s.Acted[vm][what].at()
		}
	}
	for _, vm := range workflow.DeterministicKeys(s.Holds) {
		if flight := s.Holds[vm].Flight; flight != nil {
			f.Flights = append(f.Flights, *flight)
		}
	}
	return f
}

// ask remembers a request, and reports whether it came before by another run.
func (s *State) ask(now time.Time, r RemedyFactsRequest) (duplicate bool) {
	old := 0
	for old < len(s.Asked) && (len(s.Asked)-old > maxSeen || now.Unix()-s.Asked[old].At > int64(seenFor/time.Second)) {
		old++
	}
	s.Asked = s.Asked[old:]
	if r.RequestID == "" {
		return false
	}
	for _, a := range s.Asked {
		if a.ID == r.RequestID {
			return a.By != r.By
		}
	}
	s.Asked = append(s.Asked, Asked{ID: r.RequestID, By: r.By, At: now.Unix()})
	return false
}

// Remedy reserves a VM for an owner that is about to change or move it. If the same owner asks again, it is
// granted again.
func (s *State) Remedy(now time.Time, r RemedyRequest) RemedyGrant {
	s.FlightVersion = max(s.FlightVersion, 1)
	if g, refused := s.heldUp(now, r); refused {
		return g
	}
	if h, ok := s.Holds[r.VM]; ok && h.What == r.What && same(h.Flight, r.Flight) {
		return RemedyGrant{Granted: true, Version: s.FlightVersion}
	}
	if a, ok := s.Acted[r.VM][r.What]; ok {
		s.Acted[r.VM][r.What] = Acted{a[0], max(a[1], remembered(r.Cooldown))}
		if until := a.at().Add(r.Cooldown); now.Before(until) {
			return RemedyGrant{Until: until}
		}
	}
	if until := tripped(s.actions(now, r.VM), r.PerHour); !until.IsZero() {
		return RemedyGrant{Tripped: until}
	}
	if r.Flight != nil {
		if g, refused := s.refuseMove(now, r); refused {
			return g
		}
	}
	s.letGo(r.VM)
	if s.Reserved == nil {
		s.Reserved = map[string]string{}
	}
	if s.Holds == nil {
		s.Holds = map[string]Hold{}
	}
	s.Reserved[r.VM] = r.Owner
	s.Holds[r.VM] = Hold{What: r.What, Cooldown: r.Cooldown, Flight: r.Flight}
	if r.Flight != nil {
		s.FlightVersion++
		s.leave(r.Owner)
	}
	return RemedyGrant{Granted: true, Version: s.FlightVersion}
}

// heldUp reports whether a person has paused everything, the VM's cluster or the alarm, or another owner has the VM. A pause of a
// cluster does not hold up a VM whose cluster is not known, as older workers ask.
func (s *State) heldUp(now time.Time, r RemedyRequest) (g RemedyGrant, refused bool) {
	for _, p := range s.Pauses {
		here := p.Scope == "" || r.Scope != "" && s.overlaps(p.Scope, r.Scope)
		if here && (p.Alarm == "" || p.Alarm == r.Alarm) && !p.Over(now) {
			return RemedyGrant{Full: p.Words()}, true
		}
	}
	if holder := s.Reserved[r.VM]; holder != "" && holder != r.Owner {
		return RemedyGrant{Holder: holder}, true
	}
	return g, false
}

// refuseMove reports whether a move has to wait in line, or was planned from what has changed since.
func (s *State) refuseMove(now time.Time, r RemedyRequest) (g RemedyGrant, refused bool) {
	full, ahead := s.full(r), s.queue(now, r)
	if full == "" && ahead > 0 {
		full = underWay(ahead, "", "waits before it", "wait before it")
	}
	if full != "" {
		return RemedyGrant{Full: full, Ahead: ahead}, true
	}
	stale := r.Seen != 0 && r.Seen != s.FlightVersion
	return RemedyGrant{Stale: stale}, stale
}

func same(a, b *placement.Flight) bool { return a == b || a != nil && b != nil && *a == *b }

// actions are the times of the last hour's actions, oldest first. An action under way counts as one of now, so that
// many that begin together cannot all pass the circuit breaker. The owner but is left out.
func (s *State) actions(now time.Time, but string) []time.Time {
	var times []time.Time
	for _, at := range s.Actions {
		if at := time.Unix(at, 0).UTC(); now.Sub(at) < time.Hour {
			times = append(times, at)
		}
	}
	for _, vm := range workflow.DeterministicKeys(s.Holds) {
		if vm != but {
			times = append(times, now)
		}
	}
	return times
}

// tripped returns when there will be fewer than perHour actions in the last hour; zero: now.
func tripped(actions []time.Time, perHour int) time.Time {
	if perHour <= 0 || len(actions) < perHour {
		return time.Time{}
	}
	return actions[len(actions)-perHour].Add(time.Hour)
}

// full returns the limit on simultaneous moves that is reached.
func (s *State) full(r RemedyRequest) string {
	all, off, to := 0, 0, 0
	for _, vm := range workflow.DeterministicKeys(s.Holds) {
		h := s.Holds[vm]
		if h.Flight == nil || vm == r.VM {
			continue
		}
		all++
		if h.Flight.Source == r.Flight.Source {
			off++
		}
		if h.Flight.Host == r.Flight.Host {
			to++
		}
	}
	switch {
	case r.PerSource > 0 && off >= r.PerSource:
		return underWay(off, " off "+r.Flight.Source.Value, "is under way", "are under way")
	case r.PerHost > 0 && to >= r.PerHost && !r.Flight.Host.Zero():
		return underWay(to, " on "+r.Flight.Host.Value, "is under way", "are under way")
	case r.AtOnce > 0 && all >= r.AtOnce:
		return underWay(all, "", "is under way", "are under way")
	}
	return ""
}

func underWay(n int, where, is, are string) string {
	if n == 1 {
		return "1 move" + where + " " + is
	}
	return fmt.Sprintf("%d moves%s %s", n, where, are)
}

// Waiter is an owner that waits for a move off a datastore.
type Waiter struct {
	Owner string `json:"owner"`
	Heard int64  `json:"heard"` // when it asked last, Unix time
}

// unheardFor is how long an owner that does not ask again keeps its place. At most maxWaiting owners are remembered.
const (
	unheardFor = 5 * time.Minute
	maxWaiting = 500 // off one datastore
)

// queue returns how many wait before an owner for a move off the same datastore. Only the first is next: if all were
// told that there is room, all would plan again, and all but one in vain.
func (s *State) queue(now time.Time, r RemedyRequest) (ahead int) {
	source := r.Flight.Source.String()
	line := slices.DeleteFunc(s.Waiting[source], func(w Waiter) bool {
		return w.Owner != r.Owner && now.Unix()-w.Heard > int64(unheardFor/time.Second)
	})
	ahead = slices.IndexFunc(line, func(w Waiter) bool { return w.Owner == r.Owner })
	if ahead < 0 {
		if ahead = len(line); ahead == maxWaiting {
			return ahead
		}
		line = append(line, Waiter{Owner: r.Owner})
	}
	line[ahead].Heard = now.Unix()
	if s.Waiting == nil {
		s.Waiting = map[string][]Waiter{}
	}
	s.Waiting[source] = line
	return ahead
}

// leave removes an owner from the queues.
func (s *State) leave(owner string) {
	for _, source := range workflow.DeterministicKeys(s.Waiting) {
		line := slices.DeleteFunc(s.Waiting[source], func(w Waiter) bool { return w.Owner == owner })
		if s.Waiting[source] = line; len(line) == 0 {
			delete(s.Waiting, source)
		}
	}
}

// Remedied ends the hold on a VM, and its owner's waiting. A repetition changes nothing.
func (s *State) Remedied(now time.Time, r RemediedRequest) {
	s.leave(r.Owner)
	hold, held := s.Holds[r.VM]
	held = held && s.Reserved[r.VM] == r.Owner
	if _, known := s.Acted[r.VM][r.What]; r.Acted && (held || !known) { // the latter: granted by an earlier ledger
		s.act(now, r, hold.Cooldown)
	}
	if held {
		s.letGo(r.VM)
		delete(s.Reserved, r.VM)
	}
}

// act remembers that a VM was changed or moved.
func (s *State) act(now time.Time, r RemediedRequest, cooldown time.Duration) {
	if s.Acted == nil {
		s.Acted = map[string]map[string]Acted{}
	}
	if s.Acted[r.VM] == nil {
		s.Acted[r.VM] = map[string]Acted{}
	}
	s.Acted[r.VM][r.What] = Acted{now.Unix(), max(s.Acted[r.VM][r.What][1], remembered(cooldown))}
	s.Actions = slices.DeleteFunc(append(s.Actions, now.Unix()), func(at int64) bool { return now.Unix()-at > int64(time.Hour/time.Second) })
	s.Actions = s.Actions[max(0, len(s.Actions)-maxActions):]
	s.forgetActed(now)
}

// remembered returns how long an action is remembered, in seconds.
func remembered(cooldown time.Duration) int64 {
	return int64(min(max(cooldown, actedFor), longestFor) / time.Second)
}

// forgetActed drops the actions that no longer delay others, and the oldest of too many.
func (s *State) forgetActed(now time.Time) {
	type action struct {
		vm, what string
		at       int64
	}
	var left []action
	for _, vm := range workflow.DeterministicKeys(s.Acted) {
		for _, what := range workflow.DeterministicKeys(s.Acted[vm]) {
			if a := s.Acted[vm][what]; a.over(now) {
				s.unact(vm, what)
			} else {
				left = append(left, action{vm, what, a[0]})
			}
		}
	}
	slices.SortStableFunc(left, func(a, b action) int { return cmp.Compare(a.at, b.at) })
	for _, a := range left[:max(0, len(left)-maxActed)] {
		s.unact(a.vm, a.what)
	}
}

func (s *State) unact(vm, what string) {
	delete(s.Acted[vm], what)
	if len(s.Acted[vm]) == 0 {
		delete(s.Acted, vm)
	}
}

// letGo forgets the action on a VM.
func (s *State) letGo(vm string) {
	if s.Holds[vm].Flight != nil {
		s.FlightVersion++
	}
	delete(s.Holds, vm)
}
