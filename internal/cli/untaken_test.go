package cli_test

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"
)

// A server remembers for minutes who polled a task queue: a worker that has just stopped looks like one that polls.
func TestWithoutWorkerNobodyIsSentToVCenter(t *testing.T) {
	t.Parallel()
	s := newSite(t, false)
	w := worker.New(s.client, s.queue, worker.Options{WorkerStopTimeout: time.Millisecond, DisableRegistrationAliasing: true})
	w.RegisterWorkflow(fakePlan)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	s.awaitPoller()
	w.Stop()
	for _, args := range [][]string{
		{"workflow", "plan", "-t", "preemptible"},
		{"workflow", "plan", "--cluster", "cluster-a"},
		{"workflow", "plan", "--timeout", "1s"},
		{"explain", "web-1"},
		{"explain", "VirtualMachine:vm-1"},
		{"spare", "web-1", "--reason", "x"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			got := s.run(args...)
			got.want(t, 1, "stderr", "no worker polls task queue "+s.queue+" in namespace", "start one, or compare its TEMPORAL_NAMESPACE", "doctor")
			if strings.Contains(got.stderr, "vCenter in time") || strings.Contains(got.stderr, "can it reach vCenter") {
				t.Errorf("vCenter is blamed: %s", got.stderr)
			}
		})
	}
}
