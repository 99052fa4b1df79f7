package intake

import (
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// Shift says what a change did to the highest level of its scope.
type Shift string

// The shifts.
const (
	ShiftNone Shift = "none" // repeated, late, or hidden below another entity's level
	ShiftRise Shift = "rise" // higher than before, or risen again after a fall that nobody told us of
	ShiftFall Shift = "fall" // lower than before
	ShiftGray Shift = "gray" // unknown now: everything holds
)

// Levels keeps the level of every entity in alarm. It is pure: time is passed in.
type Levels struct {
	Entities []preemptapi.Level `json:"entities,omitempty"`

	at    map[levelKey]int       // where each is in Entities
	ranks map[string]map[int]int // of each scope, how many have a rank
}

type levelKey struct{ alarm, entity, scope string }

// index finds the entities again after they came from elsewhere, or one was taken out.
func (l *Levels) index() {
	if l.at != nil && len(l.at) == len(l.Entities) {
		return
	}
	l.at, l.ranks = make(map[levelKey]int, len(l.Entities)), map[string]map[int]int{}
	for i, e := range l.Entities {
		l.at[levelKey{e.Alarm, e.Entity, e.Scope}] = i
		l.rankOf(e.Scope)[e.Rank]++
	}
}

func (l *Levels) rankOf(scope string) map[int]int {
	if l.ranks[scope] == nil {
		l.ranks[scope] = map[int]int{}
	}
	return l.ranks[scope]
}

// setRank changes how hard an entity asks to act.
func (l *Levels) setRank(e *preemptapi.Level, rank int) {
	ranks := l.rankOf(e.Scope)
	if ranks[e.Rank]--; ranks[e.Rank] <= 0 {
		delete(ranks, e.Rank)
	}
	e.Rank = rank
	ranks[rank]++
}

// maxLevels bounds how many entities are remembered; the oldest that are not in alarm go first.
const maxLevels = 2000

// Highest returns the highest rank in the scope.
func (l *Levels) Highest(scope string) (rank int) {
	l.index()
	for _, r := range workflow.DeterministicKeys(l.ranks[scope]) {
		rank = max(rank, r)
	}
	return rank
}

// AllGray reports whether every entity that still asks to act in the scope is of unknown colour.
func (l *Levels) AllGray(scope string) bool {
	found := false
	for _, e := range l.Entities {
		if e.Scope == scope && e.Rank > 0 {
			found = true
			if e.Gray.IsZero() {
				return false
			}
		}
	}
	return found
}

// Active returns the levels that still ask to act.
func (l *Levels) Active() []preemptapi.Level {
	var out []preemptapi.Level
	for _, e := range l.Entities {
		if e.Rank > 0 {
			out = append(out, e)
		}
	}
	return out
}

// Apply records a change and tells what it did to its scope. A change that is not newer than what is
// known of its entity changes nothing.
func (l *Levels) Apply(c preemptapi.Change, from string, rank int) Shift {
	i := l.find(c)
	if i >= 0 && !newer(c, l.Entities[i]) {
		return ShiftNone
	}
	return l.set(c, from, rank)
}

// ApplyAt is Apply for a vCenter whose clock may have been corrected, see alarm.After.
func (l *Levels) ApplyAt(now time.Time, c preemptapi.Change, from string, rank int) Shift {
	i := l.find(c)
	if i >= 0 && !after(c, l.Entities[i], now) {
		return ShiftNone
	}
	return l.set(c, from, rank)
}

// Disputed reports whether Apply and ApplyAt differ about a change.
func (l *Levels) Disputed(now time.Time, c preemptapi.Change) bool {
	i := l.find(c)
	return i >= 0 && newer(c, l.Entities[i]) != after(c, l.Entities[i], now)
}

func after(c preemptapi.Change, known preemptapi.Level, now time.Time) bool {
	return alarm.After(c.EventKey, c.Time, known.EventKey, known.Time, now)
}

// set records a change that is newer than what is known.
func (l *Levels) set(c preemptapi.Change, from string, rank int) Shift {
	i := l.find(c)
	before := l.Highest(c.Scope)
	if i < 0 {
		l.Entities = append(l.Entities, preemptapi.Level{Alarm: c.Alarm, Entity: c.Entity, Scope: c.Scope})
		i = len(l.Entities) - 1
		l.at[levelKey{c.Alarm, c.Entity, c.Scope}] = i
		l.rankOf(c.Scope)[0]++
	}
	e := &l.Entities[i]
	if c.To == alarm.Gray {
		if e.Rank == 0 {
			e.Colour, e.Time, e.EventKey = c.To, c.Time, c.EventKey
			return ShiftNone
		}
		e.Colour, e.Time, e.EventKey, e.Gray = c.To, c.Time, c.EventKey, c.Time
		return ShiftGray
	}
	again := e.Rank > 0 && e.Gray.IsZero() && alarm.Rank(from) < alarm.Rank(e.Colour) && alarm.Rank(c.To) >= alarm.Rank(e.Colour)
	e.Colour, e.Time, e.EventKey, e.Gray = c.To, c.Time, c.EventKey, time.Time{}
	if alarm.Rank(c.To) < alarm.Rank(alarm.Yellow) {
		l.setRank(e, 0)
	} else {
		l.setRank(e, rank)
	}
	after := l.Highest(c.Scope)
	l.bound()
	switch {
	case after > before, again && rank >= after:
		return ShiftRise
	case after < before:
		return ShiftFall
	}
	return ShiftNone
}

// GrayEnd returns when the first unknown level counts as fallen; ok is false where none is unknown.
func (l *Levels) GrayEnd(timeout time.Duration) (end time.Time, ok bool) {
	for _, e := range l.Entities {
		if e.Rank == 0 || e.Gray.IsZero() {
			continue
		}
		if t := e.Gray.Add(timeout); !ok || t.Before(end) {
			end, ok = t, true
		}
	}
	return end, ok
}

// ExpireGray lets every level fall that was unknown for too long, and returns the scopes that fell.
func (l *Levels) ExpireGray(now time.Time, timeout time.Duration) (fallen []string) {
	l.index()
	for i := range l.Entities {
		e := &l.Entities[i]
		if e.Rank == 0 || e.Gray.IsZero() || now.Before(e.Gray.Add(timeout)) {
			continue
		}
		before := l.Highest(e.Scope)
		l.setRank(e, 0)
		e.Gray = time.Time{}
		if l.Highest(e.Scope) < before {
			fallen = append(fallen, e.Scope)
		}
	}
	return fallen
}

// ClearScope lets every level of a scope fall.
func (l *Levels) ClearScope(scope string) {
	l.index()
	for i := range l.Entities {
		if e := &l.Entities[i]; e.Scope == scope {
			l.setRank(e, 0)
			e.Gray = time.Time{}
		}
	}
}

// Clear lets every level fall.
func (l *Levels) Clear() {
	for i := range l.Entities {
		l.Entities[i].Rank, l.Entities[i].Gray = 0, time.Time{}
	}
	l.at = nil
}

func (l *Levels) find(c preemptapi.Change) int {
	l.index()
	if i, ok := l.at[levelKey{c.Alarm, c.Entity, c.Scope}]; ok {
		return i
	}
	return -1
}

// newer reports whether the change happened after what is known: by vCenter's time, then by event key.
func newer(c preemptapi.Change, known preemptapi.Level) bool {
	if d := c.Time.Compare(known.Time); d != 0 {
		return d > 0
	}
	return c.EventKey > known.EventKey
}

func (l *Levels) bound() {
	for len(l.Entities) > maxLevels {
		oldest := 0
		for i, e := range l.Entities {
			if e.Rank == 0 && (l.Entities[oldest].Rank > 0 || e.Time.Before(l.Entities[oldest].Time)) {
				oldest = i
			}
		}
		l.Entities = append(l.Entities[:oldest], l.Entities[oldest+1:]...)
		l.at = nil
	}
}

// colourCriticality is what a colour means where the rule does not say otherwise.
func colourCriticality(colour string) preemption.Criticality {
	switch colour {
	case alarm.Red:
		return preemption.CriticalityHigh
	case alarm.Yellow:
		return preemption.CriticalityMedium
	}
	return preemption.CriticalityLow
}
