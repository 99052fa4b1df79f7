package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) scheduleDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Aliases: []string{"rm"}, Args: oneName,
		Short: "Delete a schedule",
		Long: "Delete a schedule: it starts nothing any more. The command does not ask for confirmation. A run under way is not\n" +
			"touched, and the results of earlier runs stay readable with workflow list and workflow status.\n\n" +
			exitCodes("", "no such schedule", "preemptctl did not create the schedule"),
		Example: "  preemptctl schedule delete nightly",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.scheduleDelete(ctx, s, args[0]) })
		},
	}
}

func (a *app) scheduleDelete(ctx context.Context, s *session, name string) error {
	h, found, err := s.schedule(ctx, name)
	if err != nil {
		return err
	}
	if err := h.Delete(ctx); missing(err) {
		return notFoundf("schedule %s has just been deleted by somebody else", name)
	} else if err != nil {
		return fmt.Errorf("delete schedule %s: %w", name, err)
	}
	effect := "nothing starts by it any more; no run was under way"
	if len(found.Running) > 0 {
		effect = "nothing starts by it any more; the run under way is not touched"
	}
	return a.showChanged(changed{
		Name: name, ID: found.ID, Done: "deleted", Effect: effect, Running: found.Running, reconciles: found.Reconciles, next: a.command("workflow", "list"),
	})
}
