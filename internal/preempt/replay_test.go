package preempt_test

import (
	"compress/gzip"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

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
			r := worker.NewWorkflowReplayer()
			ours.RegisterRooms(r)
			quiet := log.NewStructuredLogger(slog.New(slog.DiscardHandler))
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
			err = r.ReplayWorkflowHistoryWithOptions(quiet, history, worker.ReplayWorkflowHistoryOptions{
				OriginalExecution: workflow.Execution{ID: id}, // an intake's rounds are named after it
			})
			if err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(file); err != nil || info.Size() > 1<<20 {
				t.Errorf("a history should be small: %v, %v", info, err)
			}
		})
	}
}
