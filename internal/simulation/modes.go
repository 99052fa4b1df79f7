package simulation

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// SetClusterModes lets the configuration of a cluster say this of DRS and DPM. It changes words alone: nothing is
// placed otherwise.
func (v *VCenter) SetClusterModes(cluster types.ManagedObjectReference, drs types.ClusterDrsConfigInfo, dpm *types.ClusterDpmConfigInfo) error {
	ctx := v.context("")
	c, ok := ctx.Map.Get(cluster).(*simulator.ClusterComputeResource)
	if !ok {
		return fmt.Errorf("set the modes of %s: the simulated vCenter has no such cluster; take it from Inventory", cluster.Value)
	}
	ctx.WithLock(c, func() {
		config := types.ClusterConfigInfoEx{}
		if now, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok {
			config = *now
		}
		config.DrsConfig, config.DpmConfigInfo = drs, dpm
		ctx.Update(c, []types.PropertyChange{{Name: "configurationEx", Val: &config}})
	})
	return nil
}
