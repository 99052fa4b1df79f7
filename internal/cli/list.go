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
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
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

// listFlags are the flags of list.
type listFlags struct {
	filterFlags
	all   bool
	limit int
}

func (a *app) listCommand() *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List preemptions, their rounds, restores and remediations",
		Long: "List the workflows that Temporal keeps, newest first: intakes, rounds, restores, those that make room and remediations;\n" +
			"with --all also plans and the ledger. What became of VMs shows preemptctl history. Workflows that make no progress are\n" +
			"marked. They are also named on stderr, even if the list is too short to show them.\n\n" +
			"With --vm only those that acted on it or looked at it are listed: plans, the ledger and intakes name no VMs.\n\n" +
			exitStatus("no such VM or cluster", ""),
		Example: "  preemptctl workflow list\n  # what is under way, or ended in the last two hours, in cluster-a?\n" +
			"  preemptctl workflow list --cluster cluster-a --since 2h\n  preemptctl workflow list --state failed --since 7d\n" +
			"  preemptctl workflow list --all --limit 100 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.list(cmd, f) },
	}
	cmd.Flags().SortFlags = false
	f.register(cmd, "", " (default: all that is kept)")
	cmd.Flags().BoolVar(&f.all, "all", false, "also plans and the ledger")
	cmd.Flags().IntVar(&f.limit, "limit", 20, "most workflows listed")
	return cmd
}

func (a *app) list(cmd *cobra.Command, f listFlags) error {
	if f.limit < 1 || f.limit > maxList {
		return usagef("--limit %d is not within 1 to %d", f.limit, maxList)
	}
	filter, err := f.filter(a.Now())
	if err != nil {
		return err
	}
	limit := quick
	if f.reads() {
		limit = readLimit
	}
	return a.withSession(cmd, limit, func(ctx context.Context, s *session) error {
		found, err := a.listed(ctx, s, f, filter)
		if err != nil {
			return err
		}
		return a.showList(ctx, s, found)
	})
}

// listed returns the workflows that the flags choose. What concerns a VM, a cluster or an alarm the record knows; intakes, plans and
// the ledger are not in it. The state is that which the list shows.
func (a *app) listed(ctx context.Context, s *session, f listFlags, filter record.Filter) ([]listed, error) {
	query := ofTypes(f.all)
	if !filter.Since.IsZero() {
		query += fmt.Sprintf(" AND (ExecutionStatus = 'Running' OR CloseTime >= '%s')", filter.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.reads() {
		found, _, err := s.find(ctx, query, f.limit)
		return found, err
	}
	state := filter.State
	filter.State = "" // the list has it
	if filter.VM == "" && filter.Cluster == "" && filter.Alarm == "" {
		return a.noneIsSaid(s.findWhere(ctx, query, f.limit, func(w *listed) bool { return w.isIn(state) }))
	}
	entries, reach, err := a.chosen(ctx, s, &filter)
	if err != nil {
		return nil, err
	}
	a.warnReach(reach, filter.Since)
	inRecord, scopes := make(map[string]record.Entry, len(entries)), map[string]bool{}
	for _, e := range entries {
		inRecord[e.RunID] = e
		scopes[e.Scope.String()], scopes[e.Cluster.String()] = true, true
	}
	return a.noneIsSaid(s.findWhere(ctx, query, f.limit, func(w *listed) bool {
		if !w.isIn(state) {
			return false
		}
		if _, ok := inRecord[w.RunID]; ok {
			return true
		}
		beside := filter
		if w.Scope != "" && scopes[w.Scope] {
			beside.Cluster = "" // its work is in the cluster
		}
		return besideRecord(w.Type) && beside.Matches(w.entry())
	}))
}

// isIn reports whether the list shows a workflow in a state; "": in any.
func (w listed) isIn(state string) bool { return state == "" || strings.EqualFold(w.State, state) }

// noneIsSaid says where nothing was found.
func (a *app) noneIsSaid(found []listed, err error) ([]listed, error) {
	if err == nil && len(found) == 0 {
		a.notice("nothing that is kept is as all these flags say")
	}
	return found, err
}

// besideRecord reports whether workflows of a type are not in the record.
func besideRecord(kind string) bool {
	return kind == preemption.WorkflowName || kind == preemptapi.PlanType || kind == ledger.WorkflowType
}

// entry is what the list of workflows itself says, as the record would.
func (w listed) entry() record.Entry {
	ref, _ := vsphere.ParseRef(w.Scope)
	return record.Entry{
		ID: w.WorkflowID, RunID: w.RunID, State: w.State, Alarm: w.Alarm, Scope: ref, ScopeName: w.Scope,
		StartedAt: w.StartedAt, EndedAt: w.ClosedAt, Open: w.ClosedAt.IsZero(),
	}
}

func (a *app) showList(ctx context.Context, s *session, found []listed) error {
	progress := s.progressBeside(ctx)
	a.warnPaused(ctx, s)
	for i := range found {
		if st, ok := progress.Of(found[i].WorkflowID); ok && st.RunID == found[i].RunID {
			found[i].Stalled = st.Words()
		}
	}
	err := a.show(view{
		value: found, msg: "listed workflows", attrs: []any{"workflows", found},
		table: func(t *table) {
			t.section("WORKFLOW", "RUN", "TYPE", "STATUS", "STATE", "ALARM", "SCOPE", "STARTED", "CLOSED").spare("RUN", "TYPE", "CLOSED", "SCOPE")
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

// ofTypes is the query of the workflows of preemptions and remediations.
func ofTypes(all bool) string {
	types := []string{
		preemption.WorkflowName, preemptapi.RoundType, preemption.MakeRoomWorkflowName, preemptapi.RestoreType,
		placement.ResizeType, placement.ReconfigureType, placement.MoveType, remediateapi.ReconcileType,
	}
	if all {
		types = append(types, preemptapi.PlanType, ledger.WorkflowType)
	}
	return fmt.Sprintf("WorkflowType IN ('%s')", strings.Join(types, "','"))
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
	if state := record.StateOfEnd(info.GetStatus()); state != "" {
		w.State = state
	}
	if t := info.GetStartTime(); t != nil {
		w.StartedAt = t.AsTime()
	}
	if t := info.GetCloseTime(); t != nil {
		w.ClosedAt = t.AsTime()
	}
	return w
}
