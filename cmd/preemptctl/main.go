// Command preemptctl is the operator's command line: it plans, starts, shows and cancels preemptions.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // policies name time zones, and the machine may have no database of them

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

var version, commit, date string // set by the linker in releases

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	o := cli.Options{Args: os.Args[1:], Build: cli.Build{Version: version, Commit: commit, Date: date}}
	os.Exit(cli.Run(ctx, o))
}
