package embedded

import (
	"sync/atomic"

	"go.temporal.io/server/common/metrics"
)

// counting is the server's metrics: it counts the requests to the database, and drops everything else.
type counting struct {
	metrics.Handler
	requests *atomic.Int64
}

func newCounting(requests *atomic.Int64) counting {
	return counting{Handler: metrics.NoopMetricsHandler, requests: requests}
}

// WithTags returns the same, for nothing is counted by tag.
func (c counting) WithTags(...metrics.Tag) metrics.Handler { return c }

// Counter counts where it is that of the requests.
func (c counting) Counter(name string) metrics.CounterIface {
	if name != metrics.PersistenceRequests.Name() && name != metrics.VisibilityPersistenceRequests.Name() {
		return c.Handler.Counter(name)
	}
	return metrics.CounterFunc(func(n int64, _ ...metrics.Tag) { c.requests.Add(n) })
}

// StartBatch returns the same, for nothing is sent in batches.
func (c counting) StartBatch(string) metrics.BatchHandler { return c }

// Close does nothing.
func (c counting) Close() error { return nil }
