// Command worker runs the preemption workflows and their activities: it polls a Temporal task queue and
// connects to one vCenter. Its job is to put the packages together and to keep going while Temporal or
// vCenter is away. It must not link the Temporal server or the vCenter simulator.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // a bare image has no time zones

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
)

// Set by the linker in a release: -ldflags "-X main.version=v1.2.3 -X main.commit=... -X main.date=...".
var version, commit, date string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := invocation{
		args: os.Args[1:], env: config.Environ(os.Environ()), stdout: os.Stdout, stderr: os.Stderr,
		build: telemetry.ReadBuild(version, commit, date),
	}
	os.Exit(p.run(ctx))
}
