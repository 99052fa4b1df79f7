package vcenter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// leastMHz is what HA counts for a VM that reserves less CPU, unless its option das.vmcpuminmhz says otherwise.
const leastMHz = 32

// failover reads what HA's admission control keeps of each cluster.
func (inv inventory) failover() (list []vsphere.Failover) {
	for ref, o := range inv {
		config, ok := o.props["configurationEx"].(types.ClusterConfigInfoEx)
		das := config.DasConfig
		if !ok || das.Enabled == nil || !*das.Enabled || das.AdmissionControlEnabled == nil || !*das.AdmissionControlEnabled {
			continue
		}
		f := vsphere.Failover{Cluster: ref}
		switch p := das.AdmissionControlPolicy.(type) {
		case *types.ClusterFailoverResourcesAdmissionControlPolicy:
			f.CPUPercent, f.MemoryPercent = int64(p.CpuFailoverResourcesPercent), int64(p.MemoryFailoverResourcesPercent)
		case *types.ClusterFailoverLevelAdmissionControlPolicy:
			f.Slots = inv.slots(ref, p, das.Option)
		case *types.ClusterFailoverHostAdmissionControlPolicy:
			for _, host := range p.FailoverHosts {
				f.Hosts = append(f.Hosts, fromMoRef(host))
			}
		default:
			continue
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b vsphere.Failover) int { return strings.Compare(a.Cluster.Value, b.Cluster.Value) })
	return list
}

// slots reads the slots of a cluster, and what its running VMs claim.
func (inv inventory) slots(cluster vsphere.Ref, p *types.ClusterFailoverLevelAdmissionControlPolicy, options []types.BaseOptionValue) *vsphere.Slots {
	out := &vsphere.Slots{
		Failures: int(p.FailoverLevel),
		AtMost:   vsphere.Claim{CPUMHz: option(options, "das.slotcpuinmhz", 0), MemoryMB: option(options, "das.slotmeminmb", 0)},
		AtLeast:  vsphere.Claim{CPUMHz: option(options, "das.vmcpuminmhz", leastMHz), MemoryMB: option(options, "das.vmmemoryminmb", 0)},
	}
	if fixed, ok := p.SlotPolicy.(*types.ClusterFixedSizeSlotPolicy); ok {
		out.Fixed = vsphere.Claim{CPUMHz: int64(fixed.Cpu), MemoryMB: int64(fixed.Memory)}
	}
	number := map[vsphere.Claim]int{}
	for ref, o := range inv {
		if ref.Type == vsphere.TypeVM && o.text("runtime.powerState") == vsphere.PoweredOn && inv[o.refTo("runtime.host")].refTo("parent") == cluster {
			mhz, mb := o.reserved()
			number[vsphere.Claim{CPUMHz: mhz, MemoryMB: mb}.AtLeast(out.AtLeast)]++
		}
	}
	for claim, n := range number {
		out.VMs = append(out.VMs, vsphere.Claims{Claim: claim, Number: n})
	}
	slices.SortFunc(out.VMs, func(a, b vsphere.Claims) int {
		return slices.Compare([]int64{a.CPUMHz, a.MemoryMB}, []int64{b.CPUMHz, b.MemoryMB})
	})
	return out
}

// option is the value of an advanced option of HA that is a number; vCenter stores it as text.
func option(options []types.BaseOptionValue, key string, missing int64) int64 {
	for _, o := range options {
		value := o.GetOptionValue()
		if value == nil || !strings.EqualFold(value.Key, key) {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(fmt.Sprint(value.Value)), 10, 64); err == nil && n >= 0 {
			return n
		}
	}
	return missing
}
