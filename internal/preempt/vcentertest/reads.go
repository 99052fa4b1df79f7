package vcentertest

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// State returns the VMs as they are.
func (v *VCenter) State(_ context.Context, _ string, refs []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error) {
	if err := v.fails("State", vsphere.Ref{}); err != nil {
		return nil, err
	}
	out := map[vsphere.Ref]vsphere.VM{}
	for ref, vm := range v.some(refs) {
		out[ref] = vm.VM
	}
	return out, nil
}

// Recheck returns the VMs as they are.
func (v *VCenter) Recheck(ctx context.Context, tag string, refs []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error) {
	if err := v.fails("Recheck", vsphere.Ref{}); err != nil {
		return nil, err
	}
	return v.State(ctx, tag, refs)
}

// RecheckDetail returns a snapshot of the VMs, and of all members of the groups.
func (v *VCenter) RecheckDetail(_ context.Context, _ string, refs []vsphere.Ref, _ vcenter.Scope) (vsphere.Snapshot, error) {
	snap := v.snapshot()
	snap.VMs = nil
	for _, ref := range refs {
		if vm, ok := v.some([]vsphere.Ref{ref})[ref]; ok {
			snap.VMs = append(snap.VMs, vm.VM)
		}
	}
	snap.Groups = map[string]vsphere.Group{}
	for _, vm := range v.all() {
		for _, name := range vm.Tags[policy.CategoryGroup] {
			g := snap.Groups[name]
			if g.Total++; vm.PowerState == vsphere.PoweredOn {
				g.Up = append(g.Up, vm.Ref)
			}
			snap.Groups[name] = g
		}
	}
	return snap, v.fails("RecheckDetail", vsphere.Ref{})
}

// Candidates returns a snapshot of all VMs.
func (v *VCenter) Candidates(context.Context, string, vcenter.Scope) (vsphere.Snapshot, error) {
	if err := v.fails("Candidates", vsphere.Ref{}); err != nil {
		return vsphere.Snapshot{}, err
	}
	return v.snapshot(), nil
}

func (v *VCenter) snapshot() vsphere.Snapshot {
	snap := vsphere.Snapshot{Time: time.Now(), Scope: Cluster, ScopeName: "cluster-a", Hosts: v.Hosts}
	for _, vm := range v.all() {
		snap.VMs = append(snap.VMs, vm.VM)
	}
	return snap
}

// FindVM finds a VM by its name or MoRef.
func (v *VCenter) FindVM(_ context.Context, name string) (vsphere.Ref, error) {
	for _, vm := range v.all() {
		if vm.Name == name || vm.Ref.Value == name {
			return vm.Ref, nil
		}
	}
	return vsphere.Ref{}, Fault(vcenter.NotFound)
}

// FindCluster finds the cluster by its MoRef.
func (v *VCenter) FindCluster(_ context.Context, name string) (vsphere.Ref, string, error) {
	if name == Cluster.Value {
		return Cluster, name, nil
	}
	return vsphere.Ref{}, "", Fault(vcenter.ScopeNotFound)
}

// FindPlace is FindCluster.
func (v *VCenter) FindPlace(ctx context.Context, name string) (vsphere.Ref, error) {
	ref, _, err := v.FindCluster(ctx, name)
	return ref, err
}

// Datastore finds none.
func (v *VCenter) Datastore(context.Context, string) (vsphere.Ref, error) {
	return vsphere.Ref{}, Fault(vcenter.NotFound)
}

// VMNames lists the names of the VMs.
func (v *VCenter) VMNames(context.Context) (names []string, err error) {
	for _, vm := range v.all() {
		names = append(names, vm.Name)
	}
	return names, v.fails("VMNames", vsphere.Ref{})
}

// ClusterNames lists the one cluster.
func (v *VCenter) ClusterNames(context.Context) ([]string, error) { return []string{"cluster-a"}, nil }

// DatastoreNames lists none.
func (v *VCenter) DatastoreNames(context.Context) ([]string, error) { return nil, nil }

// ClusterOf returns the cluster.
func (v *VCenter) ClusterOf(_ context.Context, host vsphere.Ref) (vsphere.Ref, error) {
	return Cluster, v.fails("ClusterOf", host)
}

// Annotate writes an attribute of a VM.
func (v *VCenter) Annotate(_ context.Context, ref vsphere.Ref, name, value string) error {
	return v.change("Annotate", ref, func(vm *VM) { vm.Attributes[name] = value })
}

// Annotations reads an attribute of VMs.
func (v *VCenter) Annotations(_ context.Context, refs []vsphere.Ref, name string) (map[vsphere.Ref]string, error) {
	out := map[vsphere.Ref]string{}
	for ref, vm := range v.some(refs) {
		if vm.Attributes[name] != "" {
			out[ref] = vm.Attributes[name]
		}
	}
	return out, v.fails("Annotations", vsphere.Ref{})
}

// Owned lists the VMs that have the attribute.
func (v *VCenter) Owned(_ context.Context, name string) (list []vcenter.Owned, err error) {
	for _, vm := range v.all() {
		if value := vm.Attributes[name]; value != "" {
			list = append(list, vcenter.Owned{Ref: vm.Ref, Name: vm.Name, InstanceUUID: vm.InstanceUUID, PowerState: vm.PowerState, Value: value})
		}
	}
	return list, v.fails("Owned", vsphere.Ref{})
}

// SetGuestInfos writes guest variables.
func (v *VCenter) SetGuestInfos(_ context.Context, key string, values map[vsphere.Ref]string, removed ...string) map[vsphere.Ref]error {
	out := map[vsphere.Ref]error{}
	for ref, value := range values {
		err := v.change("SetGuestInfo", ref, func(vm *VM) {
			vm.GuestInfo[key] = value
			for _, other := range removed {
				delete(vm.GuestInfo, other)
			}
		})
		if err != nil {
			out[ref] = err
		}
	}
	return out
}

// GuestInfo reads a guest variable.
func (v *VCenter) GuestInfo(_ context.Context, refs []vsphere.Ref, key string) (map[vsphere.Ref]string, error) {
	out := map[vsphere.Ref]string{}
	for ref, vm := range v.some(refs) {
		if vm.GuestInfo[key] != "" {
			out[ref] = vm.GuestInfo[key]
		}
	}
	return out, v.fails("GuestInfo", vsphere.Ref{})
}

// PowerOffEvidence says how the VMs went off.
func (v *VCenter) PowerOffEvidence(_ context.Context, refs []vsphere.Ref, _ time.Time) (map[vsphere.Ref]vcenter.Evidence, error) {
	out := map[vsphere.Ref]vcenter.Evidence{}
	for ref, vm := range v.some(refs) {
		out[ref] = vm.Off
	}
	return out, v.fails("PowerOffEvidence", vsphere.Ref{})
}

// AwaitEvidence says how the VMs went off.
func (v *VCenter) AwaitEvidence(ctx context.Context, refs []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Evidence, error) {
	return v.PowerOffEvidence(ctx, refs, since)
}

// TouchedSince says who touched the VMs last.
func (v *VCenter) TouchedSince(_ context.Context, refs []vsphere.Ref, _ time.Time) (map[vsphere.Ref]vcenter.Touch, error) {
	out := map[vsphere.Ref]vcenter.Touch{}
	for ref, vm := range v.some(refs) {
		if vm.Touched != nil {
			out[ref] = *vm.Touched
		}
	}
	return out, v.fails("TouchedSince", vsphere.Ref{})
}

// PoweredOnAgain says who powered the VMs on.
func (v *VCenter) PoweredOnAgain(ctx context.Context, refs []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Touch, error) {
	return v.TouchedSince(ctx, refs, since)
}

// AwaitEvents looks once.
func (v *VCenter) AwaitEvents(_ context.Context, look func() (complete bool, err error)) error {
	_, err := look()
	return err
}

// EventsLag reports whether events may be still to come.
func (v *VCenter) EventsLag(time.Time) bool { return v.Lag }

// Foreign says why an event is of another vCenter.
func (v *VCenter) Foreign(context.Context, vcenter.AlarmEvent) (string, error) {
	return v.Elsewhere, v.fails("Foreign", vsphere.Ref{})
}

// CurrentAlarm returns the state of an alarm.
func (v *VCenter) CurrentAlarm(context.Context, vsphere.Ref, string, vsphere.Ref) (vcenter.CurrentAlarm, error) {
	return v.Alarm, v.fails("CurrentAlarm", vsphere.Ref{})
}

// TriggeredAlarms returns the alarms that are up.
func (v *VCenter) TriggeredAlarms(context.Context) (states, unseen []vcenter.AlarmState, err error) {
	return v.Up, nil, v.fails("TriggeredAlarms", vsphere.Ref{})
}

// Named reports whether events call this vCenter so.
func (v *VCenter) Named(source string) bool { return source == v.Name }

// Knows reports whether an event is in this vCenter's history.
func (v *VCenter) Knows(context.Context, vcenter.AlarmEvent) (bool, error) {
	return v.Known, v.fails("Knows", vsphere.Ref{})
}

// Unlike says why an event is of another vCenter.
func (v *VCenter) Unlike(context.Context, vcenter.AlarmEvent) (string, error) {
	return v.Elsewhere, v.fails("Unlike", vsphere.Ref{})
}
