package receiver

import (
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the receiver's figures. No label carries anything that a sender chose.
type metrics struct {
	events   map[string]prometheus.Counter
	seconds  prometheus.Histogram
	inFlight prometheus.Gauge
}

func newMetrics(reg *prometheus.Registry) (*metrics, error) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "preemption_receiver_events_total", Help: "Requests with an event, by what became of them.",
	}, []string{"result"})
	m := &metrics{
		events: map[string]prometheus.Counter{},
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "preemption_receiver_seconds", Help: "Time from a request's header to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "preemption_receiver_in_flight", Help: "Requests with an event that are not answered yet.",
		}),
	}
	for _, result := range results {
		m.events[result] = vec.WithLabelValues(result)
	}
	return m, errors.Join(reg.Register(vec), reg.Register(m.seconds), reg.Register(m.inFlight))
}

func (m *metrics) count(result string, took time.Duration) {
	m.events[result].Inc()
	m.seconds.Observe(took.Seconds())
}

// newRegistry returns a registry with figures of the Go runtime, the process and the build.
func newRegistry(b Build) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "preemption_build_info", Help: "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go": b.Go},
	})
	build.Set(1)
	return reg, errors.Join(reg.Register(build), reg.Register(collectors.NewGoCollector()),
		reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// show answers GET /metrics. What is compressed would cost more memory than the few KiB are worth.
func show(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{DisableCompression: true, MaxRequestsInFlight: 4})
}
