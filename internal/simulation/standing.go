package simulation

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// standing is how a cluster with admission control stands for one VM that is to be powered on.
type standing struct {
	Admission
	config types.ClusterConfigInfoEx
	hosts  []hostRoom
	vms    []claim // that are on, or about to be, without the VM itself
	vm     claim
	pool   types.BaseMethodFault // what the VM's resource pool lacks for it
}

// claim is what a VM holds of a host, or asks of it.
type claim struct {
	ref, host types.ManagedObjectReference
	name      string
	mhz, mb   int64
}

// hostRoom is a host, what VMs can reserve of it, and what of that is left.
type hostRoom struct {
	Host
	takes    bool // VMs can be powered on there
	mhz, mb  int64
	freeMHz  int64
	freeMB   int64
	failover bool // HA keeps it for a failover
}

// standing is how the VM's cluster stands; false if it has no admission control.
func (v *VCenter) standing(vm types.ManagedObjectReference) (*standing, bool) {
	asker, _ := v.claimOf(vm)
	inventory := v.Inventory()
	at := slices.IndexFunc(inventory.Clusters, func(c Cluster) bool { return c.has(asker.host) })
	if at < 0 {
		return nil, false
	}
	cluster := inventory.Clusters[at]
	control, ok := v.admission.control(cluster.Ref)
	if !ok {
		return nil, false
	}
	s := &standing{Admission: control, config: v.configurationOf(cluster.Ref), vm: asker, pool: v.poolLacks(asker)}
	for _, c := range inventory.Clusters {
		for _, other := range c.VMs {
			if other.Ref == vm {
				continue
			}
			if held, powered := v.claimOf(other.Ref); powered && cluster.has(held.host) {
				s.vms = append(s.vms, held)
			}
		}
	}
	v.measureHosts(s, cluster)
	return s, true
}

// claimOf reads what a VM asks of its host, and whether it is on or about to be.
func (v *VCenter) claimOf(ref types.ManagedObjectReference) (c claim, powered bool) {
	to := v.admission.promisedTo(ref)
	v.withVM(ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) {
		config := vm.Summary.Config
		c = claim{
			ref: ref, name: vm.Name, mhz: int64(config.CpuReservation),
			mb: int64(config.MemoryReservation) + vm.Runtime.MemoryOverhead/bytesPerMB,
		}
		if vm.Runtime.Host != nil {
			c.host = *vm.Runtime.Host
		}
		powered = vm.Runtime.PowerState == on
	})
	if to.Value != "" && !powered {
		c.host, powered = to, true
	}
	return c, powered
}

func (v *VCenter) configurationOf(cluster types.ManagedObjectReference) (config types.ClusterConfigInfoEx) {
	ctx := v.context("")
	if c, ok := ctx.Map.Get(cluster).(*simulator.ClusterComputeResource); ok {
		ctx.WithLock(c, func() {
			if now, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok {
				config = *now
			}
		})
	}
	return config
}

func (v *VCenter) measureHosts(s *standing, cluster Cluster) {
	for _, h := range cluster.Hosts {
		v.load.mu.Lock()
		size := v.load.size[h.Ref]
		v.load.mu.Unlock()
		room := hostRoom{
			Host: h, takes: v.takesVMs(h.Ref),
			mhz: int64(size.mhz) - s.HostKeeps.CPUMHz, mb: int64(size.mb) - s.HostKeeps.MemoryMB - s.HostKeeps.OverheadMB,
		}
		room.freeMHz, room.freeMB = room.mhz, room.mb
		for _, held := range s.vms {
			if held.host == h.Ref {
				room.freeMHz -= held.mhz
				room.freeMB -= held.mb
			}
		}
		if policy, ok := s.policy().(*types.ClusterFailoverHostAdmissionControlPolicy); ok {
			room.failover = slices.Contains(policy.FailoverHosts, h.Ref)
		}
		s.hosts = append(s.hosts, room)
	}
}

// policy is that of HA's admission control; nil if HA or the control is off.
func (s *standing) policy() types.BaseClusterDasAdmissionControlPolicy {
	das := s.config.DasConfig
	if !isTrue(das.Enabled) || !isTrue(das.AdmissionControlEnabled) {
		return nil
	}
	return das.AdmissionControlPolicy
}

// lacks returns which of its unreserved resources the host has too little of, nil for none. Amounts are as in vCenter's
// faults: MHz, and bytes.
func (s *standing) lacks(h hostRoom) types.BaseMethodFault {
	switch {
	case s.vm.mhz > h.freeMHz:
		return &types.InsufficientCpuResourcesFault{Unreserved: max(0, h.freeMHz), Requested: s.vm.mhz}
	case s.vm.mb > h.freeMB:
		return &types.InsufficientMemoryResourcesFault{Unreserved: max(0, h.freeMB) * bytesPerMB, Requested: s.vm.mb * bytesPerMB}
	}
	return nil
}

// refuses returns why the VM cannot be powered on on the host, nil if it can.
func (s *standing) refuses(host types.ManagedObjectReference) types.BaseMethodFault {
	at := slices.IndexFunc(s.hosts, func(h hostRoom) bool { return h.Ref == host })
	if at < 0 {
		return &types.InvalidHostState{Host: &host}
	}
	if fault := s.bars(s.hosts[at]); fault != nil {
		return fault
	}
	if s.pool != nil {
		return s.pool
	}
	return s.lacksFailover()
}

// bars returns why the host itself cannot take the VM, whatever HA says.
func (s *standing) bars(h hostRoom) types.BaseMethodFault {
	if !h.takes {
		host := h.Ref
		return &types.InvalidHostState{Host: &host}
	}
	if fault, must := s.ruledOut(h); must {
		return fault
	}
	return s.lacks(h)
}

// place chooses the host on which DRS starts the VM: where it is if it can stay, else the host with the most unreserved
// memory. Rules that a VM should follow are kept where that is possible. failover is HA's own restart of a VM, for which
// its reserve is meant.
func (s *standing) place(failover bool) (host types.ManagedObjectReference, fault types.BaseMethodFault) {
	if !failover {
		if fault := s.lacksFailover(); fault != nil {
			return host, fault
		}
	}
	if s.pool != nil {
		return host, s.pool
	}
	var best *hostRoom
	for i := range s.hosts {
		h := &s.hosts[i]
		if s.bars(*h) == nil && (failover || !h.failover) && (best == nil || s.better(h, best)) {
			best = h
		}
	}
	if best == nil {
		return host, s.nowhere()
	}
	return best.Ref, nil
}

// better reports whether a VM is better placed on a than on b, both of which can take it.
func (s *standing) better(a, b *hostRoom) bool {
	wrongA, _ := s.ruledOut(*a)
	wrongB, _ := s.ruledOut(*b)
	switch {
	case (wrongA == nil) != (wrongB == nil):
		return wrongA == nil
	case (a.Ref == s.vm.host) != (b.Ref == s.vm.host):
		return a.Ref == s.vm.host
	}
	return a.freeMB > b.freeMB
}

// nowhere is the fault of a VM that no host can take: what lacks on the roomiest of those that may take it, or that
// none may.
func (s *standing) nowhere() types.BaseMethodFault {
	var roomiest *hostRoom
	none := &types.NoCompatibleHost{}
	for i := range s.hosts {
		h := &s.hosts[i]
		why := s.bars(*h)
		if why == nil {
			why = &types.InsufficientFailoverResourcesFault{} // HA keeps it
		}
		none.Host, none.Error = append(none.Host, h.Ref), append(none.Error, localized(why))
		if _, isRoom := why.(types.BaseInsufficientResourcesFault); isRoom && (roomiest == nil || h.freeMB > roomiest.freeMB) {
			roomiest = h
		}
	}
	if roomiest == nil {
		return none
	}
	if why := s.bars(*roomiest); why != nil {
		return why
	}
	return &types.InsufficientFailoverResourcesFault{}
}
