package cli_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/embedded"
)

// maxBinary is the most that the stripped binary may weigh.
const maxBinary = 36 << 20

// BenchmarkRunProcess measures preemptctl workflow run from the start of its process to its exit, against
// a server in this process that somebody polls. The prototype took 34 ms on an idle machine.
func BenchmarkRunProcess(b *testing.B) {
	binary := build(b)
	server, err := embedded.Start(context.Background(), embedded.Options{InMemory: true, RelaxedSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Stop)
	run := func(args ...string) time.Duration {
		start := time.Now()
		out, err := exec.Command(binary, append(args, "-s", server.HostPort(), "-n", preemption.DefaultNamespace)...).CombinedOutput()
		if e, ok := err.(*exec.ExitError); err != nil && (!ok || e.ExitCode() != 1) { // 1: nobody polls
			b.Fatalf("%v\n%s", err, out)
		}
		return time.Since(start)
	}
	var took []time.Duration
	for b.Loop() {
		took = append(took, run("workflow", "run"))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[0].Microseconds())/1000, "ms-best")
}

func build(tb testing.TB) string {
	tb.Helper()
	binary := filepath.Join(tb.TempDir(), "preemptctl")
	out, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/preemptctl").CombinedOutput()
	if err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	return binary
}
