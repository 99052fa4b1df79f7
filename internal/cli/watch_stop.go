package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// How long to wait until no worker runs the watch any more. A worker learns of a pause with its next heartbeat, within
// ten seconds.
const (
	pauseLimit = 45 * time.Second
	pauseLook  = 250 * time.Millisecond
)

func (a *app) watchStopCommand() *cobra.Command {
	var reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "stop", Aliases: []string{"pause"}, Args: noArgs,
		Short: "Pause the watch of vCenter's events",
		Long: "Pause the watch of vCenter's events, and wait until no worker runs it any more. The pause outlives workers and\n" +
			"their restarts: only watch start ends it. Work under way is not touched, and events that reach a receiver still\n" +
			"act.\n\n" +
			exitStatus("there is no watch to pause", ""),
		Example: "  preemptctl watch stop --reason \"maintenance of cluster A\"\n  preemptctl watch stop --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(reason) > maxNote {
				return usagef("--reason is %d bytes long: at most %d are taken", len(reason), maxNote)
			}
			return a.withSession(cmd, quick+pauseLimit, func(ctx context.Context, s *session) error {
				return a.watchStop(ctx, s, cmp.Or(reason, "paused by preemptctl"), dryRun)
			})
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&reason, "reason", "", "why, shown by status")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return cmd
}

func (a *app) watchStop(ctx context.Context, s *session, reason string, dryRun bool) error {
	w, found, err := s.lookAtWatch(ctx)
	switch {
	case err != nil:
		return err
	case !found:
		return a.noWatch("nothing to pause: ")
	case !w.running():
		return notFoundf("nothing to pause: the watch %s is %s", w.id, statusWord(w.info.GetStatus()))
	}
	out := watchChanged{
		WorkflowID: w.id, RunID: w.info.GetExecution().GetRunId(), Done: "paused", DryRun: dryRun, WorkerPolling: w.polled,
		Effect: "no worker follows vCenter's events until the watch is started again, even after restarts of workers",
		next:   a.command("watch", "start"),
	}
	switch {
	case w.paused():
		out.Done, out.Effect = "unchanged", "it is paused already, since "+timestamp(w.state.PausedAt)+": "+orDash(w.state.Reason)
		return a.showWatch(out)
	case dryRun:
		return a.showWatch(out)
	}
	err = s.SignalWorkflow(ctx, w.id, "", watchapi.ControlSignal, watchapi.Control{Paused: true, Reason: reason})
	if missing(err) {
		return notFoundf("nothing to pause: the watch %s has just ended", w.id)
	} else if err != nil {
		return fmt.Errorf("pause the watch %s: %w", w.id, err)
	}
	if !w.polled {
		return errors.Join(a.showWatch(out), a.noWorker("the watch does not run, and the pause stays queued until one starts"))
	}
	if w.activity != nil {
		a.notice("pausing; waiting until worker %s has received the pause and stopped the watch, which takes some seconds",
			orDash(cmp.Or(w.checkpoint().Worker, w.activity.GetLastWorkerIdentity())))
	}
	if err := a.awaitPause(ctx, s); err != nil {
		return err
	}
	return a.showWatch(out)
}

// awaitPause waits until the watch is paused and no worker runs it.
func (a *app) awaitPause(ctx context.Context, s *session) error {
	limited, cancel := context.WithTimeout(ctx, pauseLimit)
	defer cancel()
	status := a.command("watch", "status")
	for {
		w, _, err := s.lookAtWatch(limited)
		switch {
		case err == nil && !w.running():
			return failedf("the watch %s ended (%s) instead of pausing; look: %s", w.id, statusWord(w.info.GetStatus()), status)
		case err == nil && w.paused() && w.activity == nil:
			return nil
		}
		if clock.Sleep(limited, pauseLook) {
			continue
		}
		var away *unreachableError
		switch {
		case errors.As(context.Cause(ctx), &away):
			return away
		case errors.Is(context.Cause(ctx), context.Canceled):
			return interruptedf("interrupted: the watch stays paused; look: %s", status)
		}
		return failedf("the watch is paused, but within %s the worker did not report that it has stopped; look: %s", pauseLimit, status)
	}
}

// noWatch returns the error that there is no watch.
func (a *app) noWatch(what string) error {
	return notFoundf("%sno watch of vCenter's events for task queue %s in namespace %s on %s: it was never started, or is no longer kept; "+
		"a worker whose file has rules starts it, and so does: %s",
		what, a.target.queue, a.target.namespace, a.target.address, a.command("watch", "start"))
}
