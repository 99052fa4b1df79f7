package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
)

func (a *app) schedulePauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "pause NAME", Args: oneName,
		Short: "Pause a schedule",
		Long: "Pause a schedule: it starts nothing until it is resumed. A run under way is not touched.\n\n" +
			exitCodes("", "no such schedule", "preemptctl did not create the schedule"),
		Example: "  preemptctl schedule pause nightly --reason \"end of the quarter\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(reason) > maxNote {
				return usagef("--reason is %d bytes long: at most %d are taken", len(reason), maxNote)
			}
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error {
				return a.schedulePause(ctx, s, args[0], cmp.Or(reason, "paused by preemptctl"))
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, shown in the list")
	return cmd
}

func (a *app) schedulePause(ctx context.Context, s *session, name, reason string) error {
	h, found, err := s.schedule(ctx, name)
	if err != nil {
		return err
	}
	if err := h.Pause(ctx, client.SchedulePauseOptions{Note: reason}); err != nil {
		return fmt.Errorf("pause schedule %s: %w", name, err)
	}
	effect := "nothing starts until it is resumed"
	if found.Paused {
		effect = "it was paused already; " + effect
	}
	return a.showChanged(changed{
		Name: name, ID: found.ID, Done: "paused", Effect: effect, Running: found.Running, reconciles: found.Reconciles, next: a.command("schedule", "resume", name),
	})
}
