package simulation

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// enterMaintenance is what vCenter calls the task of a host that is entering maintenance.
const enterMaintenance = "HostSystem.enterMaintenanceMode"

// SetHostMaintenance puts the host into maintenance or takes it out; its VMs stay as they are. Whatever was
// entering maintenance ends.
func (v *VCenter) SetHostMaintenance(host types.ManagedObjectReference, in bool) error {
	return v.withHost(host, "set the maintenance", func(ctx *simulator.Context, h *simulator.HostSystem) {
		v.endEntering(h.Self)
		ctx.Update(h, []types.PropertyChange{
			{Name: "runtime.inMaintenanceMode", Val: in},
			{Name: "summary.runtime.inMaintenanceMode", Val: in},
		})
	})
}

// SetHostEntering starts a task by which the host is entering maintenance, which runs until SetHostMaintenance or
// SetHostEntering with false ends it.
func (v *VCenter) SetHostEntering(host types.ManagedObjectReference, entering bool) error {
	return v.withHost(host, "let it enter maintenance", func(ctx *simulator.Context, h *simulator.HostSystem) {
		v.endEntering(h.Self)
		if !entering {
			return
		}
		task := simulator.CreateTask(h.Self, "enterMaintenanceMode", nil)
		now := time.Now()
		task.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-%d", 1_000_000+v.machines.nextTask())}
		task.Info.Key, task.Info.Task = task.Self.Value, task.Self
		task.Info.EntityName, task.Info.DescriptionId = h.Name, enterMaintenance
		task.Info.StartTime, task.Info.State = &now, types.TaskInfoStateRunning
		ctx.Map.Put(task)
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.entering == nil {
			v.entering = map[types.ManagedObjectReference]*simulator.Task{}
		}
		v.entering[host] = task
	})
}

func (v *VCenter) endEntering(host types.ManagedObjectReference) {
	v.mu.Lock()
	task := v.entering[host]
	delete(v.entering, host)
	v.mu.Unlock()
	if task != nil {
		v.finishTask(task, nil, nil)
	}
}

// SetHostConnected says whether vCenter reaches the host; its VMs stay as they are.
func (v *VCenter) SetHostConnected(host types.ManagedObjectReference, connected bool) error {
	state := types.HostSystemConnectionStateConnected
	if !connected {
		state = types.HostSystemConnectionStateNotResponding
	}
	return v.withHost(host, "set the connection", func(ctx *simulator.Context, h *simulator.HostSystem) {
		ctx.Update(h, []types.PropertyChange{
			{Name: "runtime.connectionState", Val: state},
			{Name: "summary.runtime.connectionState", Val: state},
		})
	})
}

func (v *VCenter) withHost(ref types.ManagedObjectReference, what string, fn func(*simulator.Context, *simulator.HostSystem)) error {
	ctx := v.context("")
	host, ok := ctx.Map.Get(ref).(*simulator.HostSystem)
	if !ok {
		return fmt.Errorf("%s of %s: the simulated vCenter has no such host; take it from Inventory", what, ref.Value)
	}
	ctx.WithLock(host, func() { fn(ctx, host) })
	return nil
}

// takesVMs tells whether VMs can be powered on on the host.
func (v *VCenter) takesVMs(ref types.ManagedObjectReference) (ok bool) {
	_ = v.withHost(ref, "look at the state", func(_ *simulator.Context, h *simulator.HostSystem) {
		ok = !h.Runtime.InMaintenanceMode && h.Runtime.ConnectionState == types.HostSystemConnectionStateConnected
	})
	return ok
}

// refusePowerOn returns why the host, or with the zero host the VM's own, cannot power it on, nil if it can.
func (v *VCenter) refusePowerOn(vm, at types.ManagedObjectReference) types.BaseMethodFault {
	host, free, need := v.load.room(vm, v.Inventory())
	if at.Value != "" {
		host = at
	}
	if s, ok := v.standing(vm); ok {
		return s.refuses(host)
	}
	switch {
	case host.Value == "": // made after the start: it asks for nothing
	case !v.takesVMs(host):
		return &types.InvalidHostState{Host: &host}
	case need.mb > free[host].mb:
		return &types.InsufficientMemoryResourcesFault{
			Unreserved: int64(max(0, free[host].mb)) * bytesPerMB, Requested: int64(need.mb) * bytesPerMB,
		}
	}
	return nil
}

// placeVM moves a VM that is not on to the host of its cluster with the most free memory, unless its own host can
// take it, as DRS does before it powers a VM on. The fault says that no host can. With admission control the VM goes
// where that admits it, and what it asks for is promised to it.
func (v *VCenter) placeVM(vm types.ManagedObjectReference, user string) types.BaseMethodFault {
	if s, ok := v.standing(vm); ok && v.PowerState(vm) != on {
		return v.placeAdmitted(s, user)
	}
	if v.refusePowerOn(vm, types.ManagedObjectReference{}) == nil || v.PowerState(vm) == on {
		return nil
	}
	inventory := v.Inventory()
	from, free, need := v.load.room(vm, inventory)
	var to types.ManagedObjectReference
	for _, c := range inventory.Clusters {
		if !c.has(from) {
			continue
		}
		for _, h := range c.Hosts {
			if need.mb <= free[h.Ref].mb && v.takesVMs(h.Ref) && (to.Value == "" || free[h.Ref].mb > free[to].mb) {
				to = h.Ref
			}
		}
	}
	if to.Value == "" {
		return &types.NoCompatibleHost{}
	}
	v.moveVM(vm, from, to)
	return nil
}

func (c *Cluster) has(host types.ManagedObjectReference) bool {
	for _, h := range c.Hosts {
		if h.Ref == host {
			return true
		}
	}
	return false
}

func (v *VCenter) moveVM(ref, from, to types.ManagedObjectReference) {
	_ = v.withHost(from, "take a VM", func(ctx *simulator.Context, h *simulator.HostSystem) { simulator.RemoveReference(&h.Vm, ref) })
	_ = v.withHost(to, "give a VM", func(ctx *simulator.Context, h *simulator.HostSystem) { h.Vm = append(h.Vm, ref) })
	v.withVM(ref, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		ctx.Update(vm, []types.PropertyChange{{Name: "runtime.host", Val: &to}, {Name: "summary.runtime.host", Val: &to}})
	})
	v.load.mu.Lock()
	v.load.place[ref] = to
	v.load.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.clusters {
		for i := range c.VMs {
			if c.VMs[i].Ref == ref {
				c.VMs[i].Host = to
			}
		}
	}
}
