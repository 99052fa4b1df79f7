// Command bench measures the released programs against a simulated vCenter and a real Temporal server, and prints
// tables. All its work is in internal/bench.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/vsphere-preemption/vsphere-preemption/internal/bench"
)

// gcPercent spares the processor time of simulator and Temporal, which share the cores with the workers that are measured.
const gcPercent = 200

func main() {
	debug.SetGCPercent(gcPercent)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(bench.Program{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr}.Run(ctx))
}
