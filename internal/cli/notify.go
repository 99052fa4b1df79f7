package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// notifyLimit is how long a test may take: one attempt at each channel.
const notifyLimit = 50 * time.Second

func (a *app) notifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "notify", Args: noArgs,
		Short:   "Try the channels by which people are told",
		Long:    "Try the channels by which people are told.\n\n" + exitStatus("", ""),
		Example: "  preemptctl notify test  # exit code 3 where the worker's file has no channel",
	}
	group(cmd, a.notifyTestCommand())
	return cmd
}

func (a *app) notifyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "test [CHANNEL]", Args: arguments(0, 1, "the name of one channel, or none for all"),
		Short: "Have a worker send a test message",
		Long: "Have a worker send a test message to one channel of its configuration file, or to all, and show what became of it.\n" +
			"Each channel is tried once. The addresses are known to the worker alone, and are not shown.\n\n" +
			exitCodes(", also when a channel could not be reached, and when no worker polls the task queue", "the worker's file has no such channel, or none", ""),
		Example: "  preemptctl notify test  # exit code 3 where the worker's file has no channel\n  preemptctl notify test ops  # exit code 3 where it has none of that name",
		RunE: func(cmd *cobra.Command, args []string) error {
			var name string
			if len(args) == 1 {
				if name = strings.TrimSpace(args[0]); name == "" {
					return usagef("CHANNEL is empty: name one, or leave it out for all")
				}
			}
			return a.withSession(cmd, notifyLimit, func(ctx context.Context, s *session) error { return a.notifyTest(ctx, s, name) })
		},
	}
}

func (a *app) notifyTest(ctx context.Context, s *session, name string) error {
	polled, err := s.polled(ctx)
	if err != nil {
		return err
	}
	if !polled {
		return a.noWorker("only a worker knows the addresses")
	}
	id := "preemption-notification-test-" + uuid.NewString()
	m := tell.Message{ID: id, What: "a test by preemptctl: this channel works", At: a.Now().UTC()}
	run, err := s.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: a.target.queue, WorkflowExecutionTimeout: notifyLimit, StaticSummary: "test of the channels",
	}, tell.WorkflowType, tell.Order{Message: m, Channel: name})
	if err != nil {
		return fmt.Errorf("ask for a test message: %w", err)
	}
	var r tell.Report
	if err := run.Get(ctx, &r); err != nil {
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return s.unanswered(ctx, id, "test", "the message may still be sent", err)
		}
		return failedf("no worker answered in time; a worker of an older release cannot do it; look: %s", a.command("doctor"))
	}
	return a.showTest(r, name)
}

func (a *app) showTest(r tell.Report, name string) error {
	switch {
	case r.Unknown && len(r.Known) > 0:
		return notFoundf("the worker's file has no channel %q; it has %s", name, strings.Join(r.Known, ", "))
	case len(r.Deliveries) == 0:
		return notFoundf("the worker's file has no channel: see notifications in docs/configuration.md")
	}
	err := a.show(view{
		value: r, msg: "notification", attrs: []any{"deliveries", r.Deliveries},
		table: func(t *table) {
			for _, d := range r.Deliveries {
				t.row(d.Channel, string(d.Outcome), d.Reason)
			}
		},
	})
	failed := 0
	for _, d := range r.Deliveries {
		if d.Outcome != tell.Sent {
			failed++
		}
	}
	if err == nil && failed > 0 {
		err = failedf("%d of %d channels could not be reached", failed, len(r.Deliveries))
	}
	return err
}
