package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// The ids of plans, and of remediations of objects that only the worker can find.
const (
	remediationPlanPrefix = "remediation-plan-"
	remediationRunPrefix  = "remediation-run-"
)

// remediationKinds are the values of --kind.
var remediationKinds = []string{placement.KindResize, placement.KindReconfigure, placement.KindMove}

// remediationListed is one remediation in the list.
type remediationListed struct {
	WorkflowID string    `json:"workflowID"`
	RunID      string    `json:"workflowRunID"`
	Kind       string    `json:"kind"`
	Status     string    `json:"status"`          // of the workflow
	State      string    `json:"state,omitempty"` // of the last decision
	VM         string    `json:"vm,omitempty"`    // MoRef
	Name       string    `json:"name,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	StartedAt  time.Time `json:"startedAt"`
	ClosedAt   time.Time `json:"closedAt,omitzero"`
}

func (a *app) remediationListCommand() *cobra.Command {
	var kind string
	var all bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List remediations",
		Long: "List the remediations that Temporal keeps, newest first, each with its last decision; with --all also plans. For\n" +
			"earlier decisions use remediation show.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl remediation list\n  preemptctl remediation list --kind move --limit 100 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kind != "" && placement.WorkflowType(kind) == "" {
				return usagef("--kind %q is not one of %s", kind, strings.Join(remediationKinds, ", "))
			}
			if limit < 1 || limit > maxList {
				return usagef("--limit %d is not within 1 to %d", limit, maxList)
			}
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.remediationList(ctx, s, kind, all, limit) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&kind, "kind", "", "only of this kind: "+strings.Join(remediationKinds, ", "))
	flags.BoolVar(&all, "all", false, "also plans")
	flags.IntVar(&limit, "limit", 20, "most remediations listed")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(remediationKinds, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) remediationList(ctx context.Context, s *session, kind string, all bool, limit int) error {
	var types []string
	for _, k := range remediationKinds {
		if kind == "" || kind == k {
			types = append(types, placement.WorkflowType(k))
		}
	}
	query := fmt.Sprintf("WorkflowType IN ('%s')", strings.Join(types, "','"))
	if !all {
		query += " AND WorkflowId NOT STARTS_WITH '" + remediationPlanPrefix + "'"
	}
	infos, _, err := s.executions(ctx, query, limit)
	if err != nil {
		return err
	}
	found := []remediationListed{}
	for _, info := range infos {
		found = append(found, remediationListing(info))
	}
	return a.show(view{
		value: found, msg: "listed remediations", attrs: []any{"remediations", found},
		table: func(t *table) {
			t.section("REMEDIATION", "KIND", "STATUS", "STATE", "VM", "NAME", "REASON", "STARTED", "CLOSED").spare("VM", "CLOSED")
			for _, r := range found {
				t.row(r.WorkflowID, r.Kind, r.Status, orDash(r.State), orDash(r.VM), orDash(r.Name), orDash(r.Reason),
					timestamp(r.StartedAt), orDash(timestamp(r.ClosedAt)))
			}
		},
	})
}

// remediationListing reads only the memo, which the workflow keeps up to date.
func remediationListing(info *workflowpb.WorkflowExecutionInfo) remediationListed {
	w := listing(info)
	return remediationListed{
		WorkflowID: w.WorkflowID, RunID: w.RunID, Kind: cmp.Or(memoText(info, "kind"), kindOf(w.Type)), Status: w.Status, State: w.State,
		VM: memoText(info, "vm"), Name: memoText(info, "name"), Reason: memoText(info, "reason"), StartedAt: w.StartedAt, ClosedAt: w.ClosedAt,
	}
}
