package preempt

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// WithinTime is how long vCenter may take to name a host's cluster. Without an answer the host counts as in every cluster.
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
