package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// documentedMetrics returns the worker's metrics of docs/metrics.md.
func documentedMetrics(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, " | "); len(cells) == 5 && strings.HasPrefix(line, "| `") && strings.Contains(cells[3], "worker") {
			names = append(names, strings.Trim(cells[0], "|` "))
		}
	}
	if len(names) < 40 {
		t.Fatalf("the page lists only %v", names)
	}
	return names
}

// still are the metrics that a round, a lost session and a restore do not move.
var still = []string{
	"preemption_build_info", "preemption_remediations_total", "preemption_vcenter_call_limit", "preemption_stalled_workflows", "preemption_takeovers_total",
	"preemption_paused", "preemption_spared_vms", // TestWhatIsPausedAndSparedShowsInTheMetrics
	// Nothing of the kind happens.
	"temporal_workflow_canceled_total", "temporal_workflow_failed_total", "temporal_workflow_continue_as_new_total",
	"temporal_workflow_task_execution_failed_total", "temporal_workflow_task_no_completion_total", "temporal_activity_execution_failed_total",
	"temporal_activity_task_error_total", "temporal_unregistered_activity_invocation_total", "temporal_local_activity_execution_cancelled_total",
	"temporal_local_activity_execution_failed_total", "temporal_local_activity_error_total", "temporal_corrupted_signals_total",
	"temporal_request_failure_total", "temporal_request_resource_exhausted_total", "temporal_long_request_failure_total",
	"temporal_long_request_resource_exhausted_total", "temporal_sticky_cache_miss_total", "temporal_sticky_cache_total_forced_eviction_total",
	// A worker that is alone takes activities up eagerly.
	"temporal_activity_schedule_to_start_latency_seconds",
	// They come after a minute without work, or stay as they were at the start.
	"temporal_workflow_task_queue_poll_empty_total", "temporal_activity_poll_no_task_total", "temporal_worker_start_total",
	"temporal_poller_start_total", "temporal_num_pollers", "temporal_worker_task_slots_available", "temporal_worker_task_slots_used",
	"temporal_workflow_active_thread_count", "temporal_sticky_cache_size", "temporal_workflow_task_replay_latency_seconds",
}

func TestEveryDocumentedMetricMovesDuringARound(t *testing.T) {
	t.Parallel()
	worker, _ := sitetest.Program(t, "worker")
	s := sitetest.New(t)
	file := filepath.Join(t.TempDir(), "preemption.yaml")
	alarm := s.ID("cpu")
	s.Must(os.WriteFile(file, fmt.Appendf(nil, `
policies:
  default:
    cooldown: 0s
    repeatWhileRed: false
    target: {cpu: 5, memory: 5, margin: 1}
    budgets: [{scope: true, max: "3", per: 1h}]
  roomy: {maxVMs: 10}
limits: {replyAllow: [127.0.0.1]}
notifications:
  channels: [{name: ops, urlFrom: {env: NOTIFY_OPS}, on: [preempted]}]
rules:
  - alarm: %q
    preempt: {tag: preemptible}
`, alarm), 0o600))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	addr := free.Addr().String()
	s.Must(free.Close())
	s.WorkerProcess(worker, "NOTIFY_OPS="+newHook(t).address("/"), "PREEMPTION_CONFIG="+file, "HTTP_ADDR="+addr,
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY=100")
	s.Eventually("the worker starts the watch", func() bool {
		_, err := s.Temporal.DescribeWorkflowExecution(t.Context(), watch.WorkflowID(s.Queue), "")
		return err == nil
	})
	s.Follows()
	var before map[string]float64
	s.Eventually("the preempted VMs are counted", func() bool {
		before = sitetest.Scrape(t, addr)
		_, counted := before["preemption_vms_preempted"]
		return counted
	})
	s.Must(s.VC.TerminateSessions())
	cl := s.VC.Cluster("cluster-a")
	_, err = s.VC.PostAlarm(t.Context(), simulation.AlarmChange{Name: alarm, Entity: cl.Ref, From: "green", To: "red", Cluster: cl.Ref})
	s.Must(err)
	began := time.Now()
	var after map[string]float64
	s.Eventually("the round ended", func() bool {
		after = sitetest.Scrape(t, addr)
		return after["preemption_rounds_total"] > 0
	})
	if after["preemption_evictions_total"] != 3 || after["preemption_reclaim_seconds"] != 3 {
		t.Errorf("want 3 VMs evicted: %v", after)
	}
	if cpu, memory := after["preemption_reclaimed_cpu_hertz_total"], after["preemption_reclaimed_memory_bytes_total"]; cpu < 3e6 || memory < 3<<20 {
		t.Errorf("%v Hz and %v bytes are counted as reclaimed", cpu, memory)
	}
	for ; after["preemption_vms_preempted"] != 3 && time.Since(began) < 90*time.Second; time.Sleep(time.Second) {
		after = sitetest.Scrape(t, addr)
	}
	if n := after["preemption_vms_preempted"]; n != 3 {
		t.Errorf("%v VMs are counted as preempted, want 3", n)
	}
	if r, err := s.ByHand(preemptapi.RestoreInput{PolicyName: "roomy"}); err != nil || len(r.Restored()) != 3 {
		t.Errorf("want 3 VMs restored, got %+v %v", r, err)
	}
	s.Eventually("the restore is counted", func() bool {
		after = sitetest.Scrape(t, addr)
		return after["preemption_restores_total"] > 0
	})
	s.Eventually("the message is counted", func() bool {
		after = sitetest.Scrape(t, addr)
		return after["preemption_notifications_total"] > 0
	})
	s.Signal("rubbish", 7)
	s.Eventually("the rejection is counted", func() bool {
		after = sitetest.Scrape(t, addr)
		return after["preemption_rejections_total"] > 0
	})
	s.AskForRoom(s.ID("room"), s.RoomRequest("no-such-vm"))
	s.Eventually("the request for room is counted", func() bool {
		after = sitetest.Scrape(t, addr)
		return after["preemption_rooms_total"] > 0
	})
	for _, name := range documentedMetrics(t) {
		if !slices.Contains(still, name) && after[name] == before[name] {
			t.Errorf("%s stayed at %v", name, after[name])
		}
	}
}
