package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// maxList bounds --limit.
const maxList = 10000

// listed is one workflow in the list.
type listed struct {
	WorkflowID string    `json:"workflowID"`
	RunID      string    `json:"workflowRunID"`
	Type       string    `json:"type"`
	Status     string    `json:"status"`
	State      string    `json:"state,omitempty"`
	Alarm      string    `json:"alarm,omitempty"`
	Scope      string    `json:"scope,omitempty"`
	Tag        string    `json:"tag,omitempty"`
	StartedAt  time.Time `json:"startedAt"`
	ClosedAt   time.Time `json:"closedAt,omitzero"`
	Stalled    string    `json:"stalled,omitempty"` // why it makes no progress
}

func (a *app) listCommand() *cobra.Command {
	var all bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List preemptions, their rounds, restores and remediations",
		Long: "List the workflows that Temporal keeps, newest first: intakes, rounds, restores, those that make room and remediations;\n" +
			"with --all also plans and the ledger. What happened, and to which VMs, shows preemptctl history. Workflows that make no progress are marked. They are also named on stderr, even if the list is too\n" +
			"short to show them.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl workflow list\n  preemptctl workflow list --all --limit 100 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > maxList {
				return usagef("--limit %d is not within 1 to %d", limit, maxList)
			}
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.list(ctx, s, all, limit) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also plans and the ledger")
	cmd.Flags().IntVar(&limit, "limit", 20, "most workflows listed")
	return cmd
}

func (a *app) list(ctx context.Context, s *session, all bool, limit int) error {
	found, err := s.workflows(ctx, all, limit)
	if err != nil {
		return err
	}
	progress := s.progressBeside(ctx)
	a.warnPaused(ctx, s)
	for i := range found {
		if st, ok := progress.Of(found[i].WorkflowID); ok && st.RunID == found[i].RunID {
			found[i].Stalled = st.Words()
		}
	}
	err = a.show(view{
		value: found, msg: "listed workflows", attrs: []any{"workflows", found},
		table: func(t *table) {
			t.section("WORKFLOW", "RUN", "TYPE", "STATUS", "STATE", "ALARM", "SCOPE", "STARTED", "CLOSED")
			for _, w := range found {
				state := orDash(w.State)
				if w.Stalled != "" {
					state = "STALLED"
				}
				t.row(w.WorkflowID, w.RunID, w.Type, w.Status, state, orDash(w.Alarm), orDash(w.Scope),
					timestamp(w.StartedAt), orDash(timestamp(w.ClosedAt)))
			}
		},
	})
	a.tellStalled(progress)
	return err
}

// workflows lists up to limit workflows of preemptions.
func (s *session) workflows(ctx context.Context, all bool, limit int) ([]listed, error) {
	types := []string{
		preemption.WorkflowName, preemptapi.RoundType, preemption.MakeRoomWorkflowName, preemptapi.RestoreType,
		placement.ResizeType, placement.ReconfigureType, placement.MoveType, remediateapi.ReconcileType,
	}
	if all {
		types = append(types, preemptapi.PlanType, ledger.WorkflowType)
	}
	found, _, err := s.find(ctx, fmt.Sprintf("WorkflowType IN ('%s')", strings.Join(types, "','")), limit)
	return found, err
}

// find lists up to limit workflows, newest first, and reports whether there are more.
func (s *session) find(ctx context.Context, query string, limit int) (found []listed, more bool, err error) {
	infos, more, err := s.executions(ctx, query, limit)
	if err != nil {
		return nil, false, err
	}
	found = []listed{}
	for _, info := range infos {
		found = append(found, listing(info))
	}
	return found, more, nil
}

// executions lists up to limit workflows, newest first, and reports whether there are more. Temporal's own order
// has the open ones first, so that none of them is left out if there are more than the limit.
func (s *session) executions(ctx context.Context, query string, limit int) (found []*workflowpb.WorkflowExecutionInfo, more bool, err error) {
	req := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: s.app.target.namespace, PageSize: int32(min(limit+1, 200)), Query: query,
	}
	for len(found) <= limit {
		page, err := s.ListWorkflow(ctx, req)
		if err != nil {
			return nil, false, fmt.Errorf("list workflows in namespace %s: %w", s.app.target.namespace, err)
		}
		found = append(found, page.GetExecutions()...)
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			break
		}
	}
	more = len(found) > limit
	found = found[:min(len(found), limit)]
	slices.SortStableFunc(found, func(a, b *workflowpb.WorkflowExecutionInfo) int {
		return b.GetStartTime().AsTime().Compare(a.GetStartTime().AsTime())
	})
	return found, more, nil
}

func listing(info *workflowpb.WorkflowExecutionInfo) listed {
	w := listed{
		WorkflowID: info.GetExecution().GetWorkflowId(), RunID: info.GetExecution().GetRunId(),
		Type: info.GetType().GetName(), Status: statusWord(info.GetStatus()),
		State: memoText(info, "state"), Alarm: memoText(info, "alarm"), Scope: memoText(info, "scope"), Tag: memoText(info, "tag"),
	}
	if t := info.GetStartTime(); t != nil {
		w.StartedAt = t.AsTime()
	}
	if t := info.GetCloseTime(); t != nil {
		w.ClosedAt = t.AsTime()
	}
	return w
}
