package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
)

// scheduledRun is a run of a schedule and its result.
type scheduledRun struct {
	WorkflowID string    `json:"workflowID"`
	Due        time.Time `json:"due"`
	StartedAt  time.Time `json:"startedAt"`
	Status     string    `json:"status"`
	Result     string    `json:"result"`
}

func (a *app) scheduleListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List schedules, when they run, and the results of their last runs",
		Long: "List the schedules of the namespace, when they run next by the clock of their time zone, and the result of their\n" +
			"last run. A schedule that was created a moment ago may be missing.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl schedule list\n  preemptctl schedule list -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.scheduleList(ctx, s) })
		},
	}
}

func (a *app) scheduleList(ctx context.Context, s *session) error {
	found, err := s.schedules(ctx)
	if err != nil {
		return err
	}
	return a.show(view{
		value: found, msg: "listed schedules", attrs: []any{"schedules", found},
		table: func(t *table) {
			t.section("NAME", "WHEN", "TIME ZONE", "OVERLAP", "PAUSED", "NEXT", "RUNS", "LAST RUN", "RESULT", "ASKS FOR", "TAG", "CRITICALITY", "QUEUE").
				spare("QUEUE", "RUNS", "OVERLAP", "TIME ZONE", "LAST RUN", "CRITICALITY", "TAG")
			for _, f := range found {
				next, last, result, asks := "", "", "", "preemption"
				if f.Reconciles {
					asks = "reconciliation"
				}
				if len(f.Next) > 0 {
					next = inZone(f.Next[0], f.TimeZone)
				}
				if f.Last != nil {
					last, result = inZone(f.Last.StartedAt, f.TimeZone), f.Last.Result
				}
				t.row(f.Name, f.When, f.TimeZone, f.Overlap, pausedWords(f), orDash(next), runsWords(f), orDash(last), orDash(result),
					asks, orDash(f.Tag), orDash(string(f.Criticality)), f.Queue)
			}
		},
	})
}

// schedules lists ours by name. Temporal's list lags behind, so each schedule is looked up, and one that has just
// been deleted is left out.
func (s *session) schedules(ctx context.Context) ([]scheduled, error) {
	var names []string
	iter, err := s.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: 200})
	for err == nil && iter.HasNext() {
		var entry *client.ScheduleListEntry
		if entry, err = iter.Next(); err == nil {
			if name, ours := strings.CutPrefix(entry.ID, schedulePrefix); ours {
				names = append(names, name)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list schedules in namespace %s: %w", s.app.target.namespace, err)
	}
	slices.Sort(names)
	found := []scheduled{}
	for _, name := range names {
		d, err := s.ScheduleClient().GetHandle(ctx, schedulePrefix+name).Describe(ctx)
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up schedule %s: %w", name, err)
		}
		one, ok := scheduleOf(schedulePrefix+name, d)
		if !ok {
			continue
		}
		if n := len(d.Info.RecentActions); n > 0 {
			one.Last = s.scheduledRun(ctx, d.Info.RecentActions[n-1])
		}
		found = append(found, one)
	}
	return found, nil
}

// scheduledRun returns the result of a run.
func (s *session) scheduledRun(ctx context.Context, r client.ScheduleActionResult) *scheduledRun {
	out := &scheduledRun{Due: r.ScheduleTime, StartedAt: r.ActualTime}
	if r.StartWorkflowResult == nil {
		out.Status, out.Result = "unknown", "Temporal does not say which workflow it started"
		return out
	}
	out.WorkflowID = r.StartWorkflowResult.WorkflowID
	d, err := s.DescribeWorkflowExecution(ctx, out.WorkflowID, "")
	if err != nil {
		out.Status, out.Result = "unknown", err.Error()
		if missing(err) {
			out.Result = "no longer kept"
		}
		return out
	}
	info := d.GetWorkflowExecutionInfo()
	out.Status = statusWord(info.GetStatus())
	out.Result = out.Status
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		out.Result = "under way"
		return out
	}
	if info.GetType().GetName() == remediateapi.ReconcileType {
		out.Result = s.reconciledWords(ctx, info, out.Status)
		return out
	}
	switch info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		out.Result = "timed out: no worker took it, or its round continues without it"
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		var res preemptapi.Response
		if err := s.GetWorkflow(ctx, out.WorkflowID, info.GetExecution().GetRunId()).Get(ctx, &res); err != nil {
			out.Result = "unknown: " + err.Error()
		} else {
			out.Result = resultWords(res)
		}
	}
	return out
}

// reconciledWords describes the result of a reconciliation that has ended.
func (s *session) reconciledWords(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, status string) string {
	var r remediateapi.ReconcileResult
	e := info.GetExecution()
	r, err := reconciled(s.GetWorkflow(ctx, e.GetWorkflowId(), e.GetRunId()).Get(ctx, &r), r)
	switch {
	case info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return "timed out: no worker took it up, or it took too long"
	case err != nil:
		return status + ": " + reasonOf(err).Error()
	}
	count := map[remediateapi.State]int{}
	for _, d := range r.Decisions {
		count[d.State]++
	}
	text := string(r.State) + ", " + countVMs(count[remediateapi.Applied]) + " reconciled"
	for _, state := range []remediateapi.State{remediateapi.Deferred, remediateapi.Infeasible, remediateapi.Failed} {
		if n := count[state]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, strings.ToLower(string(state)))
		}
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// resultWords describes the result of an intake that has completed.
func resultWords(res preemptapi.Response) string {
	r, d := res.Round, res.LastDecision
	switch {
	case r != nil:
		text := string(r.State)
		if n := len(r.Preempted()); n > 0 {
			text += ", " + countVMs(n) + " off"
		}
		if n := r.Count(action.Failed); n > 0 {
			text += ", " + countVMs(n) + " failed"
		}
		if r.Reason != "" {
			text += ": " + r.Reason
		}
		return text
	case d != nil && d.Reason != "":
		return string(d.Verdict) + ": " + d.Reason
	case d != nil:
		return string(d.Verdict)
	}
	return string(cmp.Or(res.State, preemptapi.IntakeCompleted))
}

func countVMs(n int) string {
	if n == 1 {
		return "1 VM"
	}
	return strconv.Itoa(n) + " VMs"
}

func pausedWords(s scheduled) string {
	switch {
	case !s.Paused:
		return "no"
	case s.PausedWhy == "":
		return "yes"
	}
	return "yes: " + s.PausedWhy
}

// runsWords counts the runs that were started, and those that were not.
func runsWords(s scheduled) string {
	text := strconv.Itoa(s.Runs)
	if s.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", s.Skipped)
	}
	if s.Missed > 0 {
		text += fmt.Sprintf(", %d missed", s.Missed)
	}
	return text
}
