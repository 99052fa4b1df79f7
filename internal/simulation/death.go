package simulation

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// KillHost lets a host die with all that runs on it: it does not respond any more, and its VMs are off, not cleanly. With
// vSphere HA on (see Admission.HA) those that the other hosts can hold are on again when it returns, in the order of the
// inventory; the hosts are asked as for a power-on, but what HA keeps for a failover is theirs. For each of the others HA
// posts VmFailoverFailed, and for all of them one InsufficientFailoverResourcesEvent; they are returned. They stay on the
// dead host, and can be powered on elsewhere: a real vCenter may be unable to until HA, or a person, has registered them
// on another host. HA does not try again; RetryFailover does.
func (v *VCenter) KillHost(host types.ManagedObjectReference) (left []types.ManagedObjectReference, err error) {
	if err := v.SetHostConnected(host, false); err != nil {
		return nil, err
	}
	v.admission.gate.Lock()
	defer v.admission.gate.Unlock()
	ctx := v.context("")
	v.post(ctx, &types.HostConnectionLostEvent{HostEvent: types.HostEvent{Event: v.hostEvent(ctx, host)}})
	killed := v.crash(host)
	if !v.highlyAvailable(host) {
		return nil, nil
	}
	dead := *hostArgument(ctx, host)
	v.post(ctx, &types.DasHostFailedEvent{ClusterEvent: types.ClusterEvent{Event: v.hostEvent(ctx, host)}, FailedHost: dead})
	return v.failOver(host, killed), nil
}

// RetryFailover lets HA try again to restart these VMs of a dead host, as when resources have become free. It returns
// those for which there is no room yet, with events as KillHost has them.
func (v *VCenter) RetryFailover(host types.ManagedObjectReference, vms ...types.ManagedObjectReference) (left []types.ManagedObjectReference, err error) {
	if !v.highlyAvailable(host) {
		return nil, fmt.Errorf("restart VMs of %s: HA of its cluster is off; SetAdmission turns it on", host.Value)
	}
	v.admission.gate.Lock()
	defer v.admission.gate.Unlock()
	off := slices.DeleteFunc(slices.Clone(vms), func(vm types.ManagedObjectReference) bool { return v.PowerState(vm) == on })
	return v.failOver(host, off), nil
}

// crash turns off what runs on a host, which leaves no event of a power-off.
func (v *VCenter) crash(host types.ManagedObjectReference) (killed []types.ManagedObjectReference) {
	for _, vm := range v.VMs() {
		held, powered := v.claimOf(vm.Ref)
		if held.host != host || !powered {
			continue
		}
		v.withVM(vm.Ref, func(ctx *simulator.Context, m *simulator.VirtualMachine) {
			if m.Runtime.PowerState != on {
				return // it was about to start, and will not
			}
			killed = append(killed, vm.Ref)
			v.post(ctx, &types.VmDisconnectedEvent{VmEvent: v.vmEvent(ctx, m)})
			v.setPower(ctx, m, off)
			ctx.Update(m, []types.PropertyChange{
				{Name: "runtime.cleanPowerOff", Val: false}, {Name: "summary.runtime.cleanPowerOff", Val: false},
			})
		})
	}
	return killed
}

// highlyAvailable reports whether HA restarts the VMs of the host elsewhere.
func (v *VCenter) highlyAvailable(host types.ManagedObjectReference) bool {
	cluster := parentOf(v.context(""), host)
	_, ok := v.admission.control(cluster)
	return ok && isTrue(v.configurationOf(cluster).DasConfig.Enabled)
}

// failOver restarts VMs on other hosts than the dead one, and returns those that it cannot restart.
func (v *VCenter) failOver(dead types.ManagedObjectReference, vms []types.ManagedObjectReference) (left []types.ManagedObjectReference) {
	ctx := v.context("")
	for _, ref := range vms {
		if fault := v.restartElsewhere(ctx, ref, dead); fault != nil {
			left = append(left, ref)
			v.withVM(ref, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
				reason := localized(fault)
				v.post(ctx, &types.VmFailoverFailed{VmEvent: v.vmEvent(ctx, vm), Reason: &reason})
			})
		}
	}
	if len(left) != 0 {
		event := v.hostEvent(ctx, dead)
		event.Host = nil
		v.post(ctx, &types.InsufficientFailoverResourcesEvent{ClusterEvent: types.ClusterEvent{Event: event}})
	}
	return left
}

func (v *VCenter) restartElsewhere(ctx *simulator.Context, ref, dead types.ManagedObjectReference) types.BaseMethodFault {
	s, ok := v.standing(ref)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	host, fault := s.place(true)
	if fault != nil {
		return fault
	}
	v.moveVM(ref, s.vm.host, host)
	v.withVM(ref, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		v.setPower(ctx, vm, on)
		v.post(ctx, &types.VmRestartedOnAlternateHostEvent{
			VmPoweredOnEvent: types.VmPoweredOnEvent{VmEvent: v.vmEvent(ctx, vm)}, SourceHost: *hostArgument(ctx, dead),
		})
	})
	return nil
}

// hostEvent is the head of an event of a host.
func (v *VCenter) hostEvent(ctx *simulator.Context, host types.ManagedObjectReference) types.Event {
	return types.Event{
		Datacenter: v.datacenterArgument(ctx), Host: hostArgument(ctx, host), ComputeResource: clusterArgument(ctx, parentOf(ctx, host)),
	}
}
