// Command kn-go-preemption takes vSphere alarm events as CloudEvents over HTTP, as a Knative service or a
// plain server, applies the rules, and signals workflows in Temporal. Its job is to put the packages together and
// to keep answering while Temporal is away. It must not link govmomi, the Temporal server or the simulator.
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
