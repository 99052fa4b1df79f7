package telemetry

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"go.temporal.io/sdk/client"
)

// Metrics is the one registry of a program, with the metrics in definitions. Workflows and activities
// record through the handler that Temporal's SDK gives them, which is that of ForTemporal. It keeps only the defined
// labels, so that no id becomes a label.
type Metrics struct {
	registry *prometheus.Registry
	counters map[string]*prometheus.CounterVec
	gauges   map[string]*prometheus.GaugeVec
	timers   map[string]*prometheus.HistogramVec
	labels   map[string][]string
}

// NewMetrics returns the metrics of a program that consists of these parts.
func NewMetrics(b Build, parts ...Part) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), counters: map[string]*prometheus.CounterVec{},
		gauges: map[string]*prometheus.GaugeVec{}, timers: map[string]*prometheus.HistogramVec{}, labels: map[string][]string{},
	}
	// Registering fails only for duplicate definitions, which a test excludes.
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, d := range definitions() {
		if slices.ContainsFunc(d.parts, func(p Part) bool { return slices.Contains(parts, p) }) {
			m.add(d)
		}
	}
	m.gauge("preemption_build_info", 1, b.Version, b.Commit, b.Go)
	if slices.Contains(parts, Receiver) {
		m.Receiving(0)
	}
	return m
}

func (m *Metrics) add(d definition) {
	m.labels[d.name] = d.labels
	switch d.kind {
	case Counter:
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.exported(), Help: d.help}, d.labels)
		for _, values := range product(d.start) {
			v.WithLabelValues(values...)
		}
		if len(d.labels) == 0 {
			v.WithLabelValues()
		}
		m.counters[d.name] = v
		m.registry.MustRegister(v)
	case Gauge:
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.exported(), Help: d.help}, d.labels)
		m.gauges[d.name] = v
		m.registry.MustRegister(v)
	case Histogram:
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: d.exported(), Help: d.help, Buckets: d.buckets}, d.labels)
		if len(d.labels) == 0 {
			v.WithLabelValues()
		}
		m.timers[d.name] = v
		m.registry.MustRegister(v)
	}
}

// product combines each value of the first label with each of the second, and so on.
func product(labels [][]string) (all [][]string) {
	if len(labels) == 0 {
		return nil
	}
	all = [][]string{nil}
	for _, values := range labels {
		var longer [][]string
		for _, begun := range all {
			for _, v := range values {
				longer = append(longer, append(slices.Clone(begun), v))
			}
		}
		all = longer
	}
	return all
}

// ServeHTTP writes the metrics in Prometheus' text form, uncompressed, because they are only a few KiB.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	families, err := m.registry.Gather()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if enc.Encode(f) != nil {
			return // the reader went away
		}
	}
}

func (m *Metrics) count(name string, values ...string) {
	m.counters[name].WithLabelValues(values...).Inc()
}

func (m *Metrics) gauge(name string, to float64, values ...string) {
	m.gauges[name].WithLabelValues(values...).Set(to)
}

func (m *Metrics) time(name string, took time.Duration, values ...string) {
	m.timers[name].WithLabelValues(values...).Observe(took.Seconds())
}

// KnowPolicies starts the metrics of these policies at 0, so that the first plan that falls short shows as an increase.
func (m *Metrics) KnowPolicies(names ...string) {
	for _, values := range product([][]string{names, planResults}) {
		m.counters["preemption_plans"].WithLabelValues(values...)
	}
}

// VCenterCalled counts one call to vCenter.
func (m *Metrics) VCenterCalled(method, code string, took time.Duration) {
	m.count("preemption_vcenter_calls", method, code)
	m.time("preemption_vcenter_call", took, method)
}

// VCenterLimited takes how many calls to vCenter may be made at once.
func (m *Metrics) VCenterLimited(calls int) { m.gauge("preemption_vcenter_call_limit", float64(calls)) }

// VCenterRenewed takes a login that replaces a lost session.
func (m *Metrics) VCenterRenewed(api string) { m.count("preemption_vcenter_session_renewals", api) }

// Preempted sets how many VMs are off because we turned them off.
func (m *Metrics) Preempted(n int) { m.gauge("preemption_vms_preempted", float64(n)) }

// TookOver counts a workflow of another program that was taken over.
func (m *Metrics) TookOver(what string) { m.count("preemption_takeovers", what) }

// Traced counts spans that the collector of traces took, or did not take.
func (m *Metrics) Traced(spans int, taken bool) {
	result := "failed"
	if taken {
		result = "sent"
	}
	m.counters["preemption_trace_spans"].WithLabelValues(result).Add(float64(spans))
}

// Receiving counts a request with an event that has arrived (1) or was answered (-1).
func (m *Metrics) Receiving(n int) {
	m.gauges["preemption_receiver_in_flight"].WithLabelValues().Add(float64(n))
}

// Received counts the result of a request with an event.
func (m *Metrics) Received(class, result string, took time.Duration) {
	m.count("preemption_receiver_events", class, result)
	m.time("preemption_receiver", took)
}

// ForTemporal returns the metrics handler for a Temporal client. It records the SDK's own metrics, and those of
// workflows and activities. Metrics that are not defined are dropped.
func (m *Metrics) ForTemporal() client.MetricsHandler { return recorder{m, nil} }

// recorder records by name and tags.
type recorder struct {
	m    *Metrics
	tags map[string]string
}

// WithTags implements client.MetricsHandler.
func (r recorder) WithTags(tags map[string]string) client.MetricsHandler {
	all := maps.Clone(r.tags)
	if all == nil {
		all = make(map[string]string, len(tags))
	}
	maps.Copy(all, tags)
	return recorder{r.m, all}
}

// Counter implements client.MetricsHandler.
func (r recorder) Counter(name string) client.MetricsCounter {
	if v, ok := r.m.counters[name]; ok {
		return counter{v.WithLabelValues(r.values(name)...)}
	}
	return client.MetricsNopHandler.Counter(name)
}

// Gauge implements client.MetricsHandler.
func (r recorder) Gauge(name string) client.MetricsGauge {
	if v, ok := r.m.gauges[name]; ok {
		return gauge{v.WithLabelValues(r.values(name)...)}
	}
	return client.MetricsNopHandler.Gauge(name)
}

// Timer implements client.MetricsHandler.
func (r recorder) Timer(name string) client.MetricsTimer {
	if v, ok := r.m.timers[name]; ok {
		return timer{v.WithLabelValues(r.values(name)...)}
	}
	return client.MetricsNopHandler.Timer(name)
}

func (r recorder) values(name string) []string {
	values := make([]string, len(r.m.labels[name]))
	for i, label := range r.m.labels[name] {
		values[i] = r.tags[label]
	}
	return values
}

type (
	counter struct{ prometheus.Counter }
	gauge   struct{ prometheus.Gauge }
	timer   struct{ prometheus.Observer }
)

func (c counter) Inc(n int64)             { c.Add(float64(max(n, 0))) }
func (g gauge) Update(to float64)         { g.Set(to) }
func (t timer) Record(took time.Duration) { t.Observe(max(took, 0).Seconds()) }
