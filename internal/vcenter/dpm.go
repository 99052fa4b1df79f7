package vcenter

import (
	"context"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// findWakeable marks the hosts in standby that DPM may wake by itself. One call if a host is in standby, else
// none. A host that cannot be seen is not counted.
func (g *Gateway) findWakeable(ctx context.Context, c call, hosts []vsphere.Host) error {
	var clusters []vsphere.Ref
	for _, h := range hosts {
		if h.Standby && h.Cluster.Type == typeCluster {
			clusters = append(clusters, h.Cluster)
		}
	}
	if clusters = unique(clusters); len(clusters) == 0 {
		return nil
	}
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: typeCluster, PathSet: []string{"configurationEx"}}}}
	for _, ref := range clusters {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref)})
	}
	objects, err := g.retrieve(ctx, c, spec)
	if KindOf(err).Outage() {
		return err
	}
	if err != nil {
		g.log.Warn("whether DPM may wake hosts could not be read: they do not count", "reason", err)
		return nil
	}
	for _, o := range objects {
		config, _ := o.props["configurationEx"].(types.ClusterConfigInfoEx)
		for i := range hosts {
			if h := &hosts[i]; h.Standby && h.Cluster == o.ref {
				h.Wakeable = wakes(config, h.Ref)
			}
		}
	}
	return nil
}

const typeCluster = "ClusterComputeResource"

// wakes reports whether DPM wakes the host without asking: the host's own setting overrides the cluster's.
func wakes(config types.ClusterConfigInfoEx, host vsphere.Ref) bool {
	dpm := config.DpmConfigInfo
	if dpm == nil || dpm.Enabled == nil || !*dpm.Enabled {
		return false
	}
	mode := dpm.DefaultDpmBehavior
	for _, own := range config.DpmHostConfig {
		if fromMoRef(own.Key) != host {
			continue
		}
		if own.Enabled != nil && !*own.Enabled {
			return false
		}
		if own.Behavior != "" {
			mode = own.Behavior
		}
	}
	return mode == types.DpmBehaviorAutomated
}
