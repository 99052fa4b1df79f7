package preempt

import (
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
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
	Entities []Level `json:"entities,omitempty"`
}

// maxLevels bounds how many entities are remembered; the oldest that are not in alarm go first.
const maxLevels = 2000

// Highest returns the highest rank in the scope.
func (l *Levels) Highest(scope string) (rank int) {
	for _, e := range l.Entities {
		if e.Scope == scope {
			rank = max(rank, e.Rank)
		}
	}
	return rank
}

// AllGray tells whether every entity that still asks to act in the scope is of unknown colour.
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

// Standing returns the levels that still ask to act.
func (l *Levels) Standing() []Level {
	var out []Level
	for _, e := range l.Entities {
		if e.Rank > 0 {
			out = append(out, e)
		}
	}
	return out
}

// Apply records a change and tells what it did to its scope. A change that is not newer than what is
// known of its entity changes nothing.
func (l *Levels) Apply(c Change, from string, rank int) Shift {
	i := l.find(c)
	if i >= 0 && !newer(c, l.Entities[i]) {
		return ShiftNone
	}
	before := l.Highest(c.Scope)
	if i < 0 {
		l.Entities = append(l.Entities, Level{Alarm: c.Alarm, Entity: c.Entity, Scope: c.Scope})
		i = len(l.Entities) - 1
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
	e.Rank = rank
	if alarm.Rank(c.To) < alarm.Rank(alarm.Yellow) {
		e.Rank = 0
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
	for i := range l.Entities {
		e := &l.Entities[i]
		if e.Rank == 0 || e.Gray.IsZero() || now.Before(e.Gray.Add(timeout)) {
			continue
		}
		before := l.Highest(e.Scope)
		e.Rank, e.Gray = 0, time.Time{}
		if l.Highest(e.Scope) < before {
			fallen = append(fallen, e.Scope)
		}
	}
	return fallen
}

// ClearScope lets every level of a scope fall.
func (l *Levels) ClearScope(scope string) {
	for i := range l.Entities {
		if e := &l.Entities[i]; e.Scope == scope {
			e.Rank, e.Gray = 0, time.Time{}
		}
	}
}

// Clear lets every level fall.
func (l *Levels) Clear() {
	for i := range l.Entities {
		l.Entities[i].Rank, l.Entities[i].Gray = 0, time.Time{}
	}
}

func (l *Levels) find(c Change) int {
	for i, e := range l.Entities {
		if e.Alarm == c.Alarm && e.Entity == c.Entity && e.Scope == c.Scope {
			return i
		}
	}
	return -1
}

// newer tells whether the change happened after what is known: by vCenter's time, then by event key.
func newer(c Change, known Level) bool {
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
