package ledger

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"
)

// HeldRoom is room on a host that was made for somebody who does not use it yet.
type HeldRoom struct {
	RequestID string `json:"requestID,omitempty"`
	Load
	CPUReservedMHz   int64 `json:"cpuReservedMHz,omitempty"`
	MemoryReservedMB int64 `json:"memoryReservedMB,omitempty"`
}

// heldRooms are the rooms that are held anywhere but for these requests: a host is in one scope or another.
func (s *State) heldRooms(but []string) (rooms []HeldRoom) {
	for _, owner := range workflow.DeterministicKeys(s.Demands) {
		for _, d := range s.Demands[owner] {
			for _, room := range d.Rooms {
				if room.RequestID == "" || !slices.Contains(but, room.RequestID) {
					rooms = append(rooms, room)
				}
			}
		}
	}
	return rooms
}

// holdRooms adds the rooms that a round has made to those that its owner holds in the scope.
func (s *State) holdRooms(now time.Time, owner, scope string, rooms []HeldRoom) {
	if len(rooms) == 0 {
		return
	}
	s.stands(now, owner, "", scope)
	list := slices.Clone(s.Demands[owner])
	for i := range list {
		if list[i].Scope == scope {
			list[i].Rooms = append(slices.Clone(list[i].Rooms), rooms...)
		}
	}
	s.setDemands(owner, list)
}

// makesRoom reports whether it is no alarm, but somebody for whom room is made or held.
func (a ActiveAlarm) makesRoom() bool { return a.For != "" || len(a.Rooms) > 0 }

// holdsRoom reports whether room is made or held anywhere.
func (s *State) holdsRoom() bool {
	for _, owner := range workflow.DeterministicKeys(s.Demands) {
		if slices.ContainsFunc(s.Demands[owner], ActiveAlarm.makesRoom) {
			return true
		}
	}
	return false
}

// busy reports whether a sweep has something to look at.
func (s *State) busy(rooms bool) func() bool {
	return func() bool { return s.Busy() || rooms && s.holdsRoom() }
}

// versionRooms marks the runs whose sweeps look at who makes room, too.
const versionRooms = "sweep-held-rooms"

func sweepsRooms(ctx workflow.Context) bool {
	return workflow.GetVersion(ctx, versionRooms, workflow.DefaultVersion, 1) != workflow.DefaultVersion
}

// roomOwners are the workflows that have made or held room since before a time.
func (s *State) roomOwners(before time.Time) (owners []string) {
	for _, owner := range workflow.DeterministicKeys(s.Demands) {
		if slices.ContainsFunc(s.Demands[owner], func(a ActiveAlarm) bool { return a.makesRoom() && a.Since.Before(before) }) {
			owners = append(owners, owner)
		}
	}
	return owners
}

// dropRooms ends what workflows hold for room that are no longer running.
func (s *State) dropRooms(owners, closed []string) {
	for _, owner := range owners {
		if slices.Contains(closed, owner) {
			s.setDemands(owner, nil)
		}
	}
}

// tooManyRooms counts the rooms that a round is to begin, unless they would be more than may be made in an hour: until
// then.
func (s *State) tooManyRooms(now time.Time, r AdmitRequest) (until time.Time, left int, over bool) {
	hourAgo := now.Add(-time.Hour).Unix()
	s.Rooms = slices.DeleteFunc(s.Rooms, func(at int64) bool { return at <= hourAgo })
	if r.RoomsPerHour > 0 && r.Rooms > 0 && len(s.Rooms)+r.Rooms > r.RoomsPerHour {
		left = max(0, r.RoomsPerHour-len(s.Rooms))
		next := min(max(0, len(s.Rooms)+r.Rooms-r.RoomsPerHour-1), len(s.Rooms)-1)
		if next < 0 {
			return now.Add(time.Hour), left, true
		}
		return time.Unix(s.Rooms[next], 0).Add(time.Hour).UTC(), left, true
	}
	for range r.Rooms {
		s.Rooms = append(s.Rooms, now.Unix())
	}
	return time.Time{}, 0, false
}
