package vcenter

import (
	"context"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Started is the result of asking to power on a VM.
type Started struct {
	Task vsphere.Ref // for AwaitOn; zero: DRS powers it on and names no task
	Err  error       // it was not tried; kind NoRoom: no host can take it
}

// PowerOnMany powers VMs on where DRS finds room for them, also in clusters in which DRS only recommends. It
// returns for each VM how that began, without waiting until it is on. If vCenter refuses to do so for all
// together, or leaves a VM out, the VM is powered on where it is registered. A call to find the data centres,
// about seven for each of them, and one for each VM left out.
func (g *Gateway) PowerOnMany(ctx context.Context, refs []vsphere.Ref) map[vsphere.Ref]Started {
	started := make(map[vsphere.Ref]Started, len(refs))
	refs = unique(append([]vsphere.Ref(nil), refs...))
	if len(refs) == 0 {
		return started
	}
	inv, err := g.inventory(ctx, call{op: "find the data centres of", object: g.describeAll(refs)}, wanted{vms: refs})
	if err != nil {
		return failAll(started, refs, err)
	}
	byPlace := make(map[vsphere.Ref][]vsphere.Ref)
	var places []vsphere.Ref
	for _, ref := range refs {
		place := inv.datacenter(ref)
		if byPlace[place] == nil {
			places = append(places, place)
		}
		byPlace[place] = append(byPlace[place], ref)
	}
	for _, place := range places {
		g.powerOnIn(ctx, place, byPlace[place], started)
	}
	return started
}

func failAll(started map[vsphere.Ref]Started, refs []vsphere.Ref, err error) map[vsphere.Ref]Started {
	for _, ref := range refs {
		started[ref] = Started{Err: err}
	}
	return started
}

// datacenter is the data centre of a VM; zero if it cannot be seen.
func (inv inventory) datacenter(vm vsphere.Ref) vsphere.Ref {
	for _, ref := range inv.ancestors(inv[vm], inv[vm].refTo("runtime.host")) {
		if ref.Type == "Datacenter" {
			return ref
		}
	}
	return vsphere.Ref{}
}

// powerOnIn powers on the VMs of one data centre.
func (g *Gateway) powerOnIn(ctx context.Context, place vsphere.Ref, refs []vsphere.Ref, started map[vsphere.Ref]Started) {
	if !place.Zero() {
		err := g.placeAll(ctx, place, refs, started)
		if ctx.Err() != nil || KindOf(err).Outage() {
			failAll(started, refs, err)
			return
		}
		if err != nil {
			g.log.Info("powering VMs on one by one", "reason", err)
		}
	}
	for _, ref := range refs {
		if _, ok := started[ref]; !ok {
			task, err := g.PowerOn(ctx, ref)
			started[ref] = Started{Task: task, Err: err}
		}
	}
}

// placeAll lets DRS power the VMs on, and records those for which it reports the result.
func (g *Gateway) placeAll(ctx context.Context, place vsphere.Ref, refs []vsphere.Ref, started map[vsphere.Ref]Started) error {
	c := call{op: "power on", object: g.describeAll(refs), write: true}
	req := types.PowerOnMultiVM_Task{This: toMoRef(place), Option: []types.BaseOptionValue{&types.OptionValue{
		Key: string(types.ClusterPowerOnVmOptionOverrideAutomationLevel), Value: types.DrsBehaviorFullyAutomated,
	}}}
	for _, ref := range refs {
		req.Vm = append(req.Vm, toMoRef(ref))
	}
	var all vsphere.Ref
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		res, err := methods.PowerOnMultiVM_Task(ctx, s.client, &req)
		if err == nil {
			all = fromMoRef(res.Returnval)
		}
		return err
	})
	if err != nil {
		return err
	}
	failed, err := g.awaitTasks(ctx, c.op, []Wait{{VM: place, Task: all}})
	if err == nil {
		err = failed[place]
	}
	if err != nil {
		return err
	}
	result, err := g.placed(ctx, c, all)
	for _, vm := range result.Attempted {
		s := Started{}
		if vm.Task != nil {
			s.Task = fromMoRef(*vm.Task)
		}
		started[fromMoRef(vm.Vm)] = s
	}
	for _, vm := range result.NotAttempted {
		ref := fromMoRef(vm.Vm)
		started[ref] = Started{Err: g.failure(call{op: c.op, object: g.names.describe(ref)}, task.Error{LocalizedMethodFault: &vm.Fault})}
	}
	return err
}

// placed reads the result of the task.
func (g *Gateway) placed(ctx context.Context, c call, all vsphere.Ref) (result types.ClusterPowerOnVmResult, err error) {
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "Task", PathSet: []string{"info.result"}}},
		ObjectSet: []types.ObjectSpec{{Obj: toMoRef(all)}},
	})
	for _, o := range objects {
		result, _ = o.props["info.result"].(types.ClusterPowerOnVmResult)
	}
	return result, err
}
