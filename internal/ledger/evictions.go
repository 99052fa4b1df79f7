package ledger

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"
)

// Load is what a VM uses on its host, and frees when it is turned off.
type Load struct {
	Host     string `json:"host,omitempty"` // Type:Value
	CPUMHz   int64  `json:"cpuMHz,omitempty"`
	MemoryMB int64  `json:"memoryMB,omitempty"`
}

// Credit is what was freed, or is about to be.
type Credit struct {
	Load
	VM      string    `json:"vm,omitempty"`      // that was evicted; empty: it is still on, or these are several VMs
	At      time.Time `json:"at,omitzero"`       // when it was evicted
	StaysOn bool      `json:"staysOn,omitempty"` // it was throttled
}

// Evicted is a VM that a round turned off or throttled. Without a host it has the load with which it was reserved.
type Evicted struct {
	VM       string    `json:"vm"` // Type:Value
	Host     string    `json:"host,omitempty"`
	CPUMHz   int64     `json:"cpuMHz,omitempty"`
	MemoryMB int64     `json:"memoryMB,omitempty"`
	Time     time.Time `json:"time,omitzero"`     // missing, or ahead of the ledger's: now
	StaysOn  bool      `json:"staysOn,omitempty"` // it was throttled, and may be turned off later
}

// EvictedRequest reports what a round has evicted so far. A VM that is reported again, here or by CompleteRequest,
// counts once: a round evicts a VM once. One that was throttled and is turned off later counts once, too, as turned off.
type EvictedRequest struct {
	Owner   string    `json:"owner"`
	Scope   string    `json:"scope"`
	Evicted []Evicted `json:"evicted"`
}

// RoundEvictions are what the ledger remembers of one round's evictions. Their loads are forgotten when
// they are no longer credited.
type RoundEvictions struct {
	Owner   string    `json:"owner"`
	Scope   string    `json:"scope,omitempty"`
	Evicted []Evicted `json:"evicted"`
}

// FactsRequest asks for what a plan must know about other rounds and earlier ones.
type FactsRequest struct {
	Owner string `json:"owner"`
	Scope string `json:"scope"`
	// UnderWay are those of the VMs the owner has reserved that it evicts whatever the plan says.
	// The others may be chosen anew, and do not count.
	UnderWay []string `json:"underWay,omitempty"`
	// Within is as in AdmitRequest, for owners that were not admitted.
	Within string `json:"within,omitempty"`
	// Restore notes that the owner is a restore, and asks for ActiveAlarms.
	Restore bool `json:"restore,omitempty"`
	// Alarm demands it; empty: none does.
	Alarm string `json:"alarm,omitempty"`
	// NotHeldFor are requests for room whose held rooms do not count: the plan is for them.
	NotHeldFor []string `json:"notHeldFor,omitempty"`
	// Brief asks for Paused and Spares alone. The rest grows with what was evicted in a day.
	Brief bool `json:"brief,omitempty"`
}

// Facts are the answer. VMs are under way that are reserved with a load and not evicted yet.
type Facts struct {
	Now       time.Time      `json:"now"`
	Version   int64          `json:"version"`             // for ReserveRequest.Seen; never 0
	Preempted map[string]int `json:"preempted,omitempty"` // VM → its evictions in the last 24 hours, in any scope
	// Evictions are those of the last 24 hours in this scope and those that overlap it, oldest first; then
	// those under way there, as of now.
	Evictions []Eviction `json:"evictions,omitempty"`
	// Credits are what was evicted in the last minute and what is under way, in any scope; each VM once.
	Credits []Credit `json:"credits,omitempty"`
	// Reserved are the VMs that others hold, in any scope.
	Reserved []string `json:"reserved,omitempty"`
	// Active are the rounds under way in this scope and those that overlap it.
	Active []string `json:"active,omitempty"`
	// ActiveAlarms are the alarms that are active in this scope and those that overlap it; only for a restore.
	ActiveAlarms []ActiveAlarm `json:"standing,omitempty"`
	// HeldRooms are the rooms that were made and are not used yet, in any scope.
	HeldRooms []HeldRoom `json:"heldRooms,omitempty"`
	// Paused says in words why nothing may begin; empty: it may.
	Paused string  `json:"paused,omitempty"`
	Spares []Spare `json:"spares,omitempty"` // the VMs that a person spares, in any scope
}

// Eviction is a VM that was evicted, and when.
type Eviction struct {
	VM   string    `json:"vm"`
	Time time.Time `json:"time"`
}

// Limits on the past evictions that are remembered.
const (
	maxEvictions = 5000
	evictedFor   = recent + time.Hour
	recent       = 24 * time.Hour // what Facts report
	lately       = time.Minute    // what vCenter's statistics may not show yet
)

// Evicted records what a round evicted.
func (s *State) Evicted(now time.Time, r EvictedRequest) {
	if len(r.Evicted) == 0 {
		return
	}
	i := slices.IndexFunc(s.Evictions, func(e RoundEvictions) bool { return e.Owner == r.Owner })
	if i < 0 {
		i = len(s.Evictions)
		s.Evictions = append(s.Evictions, RoundEvictions{Owner: r.Owner, Scope: r.Scope})
	}
	round := &s.Evictions[i]
	told := make(map[string]int, len(round.Evicted)+len(r.Evicted)) // its place, from 1
	for i, e := range round.Evicted {
		told[e.VM] = i + 1
	}
	news := false
	for _, e := range r.Evicted {
		at := told[e.VM]
		if at > 0 && !round.Evicted[at-1].stepsUpTo(e) {
			continue
		}
		load, reserved := s.Loads[e.VM]
		reserved = reserved && s.Reserved[e.VM] == r.Owner
		if reserved && e.Host == "" {
			e.Host, e.CPUMHz, e.MemoryMB = load.Host, load.CPUMHz, load.MemoryMB
		}
		if e.Time.IsZero() || e.Time.After(now) {
			e.Time = now
		}
		told[e.VM] = round.put(at, e)
		news = news || !reserved // an eviction under way was counted already
	}
	if news {
		s.change(round.Scope)
	}
	s.forgetEvictions(now)
}

// stepsUpTo reports whether a VM that was throttled is turned off by now.
func (e Evicted) stepsUpTo(next Evicted) bool { return e.StaysOn && !next.StaysOn }

// put replaces the eviction at the place, from 1, or appends it where there is none, and returns its place.
func (r *RoundEvictions) put(at int, e Evicted) int {
	if at > 0 {
		r.Evicted[at-1] = e
		return at
	}
	r.Evicted = append(r.Evicted, e)
	return len(r.Evicted)
}

// Facts returns what a plan must know.
func (s *State) Facts(now time.Time, r FactsRequest) Facts {
	s.Version = max(s.Version, 1)
	s.learn(r.Scope, r.Within)
	f := Facts{Now: now, Version: s.Version, Spares: s.spared(now)}
	if p, ok := s.paused(now, r.Scope, r.Alarm); ok {
		f.Paused = p.Words()
	}
	if r.Brief {
		return f
	}
	f.Preempted, f.HeldRooms = map[string]int{}, s.heldRooms(r.NotHeldFor)
	if r.Restore {
		s.restores(now, r.Owner, r.Scope)
		f.ActiveAlarms = append(s.pausesIn(now, r.Scope), s.activeIn(r.Scope)...)
	}
	done, freed := s.evicted(now, r.Scope, &f)
	for _, sc := range s.overlapping(r.Scope) {
		if sc.Active != "" {
			f.Active = append(f.Active, sc.Active)
		}
	}
	s.evictionsUnderWay(now, r, &f, done, freed)
	f.Credits = credits(freed)
	return f
}

// act is an eviction: who evicted which VM.
type act struct{ owner, vm string }

// evicted adds the evictions of the last 24 hours to the facts, and returns which there were and what they free.
func (s *State) evicted(now time.Time, scope string, f *Facts) (done map[act]bool, freed map[string]Credit) {
	done, freed = map[act]bool{}, map[string]Credit{}
	for _, round := range s.Evictions {
		for _, e := range round.Evicted {
			done[act{round.Owner, e.VM}] = true
			age := now.Sub(e.Time)
			if age >= recent {
				continue
			}
			f.Preempted[e.VM]++
			if s.overlaps(round.Scope, scope) {
				f.Evictions = append(f.Evictions, Eviction{VM: e.VM, Time: e.Time})
			}
			if age < lately && e.Host != "" {
				freed[e.VM] = Credit{Load: Load{Host: e.Host, CPUMHz: e.CPUMHz, MemoryMB: e.MemoryMB}, VM: e.VM, At: e.Time, StaysOn: e.StaysOn}
			}
		}
	}
	slices.SortStableFunc(f.Evictions, func(a, b Eviction) int { return a.Time.Compare(b.Time) })
	return done, freed
}

// evictionsUnderWay adds the VMs that others have reserved to the facts, and the evictions that are reserved and not done.
func (s *State) evictionsUnderWay(now time.Time, r FactsRequest, f *Facts, done map[act]bool, freed map[string]Credit) {
	scopes := s.activeScopes()
	underWay := make(map[string]bool, len(r.UnderWay))
	for _, vm := range r.UnderWay {
		underWay[vm] = true
	}
	for _, vm := range workflow.DeterministicKeys(s.Reserved) {
		owner := s.Reserved[vm]
		if owner != r.Owner {
			f.Reserved = append(f.Reserved, vm)
		} else if !underWay[vm] {
			continue
		}
		load, goes := s.Loads[vm]
		if !goes || done[act{owner, vm}] {
			continue
		}
		if s.overlaps(scopes[owner], r.Scope) {
			f.Evictions = append(f.Evictions, Eviction{VM: vm, Time: now})
		}
		freed[vm] = Credit{Load: load}
	}
}

// comeBack forgets what VMs have freed that a restore is about to power on, because they will use it again.
func (s *State) comeBack(vms []string) {
	back := make(map[string]bool, len(vms))
	for _, vm := range vms {
		back[vm] = true
	}
	for _, round := range s.Evictions {
		for i := range round.Evicted {
			if e := &round.Evicted[i]; back[e.VM] {
				e.Host, e.CPUMHz, e.MemoryMB = "", 0, 0
			}
		}
	}
}

// maxCredits is the largest number of credits that are listed VM by VM. More are added up per host.
const maxCredits = 1000

func credits(freed map[string]Credit) (all []Credit) {
	hosts := map[string]Load{}
	for _, vm := range workflow.DeterministicKeys(freed) {
		load := freed[vm]
		if all = append(all, load); len(freed) > maxCredits {
			sum := hosts[load.Host]
			hosts[load.Host] = Load{Host: load.Host, CPUMHz: sum.CPUMHz + load.CPUMHz, MemoryMB: sum.MemoryMB + load.MemoryMB}
		}
	}
	if len(freed) <= maxCredits {
		return all
	}
	all = nil
	for _, host := range workflow.DeterministicKeys(hosts) {
		all = append(all, Credit{Load: hosts[host]})
	}
	return all
}

// activeScopes returns the scope of every owner that is active in one. An owner without a scope has "", and so
// concerns all scopes.
func (s *State) activeScopes() map[string]string {
	scopes := map[string]string{}
	for _, key := range workflow.DeterministicKeys(s.Scopes) {
		if owner := s.Scopes[key].Active; owner != "" {
			scopes[owner] = key
		}
	}
	return scopes
}

// change records that earlier plans for this scope, or for one that overlaps it, may be out of date.
func (s *State) change(key string) {
	s.Version++
	if sc := s.Scopes[key]; sc != nil {
		sc.Changed = s.Version
	} else {
		s.Changed = s.Version
	}
}

// reservationChanged records a change of what an owner holds. If the owner is active in no scope, the change
// matters to plans only if VMs are to be evicted: budgets do not count VMs that remediation or restore hold.
func (s *State) reservationChanged(owner string, goes bool) {
	if key, active := s.activeScopes()[owner]; active || goes {
		s.change(key)
	}
}

// stale reports whether a plan was made from facts that have changed since.
func (s *State) stale(r ReserveRequest) bool {
	if r.Seen == 0 {
		return false
	}
	if r.Seen > s.Version || r.Seen < s.Changed { // the first: a version of an earlier ledger
		return true
	}
	return slices.ContainsFunc(s.overlapping(r.Scope), func(sc *Scope) bool { return r.Seen < sc.Changed })
}

// forgetEvictions drops the evictions that are too old to matter, and the oldest of too many.
func (s *State) forgetEvictions(now time.Time) {
	s.dropEvictions(func(e Evicted) bool { return now.Sub(e.Time) > evictedFor })
	var times []time.Time
	for _, round := range s.Evictions {
		for i := range round.Evicted {
			e := &round.Evicted[i]
			if now.Sub(e.Time) > lately {
				e.Host, e.CPUMHz, e.MemoryMB = "", 0, 0
			}
			times = append(times, e.Time)
		}
	}
	over := len(times) - maxEvictions
	if over <= 0 {
		return
	}
	slices.SortFunc(times, time.Time.Compare)
	last := times[over-1]
	ties := over - slices.IndexFunc(times, last.Equal)
	s.dropEvictions(func(e Evicted) bool {
		if ties > 0 && e.Time.Equal(last) {
			ties--
			return true
		}
		return e.Time.Before(last)
	})
}

func (s *State) dropEvictions(drop func(Evicted) bool) {
	for i := range s.Evictions {
		s.Evictions[i].Evicted = slices.DeleteFunc(s.Evictions[i].Evicted, drop)
	}
	s.Evictions = slices.DeleteFunc(s.Evictions, func(r RoundEvictions) bool { return len(r.Evicted) == 0 })
}
