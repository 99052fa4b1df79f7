package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// sharing is how many of the rooms, from the first, must be apart from each other; one if none must.
func sharing(rooms []Room) (n int) {
	for n = 1; n < len(rooms) && rooms[0].Apart != "" && rooms[n].Apart == rooms[0].Apart; n++ {
		continue
	}
	return n
}

// makeApart plans rooms that must be on different hosts, one after the other on the cheapest host that is left. If one of them
// cannot be had, there is none, and nobody goes for the others.
func (plan *Plan) makeApart(c *clearing, rooms []Room, eligible []candidate, stays map[*candidate]Explanation) {
	draft, trial := *plan, c.clone()
	draft.Usage = slices.Clone(plan.Usage)
	trial.apart = map[vsphere.Ref]bool{}
	for i := range rooms {
		trial.room = &rooms[i]
		room := draft.makeRoom(trial, eligible, stays)
		if !room.Enough {
			plan.refuseApart(c, trial, room, len(rooms), stays)
			return
		}
		trial.apart[room.Host] = true
		draft.Rooms = append(draft.Rooms, room)
	}
	trial.apart = nil
	*plan, *c = draft, *trial
}

// refuseApart refuses so many rooms because one of them cannot be had.
func (plan *Plan) refuseApart(c, trial *clearing, failed RoomPlan, rooms int, stays map[*candidate]Explanation) {
	failed.Refusal = fmt.Sprintf("%d of %d hosts can have it: %s", len(trial.apart), rooms, failed.Refusal)
	for vm := range trial.gone {
		if !c.gone[vm] {
			stays[vm] = Explanation{CannotCover, failed.Refusal}
		}
	}
	for range rooms {
		plan.Rooms = append(plan.Rooms, failed)
	}
}

// clone returns a copy that can be given up.
func (c *clearing) clone() *clearing {
	out, limits := *c, *c.limits
	limits.groups = slices.Clone(limits.groups)
	out.limits, out.taken, out.gone = &limits, maps.Clone(c.taken), maps.Clone(c.gone)
	out.made, out.drawn = slices.Clone(c.made), slices.Clone(c.drawn)
	return &out
}

// whyApart says that another room of the same request is on the host, or nothing.
func (c *clearing) whyApart(h *vsphere.Host) string {
	if c.apart[h.Ref] {
		return "it is one of the hosts that have it"
	}
	return ""
}
