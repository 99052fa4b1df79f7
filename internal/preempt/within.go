package preempt

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// WithinTime bounds the look for a host's cluster: without an answer any cluster may be it.
const WithinTime = 5 * time.Second

// Clusters knows the cluster of a host.
type Clusters interface {
	ClusterOf(ctx context.Context, host vsphere.Ref) (vsphere.Ref, error)
}

// Within is, of a host, the cluster that it is in: the ledger lets no round of the one run beside one of the other.
func (e *Env) Within(ctx context.Context, in Clusters, scope vsphere.Ref) string {
	if scope.Type != vsphere.TypeHost {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, WithinTime)
	defer cancel()
	cluster, err := in.ClusterOf(ctx, scope)
	if err != nil {
		e.Logger(ctx).Warn("the cluster of a host is not known: it counts as in every cluster", "host", scope.String(), "reason", err)
		return ledger.WithinUnknown
	}
	return cluster.String()
}
