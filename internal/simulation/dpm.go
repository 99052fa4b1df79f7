package simulation

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// SetDPM says how DPM of the cluster works: automated, manual, or "" for off.
func (v *VCenter) SetDPM(cluster string, mode types.DpmBehavior) error {
	ctx := v.context("")
	c, ok := ctx.Map.Get(v.Cluster(cluster).Ref).(*simulator.ClusterComputeResource)
	if !ok {
		return fmt.Errorf("set DPM of %s: the simulated vCenter has no such cluster", cluster)
	}
	ctx.WithLock(c, func() {
		before, _ := c.ConfigurationEx.(*types.ClusterConfigInfoEx)
		config := types.ClusterConfigInfoEx{}
		if before != nil {
			config = *before
		}
		config.DpmConfigInfo = &types.ClusterDpmConfigInfo{Enabled: types.NewBool(mode != ""), DefaultDpmBehavior: mode}
		ctx.Update(c, []types.PropertyChange{{Name: "configurationEx", Val: &config}})
	})
	return nil
}

// SetHostStandby puts a host into standby, as DPM does, or wakes it. Its VMs stay as they are.
func (v *VCenter) SetHostStandby(host types.ManagedObjectReference, standby bool) error {
	mode, power := types.HostStandbyModeNone, types.HostSystemPowerStatePoweredOn
	if standby {
		mode, power = types.HostStandbyModeIn, types.HostSystemPowerStateStandBy
	}
	err := v.withHost(host, "set standby", func(ctx *simulator.Context, h *simulator.HostSystem) {
		ctx.Update(h, []types.PropertyChange{
			{Name: "runtime.standbyMode", Val: string(mode)}, {Name: "runtime.powerState", Val: power},
		})
	})
	if err != nil {
		return err
	}
	return v.SetHostConnected(host, !standby)
}
