package ledger

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"
)

// Pause holds up what would begin: by a person, everywhere, in a scope, or for one alarm.
type Pause struct {
	Scope  string    `json:"scope,omitempty"` // Type:Value; empty: everywhere
	Name   string    `json:"name,omitempty"`  // of the scope, as the person named it
	Alarm  string    `json:"alarm,omitempty"` // only what this alarm demands; empty: everything
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is ended
}

// Over reports whether its time is over.
func (p Pause) Over(now time.Time) bool { return !p.Until.IsZero() && !now.Before(p.Until) }

// Of says what is paused, in words.
func (p Pause) Of() string {
	what := "everything"
	switch {
	case p.Alarm != "":
		what = "alarm " + p.Alarm
	case p.Scope != "" && p.Name != "":
		what = fmt.Sprintf("%s (%s)", p.Name, p.Scope)
	case p.Scope != "":
		what = p.Scope
	}
	return what
}

// Words say what is paused, by whom, for how long and why.
func (p Pause) Words() string {
	words := p.Of() + " is paused"
	if p.By != "" {
		words += " by " + p.By
	}
	if !p.Until.IsZero() {
		words += " until " + p.Until.UTC().Format(time.RFC3339)
	}
	return words + ": " + p.Reason
}

// Resumes is the command of preemptctl that ends it.
func (p Pause) Resumes() []string {
	switch {
	case p.Alarm != "":
		return []string{"resume", "--alarm", p.Alarm}
	case p.Scope != "":
		return []string{"resume", "--cluster", p.Scope}
	}
	return []string{"resume"}
}

func (p Pause) same(o Pause) bool { return p.Scope == o.Scope && p.Alarm == o.Alarm }

// HeldUp is what persons hold up and spare. Some of it may be over by its time.
type HeldUp struct {
	Pauses []Pause `json:"pauses,omitempty"`
	Spares []Spare `json:"spares,omitempty"`
}

// Now leaves out what is over.
func (h HeldUp) Now(now time.Time) (out HeldUp) {
	for _, p := range h.Pauses {
		if !p.Over(now) {
			out.Pauses = append(out.Pauses, p)
		}
	}
	for _, o := range h.Spares {
		if now.Before(o.Until) {
			out.Spares = append(out.Spares, o)
		}
	}
	return out
}

// PauseRequest begins a pause, which replaces one of the same scope and alarm; or ends those.
type PauseRequest struct {
	Pause
	End bool `json:"end,omitempty"`
	All bool `json:"all,omitempty"` // with End: every pause
}

// PauseAnswer tells which pauses hold by now, and what is under way that the caller has to tell: rounds to withdraw, and
// restores to hold.
type PauseAnswer struct {
	Pauses   []Pause  `json:"pauses"`
	Ended    []Pause  `json:"ended,omitempty"`
	Rounds   []string `json:"rounds,omitempty"`
	Restores []string `json:"restores,omitempty"`
	Refused  string   `json:"refused,omitempty"` // why nothing was changed
}

// Spare keeps one VM from being preempted for a time.
type Spare struct {
	VM     string    `json:"vm"` // Type:Value
	Name   string    `json:"name,omitempty"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// Words say by whom, for how long and why.
func (s Spare) Words() string {
	words := "until " + s.Until.UTC().Format(time.RFC3339)
	if s.By != "" {
		words += ", by " + s.By
	}
	return words + ": " + s.Reason
}

// SpareRequest spares a VM, or with End no longer.
type SpareRequest struct {
	Spare
	End bool `json:"end,omitempty"`
}

// SpareAnswer tells which VMs are spared by now.
type SpareAnswer struct {
	Spares  []Spare `json:"spares"`
	Ended   bool    `json:"ended,omitempty"`   // it was spared until now
	Refused string  `json:"refused,omitempty"` // why nothing was changed
}

// Limits on what a person may hold up.
const (
	MaxPauses  = 100
	MaxSpares  = 1000
	MaxHeldFor = 31 * 24 * time.Hour
)

// Pause begins a pause, or ends some.
func (s *State) Pause(now time.Time, r PauseRequest) (a PauseAnswer) {
	s.forgetHeldUp(now)
	var kept []Pause
	for _, p := range s.Pauses {
		switch {
		case r.End && (r.All || p.same(r.Pause)):
			a.Ended = append(a.Ended, p)
		case !r.End && p.same(r.Pause):
		default:
			kept = append(kept, p)
		}
	}
	if !r.End {
		if len(kept) >= MaxPauses {
			return PauseAnswer{Pauses: s.Pauses, Refused: fmt.Sprintf("%d pauses hold already: end some", MaxPauses)}
		}
		r.Since = now
		kept = append(kept, r.Pause)
		a.Rounds = s.activeUnder(r.Pause)
		if r.Alarm == "" {
			a.Restores = s.restoresIn(now, r.Scope)
		}
	}
	s.Pauses, a.Pauses = kept, kept
	return a
}

// activeUnder lists the rounds under way that a pause is to withdraw.
func (s *State) activeUnder(p Pause) (rounds []string) {
	for _, key := range workflow.DeterministicKeys(s.Scopes) {
		sc := s.Scopes[key]
		if sc.Active != "" && s.overlaps(p.Scope, key) && (p.Alarm == "" || p.Alarm == sc.ActiveAlarm) {
			rounds = append(rounds, sc.Active)
		}
	}
	return rounds
}

// paused returns the pause that holds up what the alarm demands in the scope, the longest of several; alarm is empty where a
// person demands it.
func (s *State) paused(now time.Time, scope, alarm string) (found Pause, ok bool) {
	for _, p := range s.Pauses {
		if p.Over(now) || !s.overlaps(p.Scope, scope) || p.Alarm != "" && p.Alarm != alarm {
			continue
		}
		if !ok || p.Until.IsZero() || !found.Until.IsZero() && p.Until.After(found.Until) {
			found, ok = p, true
		}
	}
	return found, ok
}

// pausesIn returns the pauses of a scope as a restore meets them: like alarms that are active there.
func (s *State) pausesIn(now time.Time, scope string) (list []ActiveAlarm) {
	if p, ok := s.paused(now, scope, ""); ok {
		list = append(list, ActiveAlarm{Scope: p.Scope, Since: p.Since, Paused: p.Words()})
	}
	return list
}

// Spare spares a VM for a time, or no longer.
func (s *State) Spare(now time.Time, r SpareRequest) (a SpareAnswer) {
	s.forgetHeldUp(now)
	before := len(s.Spares)
	kept := slices.DeleteFunc(slices.Clone(s.Spares), func(o Spare) bool { return o.VM == r.VM })
	switch {
	case r.End:
		a.Ended = len(kept) < before
	case len(kept) >= MaxSpares:
		return SpareAnswer{Spares: s.Spares, Refused: fmt.Sprintf("%d VMs are spared already: end some", MaxSpares)}
	default:
		r.Since = now
		kept = append(kept, r.Spare)
	}
	s.Spares, a.Spares = kept, kept
	s.change("")
	return a
}

// spared returns the VMs that are spared now.
func (s *State) spared(now time.Time) (list []Spare) {
	for _, o := range s.Spares {
		if now.Before(o.Until) {
			list = append(list, o)
		}
	}
	return list
}

// forgetHeldUp drops pauses and spares whose time is over.
func (s *State) forgetHeldUp(now time.Time) {
	s.Pauses = slices.DeleteFunc(s.Pauses, func(p Pause) bool { return p.Over(now) })
	s.Spares = slices.DeleteFunc(s.Spares, func(o Spare) bool { return !now.Before(o.Until) })
}
