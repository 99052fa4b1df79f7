package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
)

func (a *app) scheduleResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume NAME", Aliases: []string{"unpause"}, Args: oneName,
		Short: "Resume a paused schedule",
		Long: "Resume a paused schedule: it runs again when it is next due. Runs that were due during the pause are not made up\n" +
			"for.\n\n" +
			exitCodes("", "no such schedule", "preemptctl did not create the schedule"),
		Example: "  preemptctl schedule resume nightly",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.scheduleResume(ctx, s, args[0]) })
		},
	}
}

func (a *app) scheduleResume(ctx context.Context, s *session, name string) error {
	h, found, err := s.schedule(ctx, name)
	if err != nil {
		return err
	}
	if err := h.Unpause(ctx, client.ScheduleUnpauseOptions{Note: cmp.Or(found.Note, "resumed by preemptctl")}); err != nil {
		return fmt.Errorf("resume schedule %s: %w", name, err)
	}
	effect := "it runs again when it is next due; runs that were due during the pause are not made up for"
	if !found.Paused {
		effect = "it was not paused"
	}
	return a.showChanged(changed{
		Name: name, ID: found.ID, Done: "resumed", Effect: effect, Running: found.Running, reconciles: found.Reconciles, next: a.command("schedule", "list"),
	})
}
