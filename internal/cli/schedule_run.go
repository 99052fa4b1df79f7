package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
)

func (a *app) scheduleRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run NAME", Aliases: []string{"trigger"}, Args: oneName,
		Short: "Run a schedule now",
		Long: "Run a schedule now, in addition to its times, even if it is paused. Its overlap policy applies to this run too.\n\n" +
			exitStatus("no such schedule", "preemptctl did not create the schedule"),
		Example: "  preemptctl schedule run nightly",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.scheduleRun(ctx, s, args[0]) })
		},
	}
}

func (a *app) scheduleRun(ctx context.Context, s *session, name string) error {
	h, found, err := s.schedule(ctx, name)
	if err != nil {
		return err
	}
	polled, err := s.polledAt(ctx, found.Queue)
	if err != nil {
		return err
	}
	if err := h.Trigger(ctx, client.ScheduleTriggerOptions{}); err != nil {
		return fmt.Errorf("run schedule %s: %w", name, err)
	}
	effect := "Temporal starts it now"
	if len(found.Running) > 0 {
		effect = "a run is under way, and " + found.Overlap + " holds: " + meaning(found.Overlap)
	}
	err = a.showChanged(changed{
		Name: name, ID: found.ID, Done: "triggered", Effect: effect, Running: found.Running, reconciles: found.Reconciles, next: a.command("schedule", "list"),
	})
	if !polled {
		err = errors.Join(err, failedf("no worker polls task queue %s in namespace %s: the run waits for one, and ends without doing anything if there is none within %s",
			found.Queue, a.target.namespace, cmp.Or(found.GiveUp, "any time")))
	}
	return err
}
