package simulation

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// SetAffinity gives a cluster these groups of VMs and hosts, and these rules, in place of those that it has. The simulated
// vCenter keeps them when it powers VMs on where SetAdmission says so.
func (v *VCenter) SetAffinity(cluster string, groups []types.BaseClusterGroupInfo, rules ...types.BaseClusterRuleInfo) error {
	ctx := v.context("")
	c, ok := ctx.Map.Get(v.Cluster(cluster).Ref).(*simulator.ClusterComputeResource)
	if !ok {
		return fmt.Errorf("set the rules of %s: the simulated vCenter has no such cluster", cluster)
	}
	ctx.WithLock(c, func() {
		config := types.ClusterConfigInfoEx{}
		if before, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok {
			config = *before
		}
		config.Group, config.Rule = groups, rules
		ctx.Update(c, []types.PropertyChange{{Name: "configurationEx", Val: &config}})
	})
	return nil
}
