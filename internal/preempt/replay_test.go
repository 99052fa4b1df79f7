package preempt_test

import (
	"compress/gzip"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/workflows"
	ours "github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// Histories recorded from real runs must keep replaying: what runs in production today was begun by an
// earlier version of this code.
func TestRecordedHistoriesReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/histories/*/*.json*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("%d histories found: the recorded ones are missing", len(files))
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			replayed(t, worker.NewWorkflowReplayer(), file)
			if info, err := os.Stat(file); err != nil || info.Size() > 1<<20 {
				t.Errorf("a history should be small: %v, %v", info, err)
			}
		})
	}
}

// replayed replays a recorded history with what is to replay it.
func replayed(t *testing.T, r worker.WorkflowReplayer, file string) {
	t.Helper()
	ours.RegisterRooms(r)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var text io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		if text, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	history, err := client.HistoryFromJSON(text, client.HistoryJSONOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowId()
	err = r.ReplayWorkflowHistoryWithOptions(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), history, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: id}, // an intake's rounds are named after it
	})
	if err != nil {
		t.Error(err)
	}
}

// Tracing may be turned on in the middle of a round, an intake or a ledger. What is only replayed has been traced before.
func TestRecordedHistoriesReplayTracedAndSendNoSpan(t *testing.T) {
	files, err := filepath.Glob("testdata/histories/*/*.json*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d histories found, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			spans := tracetest.NewSpanRecorder()
			var interceptors []interceptor.WorkerInterceptor
			for _, i := range workflows.Interceptors(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), ours.Traced()) {
				interceptors = append(interceptors, i.(interceptor.WorkerInterceptor))
			}
			r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: interceptors})
			if err != nil {
				t.Fatal(err)
			}
			replayed(t, r, file)
			for _, s := range spans.Ended() {
				t.Errorf("the replay sends the span %q", s.Name())
			}
		})
	}
}
