package round

import (
	"context"
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// readRooms reads what must fit on one host each, and what the hosts have left.
func (p *planning) readRooms(ctx context.Context) error {
	asks := p.in.Demand.Rooms
	var who []vcenter.Asker
	err := p.Attempt(ctx, func() (err error) {
		var refs []vsphere.Ref
		for _, ask := range asks {
			if ask.For == "" {
				continue
			}
			ref, err := p.VCenter.FindVM(ctx, ask.For)
			if err != nil {
				return err
			}
			refs = append(refs, ref)
		}
		who, err = p.VCenter.Room(ctx, &p.snap, refs)
		return err
	})
	if err != nil {
		return step.Typed(err)
	}
	for _, ask := range asks {
		room := policy.Room{Priority: policy.AboveAll, CPUs: ask.CPUs, MemoryMB: ask.MemoryMB}
		if ask.For != "" {
			room = p.roomOf(who[0])
			who = who[1:]
		}
		room.On, room.Further = ask.On, ask.Further
		if ask.Part > 0 {
			room.Apart = "apart|" + ask.RequestID
		}
		if room.Refused != "" && len(asks) == 1 {
			return temporal.NewNonRetryableApplicationError(room.Refused, preemptapi.NoRoomNeeded, nil)
		}
		p.rooms = append(p.rooms, room)
	}
	return nil
}

// heldRooms are the rooms that the round has made, for the ledger: in the moment in which its hold on the cluster ends,
// they are held for those who asked.
func (r *round) heldRooms() (rooms []ledger.HeldRoom) {
	for i, plan := range r.result.Rooms {
		if !plan.Enough || i >= len(r.in.Demand.Rooms) || r.in.Demand.Policy.Mode == policy.ModeObserve {
			continue
		}
		rooms = append(rooms, HeldRoom(r.in.Demand.Rooms[i].RequestID, plan.Room))
	}
	return rooms
}

// HeldRoom is room that is held for a request, as the ledger knows it.
func HeldRoom(requestID string, room policy.HeldRoom) ledger.HeldRoom {
	return ledger.HeldRoom{
		RequestID: requestID, Load: ledger.Load{Host: room.Host.String(), CPUMHz: room.CPUMHz, MemoryMB: room.MemoryMB},
		CPUReservedMHz: room.CPUReservedMHz, MemoryReservedMB: room.MemoryReservedMB,
	}
}

// joined is what is known of rooms after a further plan of the same round: those who have gone for a room before are kept
// beside its targets.
func joined(before, after []policy.RoomPlan) []policy.RoomPlan {
	if len(before) != len(after) {
		return after
	}
	for i := range after {
		after[i].Earlier = slices.Concat(before[i].Earlier, before[i].Targets)
	}
	return after
}

// roomOf is what one who asks needs, or why none is made for it.
func (p *planning) roomOf(who vcenter.Asker) policy.Room {
	room := policy.Room{
		For: who.Name, VM: who.Ref, CPUs: who.CPUs, MemoryMB: who.MemoryMB, CannotTake: who.CannotTake,
		CPUReservedMHz: who.CPUReservedMHz, MemoryReservedMB: who.MemoryReservedMB,
		CPUPool: who.CPUPool, MemoryPool: who.MemoryPool,
	}
	if room.Refused = p.needsNone(who); room.Refused != "" {
		return room
	}
	var err error
	if room.Priority, err = policy.AskerPriority(who.Priority); err != nil {
		room.Refused = fmt.Sprintf("VM %s: %v", who.Name, err)
	}
	if p.in.Demand.Scope.Zero() {
		p.cluster = who.Cluster
		p.snap.Hosts = slices.DeleteFunc(p.snap.Hosts, func(h vsphere.Host) bool { return h.Cluster != who.Cluster })
	}
	return room
}

// needsNone says why no room is made for a VM; empty: it is.
func (p *planning) needsNone(who vcenter.Asker) string {
	switch {
	case who.Err != nil:
		return who.Err.Error()
	case who.PowerState == vsphere.PoweredOn:
		return fmt.Sprintf("VM %s is on: it has its room", who.Name)
	case who.Template:
		return fmt.Sprintf("%s is a template: it never runs", who.Name)
	case who.Cluster.Zero() && p.in.Demand.Scope.Zero():
		return fmt.Sprintf("the cluster of VM %s cannot be seen: name one", who.Name)
	}
	return ""
}
