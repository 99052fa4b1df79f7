package simulation

import (
	"fmt"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Admission is what HA keeps free in a cluster for hosts that fail, in percent of what its hosts can reserve. Zeros keep
// nothing: then a power-on is refused only where its host has too little left.
type Admission struct{ CPUPercent, MemoryPercent int32 }

// admissions are the clusters that judge power-ons by reservations.
type admissions struct {
	mu sync.Mutex // a leaf
	of map[types.ManagedObjectReference]Admission
}

// SetAdmission has a cluster refuse power-ons as vCenter does: where the reservations of the VMs that are on, with the
// overhead of their memory, leave too little on the host or, for HA, in the cluster. Usage never matters. A refusal ends the
// task in a fault, and posts an event.
func (v *VCenter) SetAdmission(cluster string, a Admission) error {
	ctx := v.context("")
	ref := v.Cluster(cluster).Ref
	c, ok := ctx.Map.Get(ref).(*simulator.ClusterComputeResource)
	if !ok {
		return fmt.Errorf("set the admission control of %s: the simulated vCenter has no such cluster", cluster)
	}
	v.admissions.mu.Lock()
	if v.admissions.of == nil {
		v.admissions.of = map[types.ManagedObjectReference]Admission{}
	}
	v.admissions.of[ref] = a
	v.admissions.mu.Unlock()
	ctx.WithLock(c, func() {
		config := types.ClusterConfigInfoEx{}
		if before, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok {
			config = *before
		}
		config.DasConfig.Enabled, config.DasConfig.AdmissionControlEnabled = types.NewBool(a != Admission{}), types.NewBool(a != Admission{})
		config.DasConfig.AdmissionControlPolicy = &types.ClusterFailoverResourcesAdmissionControlPolicy{
			CpuFailoverResourcesPercent: a.CPUPercent, MemoryFailoverResourcesPercent: a.MemoryPercent,
		}
		ctx.Update(c, []types.PropertyChange{{Name: "configurationEx", Val: &config}})
	})
	return nil
}

// reserved is CPU in MHz and memory in bytes.
type reserved struct{ mhz, bytes int64 }

// admits returns why vCenter does not admit the VM on a host; nil: it does.
func (v *VCenter) admits(vm, host types.ManagedObjectReference) types.BaseMethodFault {
	cluster, a, ok := v.judge(host)
	if !ok {
		return nil
	}
	need := v.reservedBy(vm)
	var onHost, inCluster, ofHost, ofCluster reserved
	for _, other := range cluster.VMs {
		if other.Ref == vm || v.PowerState(other.Ref) != on {
			continue
		}
		r := v.reservedBy(other.Ref)
		inCluster.mhz, inCluster.bytes = inCluster.mhz+r.mhz, inCluster.bytes+r.bytes
		if other.Host == host {
			onHost.mhz, onHost.bytes = onHost.mhz+r.mhz, onHost.bytes+r.bytes
		}
	}
	for _, h := range cluster.Hosts {
		if !v.takesVMs(h.Ref) {
			continue
		}
		c := v.capacityOf(h.Ref)
		ofCluster.mhz, ofCluster.bytes = ofCluster.mhz+c.mhz, ofCluster.bytes+c.bytes
		if h.Ref == host {
			ofHost = c
		}
	}
	switch {
	case onHost.mhz+need.mhz > ofHost.mhz:
		return &types.InsufficientCpuResourcesFault{Unreserved: ofHost.mhz - onHost.mhz, Requested: need.mhz}
	case onHost.bytes+need.bytes > ofHost.bytes:
		return &types.InsufficientMemoryResourcesFault{Unreserved: ofHost.bytes - onHost.bytes, Requested: need.bytes}
	case inCluster.mhz+need.mhz > ofCluster.mhz*int64(100-a.CPUPercent)/100, inCluster.bytes+need.bytes > ofCluster.bytes*int64(100-a.MemoryPercent)/100:
		return &types.InsufficientFailoverResourcesFault{}
	}
	return nil
}

// judge is the cluster of a host, where it judges power-ons.
func (v *VCenter) judge(host types.ManagedObjectReference) (cluster Cluster, a Admission, ok bool) {
	for _, c := range v.Inventory().Clusters {
		if c.has(host) {
			v.admissions.mu.Lock()
			defer v.admissions.mu.Unlock()
			a, ok = v.admissions.of[c.Ref]
			return c, a, ok
		}
	}
	return cluster, a, false
}

func (v *VCenter) reservedBy(ref types.ManagedObjectReference) (r reserved) {
	v.withVM(ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) {
		r = reserved{int64(vm.Summary.Config.CpuReservation), int64(vm.Summary.Config.MemoryReservation)*bytesPerMB + vm.Runtime.MemoryOverhead}
	})
	return r
}

func (v *VCenter) capacityOf(ref types.ManagedObjectReference) (r reserved) {
	_ = v.withHost(ref, "read the capacity", func(_ *simulator.Context, h *simulator.HostSystem) {
		if hw := h.Summary.Hardware; hw != nil {
			r = reserved{int64(hw.CpuMhz) * int64(hw.NumCpuCores), hw.MemorySize}
		}
	})
	return r
}

// notAdmitted posts the event of a power-on that was refused for want of resources.
func (v *VCenter) notAdmitted(ref types.ManagedObjectReference, user string, fault types.BaseMethodFault) {
	if _, ok := fault.(types.BaseInsufficientResourcesFault); !ok {
		return
	}
	v.withVM(ref, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		if _, _, judged := v.judgeLocked(vm); judged {
			ctx := v.context(user)
			v.post(ctx, &types.VmFailedToPowerOnEvent{VmEvent: v.vmEvent(ctx, vm), Reason: types.LocalizedMethodFault{
				Fault: fault, LocalizedMessage: "The host does not have sufficient resources to satisfy the reservation.",
			}})
		}
	})
}

func (v *VCenter) judgeLocked(vm *simulator.VirtualMachine) (cluster Cluster, a Admission, ok bool) {
	if vm.Runtime.Host == nil {
		return cluster, a, false
	}
	return v.judge(*vm.Runtime.Host)
}

// FailHost has a host die: HA restarts its VMs on other hosts of the cluster, in their order, where admission control has
// room; of the others VmFailoverFailed is posted.
func (v *VCenter) FailHost(host types.ManagedObjectReference) error {
	if err := v.SetHostConnected(host, false); err != nil {
		return err
	}
	cluster, _, _ := v.judge(host)
	for _, vm := range cluster.VMs {
		if vm.Host != host || v.PowerState(vm.Ref) != on {
			continue
		}
		v.withVM(vm.Ref, func(ctx *simulator.Context, m *simulator.VirtualMachine) {
			v.setPower(ctx, m, off)
			m.Runtime.CleanPowerOff = types.NewBool(false)
		})
		if !v.restart(cluster, vm) {
			v.withVM(vm.Ref, func(ctx *simulator.Context, m *simulator.VirtualMachine) {
				v.post(ctx, &types.VmFailoverFailed{VmEvent: v.vmEvent(ctx, m), Reason: &types.LocalizedMethodFault{
					Fault: &types.InsufficientFailoverResourcesFault{}, LocalizedMessage: "Insufficient resources to fail over the virtual machine.",
				}})
			})
		}
	}
	return nil
}

// restart starts a VM on another host, and reports whether there is one that has room.
func (v *VCenter) restart(cluster Cluster, vm VM) bool {
	for _, h := range cluster.Hosts {
		if h.Ref == vm.Host || !v.takesVMs(h.Ref) || v.admits(vm.Ref, h.Ref) != nil {
			continue
		}
		v.moveVM(vm.Ref, vm.Host, h.Ref)
		v.withVM(vm.Ref, func(ctx *simulator.Context, m *simulator.VirtualMachine) {
			v.setPower(ctx, m, on)
			v.post(ctx, &types.VmRestartedOnAlternateHostEvent{VmPoweredOnEvent: types.VmPoweredOnEvent{VmEvent: v.vmEvent(ctx, m)}})
		})
		return true
	}
	return false
}
