package telemetry

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %v", rec.Code, rec.Header())
	}
	return rec.Body.String()
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

func TestWhatIsRecordedShows(t *testing.T) {
	m := NewMetrics(Build{Version: "v1", Commit: "abc", Go: "go1"}, Worker, Receiver)
	m.KnowPolicies("default")
	wants(t, scrape(t, m),
		`preemption_build_info{commit="abc",go="go1",version="v1"} 1`, "go_goroutines", "process_resident_memory_bytes",
		`preemption_rounds_total{state="failed"} 0`, `preemption_evictions_total{action="powerOff",outcome="failed"} 0`,
		`preemption_plans_total{policy="default",result="short"} 0`, "preemption_receiver_in_flight 0",
		`preemption_receiver_events_total{result="sent",type="AlarmStatusChangedEvent"} 0`)
	m.VCenterCalled("Login", "OK", 30*time.Millisecond)
	m.VCenterRenewed("soap")
	m.Preempted(7)
	m.Receiving(1)
	m.Received("other", "ignored", time.Millisecond)
	wants(t, scrape(t, m),
		`preemption_vcenter_calls_total{code="OK",method="Login"} 1`, `preemption_vcenter_call_seconds_bucket{method="Login",le="0.05"} 1`,
		`preemption_vcenter_session_renewals_total{api="soap"} 1`, "preemption_vms_preempted 7", "preemption_receiver_in_flight 1",
		`preemption_receiver_events_total{result="ignored",type="other"} 1`, "preemption_receiver_seconds_count 1")
}

func TestTemporalsMetricsAreCountersGaugesAndHistogramsWithoutIDs(t *testing.T) {
	m := NewMetrics(Build{}, Worker)
	h := m.ForTemporal().WithTags(map[string]string{"namespace": "ns", "workflow_type": "A", "operation": "Poll"})
	b := h.WithTags(map[string]string{"workflow_type": "B", "workflow_id": "secret-id"})
	h.Counter("temporal_workflow_completed").Inc(2)
	b.Counter("temporal_workflow_completed").Inc(1)
	b.Counter("temporal_workflow_completed").Inc(-1) // a counter never falls
	b.Timer("temporal_request_latency").Record(40 * time.Millisecond)
	b.Gauge("temporal_sticky_cache_size").Update(3)
	b.Counter("unknown").Inc(1)
	b.Gauge("unknown").Update(1)
	b.Timer("unknown").Record(1)
	text := scrape(t, m)
	wants(t, text,
		`temporal_workflow_completed_total{workflow_type="A"} 2`, `temporal_workflow_completed_total{workflow_type="B"} 1`,
		"# TYPE temporal_workflow_completed_total counter", "# TYPE temporal_request_latency_seconds histogram",
		`temporal_request_latency_seconds_bucket{operation="Poll",le="0.05"} 1`, "temporal_sticky_cache_size 3")
	for _, never := range []string{"secret-id", "unknown", "preemption_receiver"} {
		if strings.Contains(text, never) {
			t.Errorf("the metrics tell %q", never)
		}
	}
}

func TestDefinitionsFollowPrometheusHabits(t *testing.T) {
	name := regexp.MustCompile(`^(preemption|temporal)(_[a-z]+)+$`)
	seen := map[string]bool{}
	for _, d := range definitions() {
		if !name.MatchString(d.exported()) || seen[d.exported()] || !strings.HasSuffix(d.help, ".") || len(d.parts) == 0 {
			t.Errorf("%+v", d)
		}
		seen[d.exported()] = true
		if d.kind == Histogram && !slices.IsSorted(d.buckets) || (d.kind == Histogram) != (len(d.buckets) > 0) {
			t.Errorf("%s has the buckets %v", d.name, d.buckets)
		}
		if len(d.start) > 0 && len(d.start) != len(d.labels) {
			t.Errorf("%s starts with %d of %d labels", d.name, len(d.start), len(d.labels))
		}
	}
}
