package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// queryLimit is how long a worker may take to answer for a workflow.
const queryLimit = 4 * time.Second

// idFlags name a workflow.
type idFlags struct{ workflowID, runID string }

func (f *idFlags) register(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&f.workflowID, "workflow-id", "w", preemption.DefaultWorkflowID, "id of the workflow: an intake or a round")
	cmd.Flags().StringVarP(&f.runID, "run-id", "r", "", "id of one of its runs (default: the current or last one)")
}

func (f *idFlags) check() error {
	if strings.TrimSpace(f.workflowID) == "" {
		return usagef("--workflow-id is empty: leave it out for the default, or name one")
	}
	if f.runID != "" && uuid.Validate(f.runID) != nil {
		return usagef("--run-id %q is no run id: take one from list, or leave it out for the current run", f.runID)
	}
	f.workflowID = workflowid.Of(f.workflowID)
	return nil
}

// intakeStatus is what status prints of an intake: its documented answer, and more.
type intakeStatus struct {
	preemptapi.Response
	Execution    string                  `json:"execution"`              // the workflow's state in Temporal
	RunningRound *preemptapi.RoundResult `json:"runningRound,omitempty"` // the round under way

	info *workflowpb.WorkflowExecutionInfo
	text string // the raw answer
}

func (a *app) statusCommand() *cobra.Command {
	var f idFlags
	var watch bool
	cmd := &cobra.Command{
		Use: "status", Args: noArgs,
		Short: "Show the state of a preemption",
		Long: "Show the state of a preemption: what was requested, what was decided, and what happened to each VM and why. A\n" +
			"workflow that has ended can be shown as long as Temporal keeps it. With --watch it is shown again each second, with\n" +
			"the time that is left of a notice, until the workflow ends or Ctrl+C.\n\n" +
			exitStatus("no such workflow", ""),
		Example: "  preemptctl workflow status\n  preemptctl workflow status --workflow-id cluster-cpu-above-80@domain-c7\n" +
			"  preemptctl workflow status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			switch {
			case !watch:
				return a.withSession(cmd, quick, func(ctx context.Context, s *session) error { return a.status(ctx, s, f) })
			case a.flags.output != formatTable || a.flags.habit():
				return usagef("--watch is for people: leave --output and --json out")
			}
			return a.withSession(cmd, 0, func(ctx context.Context, s *session) error { return a.followStatus(ctx, s, f) })
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again each second until it ends")
	return cmd
}

// status shows an intake, a round or a plan, whichever has the id.
func (a *app) status(ctx context.Context, s *session, f idFlags) error {
	info, err := s.describe(ctx, f)
	if err != nil {
		return err
	}
	a.warnPaused(ctx, s)
	switch kind := info.GetType().GetName(); kind {
	case preemption.WorkflowName:
		st, err := s.intakeStatus(ctx, info)
		if err != nil {
			return err
		}
		return a.showStatus(st)
	case preemptapi.RoundType, preemptapi.PlanType:
		r, err := s.anyRound(ctx, info)
		if err != nil {
			return err
		}
		return a.show(view{
			value: r, msg: "retrieved workflow status", attrs: []any{"workflowID", f.workflowID, "round", r},
			table: func(t *table) { roundTable(t, r) },
		})
	case preemptapi.RestoreType:
		return a.restoreStatus(ctx, s, info)
	case preemption.MakeRoomWorkflowName:
		return a.roomStatus(ctx, s, info)
	default:
		return failedf("workflow %s is a %s: status shows preemptions and their rounds", f.workflowID, kind)
	}
}

// describe looks a workflow up.
func (s *session) describe(ctx context.Context, f idFlags) (*workflowpb.WorkflowExecutionInfo, error) {
	d, err := s.DescribeWorkflowExecution(ctx, f.workflowID, f.runID)
	if missing(err) {
		a := s.app
		return nil, notFoundf("no workflow %s%s in namespace %s on %s: it never ran or is no longer kept; see: %s",
			f.workflowID, ofRun(f.runID), a.target.namespace, a.target.address, a.command("workflow", "list"))
	}
	if err != nil {
		return nil, fmt.Errorf("look up workflow %s: %w", f.workflowID, err)
	}
	return d.GetWorkflowExecutionInfo(), nil
}

func ofRun(runID string) string {
	if runID == "" {
		return ""
	}
	return " with run " + runID
}

// intakeStatus asks the intake, and its round if one is under way. If no worker answers, it reads the result of
// an ended workflow.
func (s *session) intakeStatus(ctx context.Context, info *workflowpb.WorkflowExecutionInfo) (intakeStatus, error) {
	st := intakeStatus{info: info, Execution: statusWord(info.GetStatus())}
	err := s.answer(ctx, info, preemption.WorkFlowQueryType, &st.text)
	switch {
	case err == nil:
		if err = json.Unmarshal([]byte(st.text), &st.Response); err != nil {
			err = fmt.Errorf("read the status of workflow %s: %w", info.GetExecution().GetWorkflowId(), err)
		}
	case info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		e := info.GetExecution()
		err = s.GetWorkflow(ctx, e.GetWorkflowId(), e.GetRunId()).Get(ctx, &st.Response)
		if b, failed := json.Marshal(st.Response); failed == nil {
			st.text = string(b)
		}
	}
	if err != nil {
		return st, err
	}
	st.Round = s.whole(ctx, st.Round)
	if st.State == preemptapi.IntakeRunning && st.RoundID != "" && info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		if r, err := s.roundState(ctx, st.RoundID); err == nil {
			st.RunningRound = &r
		} else {
			s.app.log.Warn("the round under way does not answer", "round", st.RoundID, "error", err)
		}
	}
	return st, nil
}

// whole returns the whole result of a very large round from the round itself; its intake keeps only counts.
func (s *session) whole(ctx context.Context, r *preemptapi.RoundResult) *preemptapi.RoundResult {
	if r == nil || !r.Brief {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	full, err := s.roundResult(ctx, r.RoundID, "")
	if err != nil { // it still watches late guests, or was deleted
		if full, err = s.roundState(ctx, r.RoundID); err != nil {
			s.app.log.Warn("the round cannot be read; its intake has only counts", "round", r.RoundID, "error", err)
			return r
		}
	}
	return &full
}

// answer queries a workflow. If nobody polls the task queue it says so without waiting.
func (s *session) answer(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, query string, to any) error {
	qctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	polled := s.polledLater(qctx)
	e := info.GetExecution()
	answered := make(chan error, 1)
	go func() {
		v, err := s.QueryWorkflow(qctx, e.GetWorkflowId(), e.GetRunId(), query)
		var refused *serviceerror.QueryFailed
		if errors.As(err, &refused) { // also if the history grew while a worker read it, which the second query sees whole
			v, err = s.QueryWorkflow(qctx, e.GetWorkflowId(), e.GetRunId(), query)
		}
		if err == nil {
			err = v.Get(to)
		}
		answered <- err
	}()
	dead := s.app.noWorker(fmt.Sprintf("no worker can answer for %s (%s)", e.GetWorkflowId(), statusWord(info.GetStatus())))
	var err error
	select {
	case err = <-answered:
	case yes := <-polled:
		if !yes {
			cancel()
			<-answered
			return dead
		}
		err = <-answered
	}
	if err != nil && ctx.Err() == nil && (qctx.Err() != nil || timedOut(err)) {
		return failedf("no worker answered for %s (%s): does one run on task queue %s? One that stopped a moment ago is still listed",
			e.GetWorkflowId(), statusWord(info.GetStatus()), s.app.target.queue)
	}
	if err != nil {
		return fmt.Errorf("query the state of workflow %s: %w", e.GetWorkflowId(), err)
	}
	return nil
}

// anyRound returns the state of a round, or the result of an ended round or plan.
func (s *session) anyRound(ctx context.Context, info *workflowpb.WorkflowExecutionInfo) (r preemptapi.RoundResult, err error) {
	e := info.GetExecution()
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		if info.GetType().GetName() == preemptapi.PlanType {
			return r, failedf("plan %s is still being made", e.GetWorkflowId())
		}
		return r, s.answer(ctx, info, preemptapi.RoundStateQuery, &r)
	}
	return s.roundResult(ctx, e.GetWorkflowId(), e.GetRunId())
}

// statusWord writes an execution's status as people do.
func statusWord(status enumspb.WorkflowExecutionStatus) string {
	switch status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return "timed out"
	case enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
		return "continued as new"
	}
	return strings.ToLower(status.String())
}

// memoText reads one text of a workflow's memo.
func memoText(info *workflowpb.WorkflowExecutionInfo, key string) string {
	return textOf(info.GetMemo(), key)
}

// textOf reads one text of a memo.
func textOf(memo *commonpb.Memo, key string) (s string) {
	if p := memo.GetFields()[key]; p != nil {
		_ = converter.GetDefaultDataConverter().FromPayload(p, &s) // not ours: left empty
	}
	return s
}
