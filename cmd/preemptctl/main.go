// Command preemptctl is the operator's hand: it asks for preemptions, looks at them and cancels them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // policies name time zones, and the machine may know none

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

var version, commit, date string // set by the linker in releases

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	o := cli.Options{Args: os.Args[1:], Build: cli.Build{Version: version, Commit: commit, Date: date}}
	os.Exit(cli.Run(ctx, o))
}
