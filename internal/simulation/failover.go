package simulation

import (
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// leastMHz is what HA counts for a VM that reserves less CPU: its option das.vmcpuminmhz, by default. Of memory it counts
// the reservation and the overhead.
const leastMHz = 32

// lacksFailover returns the fault of HA's admission control if the cluster would not keep enough for a failover with the
// VM on.
func (s *standing) lacksFailover() types.BaseMethodFault {
	kept := true
	switch policy := s.policy().(type) {
	case *types.ClusterFailoverResourcesAdmissionControlPolicy:
		kept = s.keepsPercent(int64(policy.CpuFailoverResourcesPercent), int64(policy.MemoryFailoverResourcesPercent))
	case *types.ClusterFailoverLevelAdmissionControlPolicy:
		kept = s.keepsSlots(int(policy.FailoverLevel), policy.SlotPolicy)
	}
	if kept {
		return nil
	}
	return &types.InsufficientFailoverResourcesFault{}
}

// counted are the VMs that are on, and the one that is to be, as HA counts them.
func (s *standing) counted() []claim {
	all := append(slices.Clone(s.vms), s.vm)
	for i := range all {
		all[i].mhz = max(leastMHz, all[i].mhz)
	}
	return all
}

// keepsPercent reports whether so much of the capacity of the hosts that are up stays unreserved.
func (s *standing) keepsPercent(cpu, memory int64) bool {
	var mhz, mb, freeMHz, freeMB int64
	for _, h := range s.hosts {
		if h.takes {
			mhz, mb = mhz+h.mhz, mb+h.mb
		}
	}
	freeMHz, freeMB = mhz, mb
	for _, c := range s.counted() {
		freeMHz, freeMB = freeMHz-c.mhz, freeMB-c.mb
	}
	return freeMHz*100 >= cpu*mhz && freeMB*100 >= memory*mb
}

// keepsSlots reports whether the slots of the hosts that are up suffice when the largest of them fail. A slot is as large
// as the largest reservation, or as the policy fixes it; then a VM may need several.
func (s *standing) keepsSlots(failures int, policy types.BaseClusterSlotPolicy) bool {
	all := s.counted()
	slot := claim{mhz: 1, mb: 1}
	if fixed, ok := policy.(*types.ClusterFixedSizeSlotPolicy); ok {
		slot.mhz, slot.mb = max(1, int64(fixed.Cpu)), max(1, int64(fixed.Memory))
	} else {
		for _, c := range all {
			slot.mhz, slot.mb = max(slot.mhz, c.mhz), max(slot.mb, c.mb)
		}
	}
	var slots []int64
	for _, h := range s.hosts {
		if h.takes {
			slots = append(slots, max(0, min(h.mhz/slot.mhz, h.mb/slot.mb)))
		}
	}
	slices.Sort(slots)
	var have, need int64
	for _, n := range slots[:max(0, len(slots)-failures)] {
		have += n
	}
	for _, c := range all {
		need += max(1, (c.mhz+slot.mhz-1)/slot.mhz, (c.mb+slot.mb-1)/slot.mb)
	}
	return need <= have
}
