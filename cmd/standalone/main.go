// Command standalone runs everything in one process: Temporal with its web UI, the worker, and with --simulate a
// simulated vCenter on which a preemption can be watched. All its work is in internal/standalone.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // a bare image has no time zones

	"github.com/vsphere-preemption/vsphere-preemption/internal/standalone"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
)

// Set by the linker at a release.
var version, commit, date string

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	env := os.Environ()
	// The embedded Temporal server reads this variable too: it would send spans of its own, or not start.
	if err := os.Unsetenv("OTEL_TRACES_EXPORTER"); err != nil {
		panic(err) // it fails for an impossible name only
	}
	os.Exit(standalone.Program{
		Args: os.Args[1:], Env: env, Stdout: os.Stdout, Stderr: os.Stderr,
		Build: telemetry.ReadBuild(version, commit, date), Ports: standalone.DefaultPorts(),
		Signals: signals, Exit: os.Exit,
	}.Run(context.Background()))
}
