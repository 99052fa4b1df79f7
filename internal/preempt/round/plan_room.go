package round

import (
	"context"
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// readRoom reads what must fit on one host, and what the hosts have left.
func (p *planning) readRoom(ctx context.Context) error {
	room := p.in.Demand.Room
	var who vcenter.Asker
	err := p.Attempt(ctx, func() (err error) {
		var ref vsphere.Ref
		if room.For != "" {
			if ref, err = p.VCenter.FindVM(ctx, room.For); err != nil {
				return err
			}
		}
		who, err = p.VCenter.Room(ctx, &p.snap, ref)
		return err
	})
	if err != nil {
		return step.Typed(err)
	}
	if room.For == "" {
		p.room = &policy.Room{Priority: policy.AboveAll, CPUs: room.CPUs, MemoryMB: room.MemoryMB}
		return nil
	}
	if why := p.needsNone(who); why != "" {
		return temporal.NewNonRetryableApplicationError(why, preemptapi.NoRoomNeeded, nil)
	}
	p.room = &policy.Room{
		For: who.Name, VM: who.Ref, CPUs: who.CPUs, MemoryMB: who.MemoryMB,
		CPUReservedMHz: who.CPUReservedMHz, MemoryReservedMB: who.MemoryReservedMB,
	}
	if p.room.Priority, err = policy.AskerPriority(who.Priority); err != nil {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("VM %s: %v", who.Name, err), preemptapi.NoRoomNeeded, nil)
	}
	if p.in.Demand.Scope.Zero() {
		p.cluster = who.Cluster
		p.snap.Hosts = slices.DeleteFunc(p.snap.Hosts, func(h vsphere.Host) bool { return h.Cluster != who.Cluster })
	}
	return nil
}

// needsNone says why no room is made for a VM; empty: it is.
func (p *planning) needsNone(who vcenter.Asker) string {
	switch {
	case who.PowerState == vsphere.PoweredOn:
		return fmt.Sprintf("VM %s is on: it has its room", who.Name)
	case who.Template:
		return fmt.Sprintf("%s is a template: it never runs", who.Name)
	case who.Cluster.Zero() && p.in.Demand.Scope.Zero():
		return fmt.Sprintf("the cluster of VM %s cannot be seen: name one", who.Name)
	}
	return ""
}
