package ledger

import "time"

// Admit decides about a request, and records it when granted.
func (s *State) Admit(now time.Time, r AdmitRequest) Admission {
	s.forget(now)
	s.learn(r.Scope, r.Within)
	if r.Intake != "" {
		s.stands(now, r.Intake, r.Alarm, r.Scope)
	}
	a := s.admit(now, r)
	if a.Verdict == Granted || r.Intake != "" { // otherwise nothing begins, and nothing stays, that a restore is to wait for
		a.Restores = s.restoresIn(now, r.Scope)
	}
	return a
}

func (s *State) admit(now time.Time, r AdmitRequest) Admission {
	again := -1
	for i, seen := range s.Seen {
		if seen.RequestID != r.RequestID {
			continue
		}
		if seen.Owner == r.Owner && s.scope(r.Scope).Active == r.Owner {
			return Admission{Verdict: Granted, Owner: r.Owner} // repeated after a lost answer
		}
		if seen.Owner != r.Owner || !seen.Dropped {
			return Admission{Verdict: Duplicate, Owner: seen.Owner}
		}
		again = i
		break
	}
	if a, refused := s.refuse(now, r); refused {
		return a
	}
	if until, left, over := s.tooManyRooms(now, r); over {
		return Admission{Verdict: TooMany, Until: until, Rooms: left}
	}
	sc := s.scope(r.Scope)
	sc.Active, sc.ActiveSince, sc.ActiveRank, sc.ActiveAlarm = r.Owner, now, r.Rank, r.Alarm
	if again >= 0 {
		s.Seen[again].Dropped = false
	} else {
		s.Seen = append(s.Seen, Seen{RequestID: r.RequestID, Owner: r.Owner, Time: now})
	}
	return Admission{Verdict: Granted, Owner: r.Owner}
}

// refuse reports whether a pause, another round or a cooldown is in the way of a request.
func (s *State) refuse(now time.Time, r AdmitRequest) (a Admission, refused bool) {
	if p, ok := s.paused(now, r.Scope, r.Alarm); ok {
		return Admission{Verdict: Paused, Until: p.Until, Reason: p.Words()}, true
	}
	for _, sc := range s.overlapping(r.Scope) {
		if sc.Active != "" {
			return Admission{Verdict: Busy, Owner: sc.Active, Rank: sc.ActiveRank}, true
		}
	}
	for _, sc := range s.overlapping(r.Scope) {
		if !r.NoCooldown && now.Before(sc.Until) && r.Rank <= sc.HighestRank {
			return Admission{Verdict: Cooldown, Owner: sc.LastOwner, Until: s.cooldownEnd(r), Rank: sc.HighestRank}, true
		}
	}
	return a, false
}

// cooldownEnd returns the end of the last cooldown that delays the request.
func (s *State) cooldownEnd(r AdmitRequest) (end time.Time) {
	for _, sc := range s.overlapping(r.Scope) {
		if r.Rank <= sc.HighestRank && sc.Until.After(end) {
			end = sc.Until
		}
	}
	return end
}
