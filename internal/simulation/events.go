package simulation

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// post adds an event to the history, by the user of ctx, and gives it its key and time: at once, unless LagEvents says
// otherwise.
func (v *VCenter) post(ctx *simulator.Context, event types.BaseEvent) {
	if after := v.lag.after(event); after > 0 {
		v.postLater(ctx, event, after)
		return
	}
	v.postAt(ctx, event, time.Time{})
}

// postAt adds an event that happened then to the history; zero: now.
func (v *VCenter) postAt(ctx *simulator.Context, event types.BaseEvent, happened time.Time) {
	m := ctx.Map.EventManager()
	ctx.WithLock(m, func() {
		m.PostEvent(ctx, &types.PostEvent{EventToPost: event})
		if !happened.IsZero() {
			event.GetEvent().CreatedTime = happened
		}
		v.history.renumber(event.GetEvent())
		v.stamp(event.GetEvent())
		v.history.record(ctx)
	})
}

// vmEvent is the head of a VM's events: where it is and what it is called.
func (v *VCenter) vmEvent(ctx *simulator.Context, vm *simulator.VirtualMachine) types.VmEvent {
	event := types.Event{
		Datacenter: v.datacenterArgument(ctx),
		Vm:         &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: vm.Name}, Vm: vm.Self},
	}
	if vm.Runtime.Host != nil {
		event.Host = hostArgument(ctx, *vm.Runtime.Host)
		event.ComputeResource = clusterArgument(ctx, parentOf(ctx, *vm.Runtime.Host))
	}
	if len(vm.Datastore) != 0 {
		event.Ds = datastoreArgument(ctx, vm.Datastore[0])
	}
	return types.VmEvent{Event: event, Template: vm.Config != nil && vm.Config.Template}
}

func (v *VCenter) datacenterArgument(ctx *simulator.Context) *types.DatacenterEventArgument {
	dc, ok := ctx.Map.Get(v.datacenter).(*simulator.Datacenter)
	if !ok {
		return nil
	}
	return &types.DatacenterEventArgument{EntityEventArgument: types.EntityEventArgument{Name: dc.Name}, Datacenter: dc.Self}
}

func clusterArgument(ctx *simulator.Context, ref types.ManagedObjectReference) *types.ComputeResourceEventArgument {
	cluster, ok := ctx.Map.Get(ref).(mo.Entity)
	if !ok || !isCluster(ref) {
		return nil
	}
	return &types.ComputeResourceEventArgument{EntityEventArgument: types.EntityEventArgument{Name: cluster.Entity().Name}, ComputeResource: ref}
}

// isCluster tells whether hosts are below: in a cluster, or one alone, which has a compute resource of its own.
func isCluster(ref types.ManagedObjectReference) bool {
	return ref.Type == "ClusterComputeResource" || ref.Type == "ComputeResource"
}

func hostArgument(ctx *simulator.Context, ref types.ManagedObjectReference) *types.HostEventArgument {
	host, ok := ctx.Map.Get(ref).(*simulator.HostSystem)
	if !ok {
		return nil
	}
	return &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: host.Name}, Host: ref}
}

func datastoreArgument(ctx *simulator.Context, ref types.ManagedObjectReference) *types.DatastoreEventArgument {
	ds, ok := ctx.Map.Get(ref).(*simulator.Datastore)
	if !ok {
		return nil
	}
	return &types.DatastoreEventArgument{EntityEventArgument: types.EntityEventArgument{Name: ds.Name}, Datastore: ref}
}

// parentOf is the parent of a host, which never moves here; the zero reference if there is none.
func parentOf(ctx *simulator.Context, ref types.ManagedObjectReference) types.ManagedObjectReference {
	host, ok := ctx.Map.Get(ref).(*simulator.HostSystem)
	if !ok || host.Parent == nil {
		return types.ManagedObjectReference{}
	}
	return *host.Parent
}
