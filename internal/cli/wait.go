package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// decisionLimit is how long the intake may take to decide; it decides in milliseconds.
const decisionLimit = 30 * time.Second

// runAndWait asks, says what was decided, and follows the round.
func (a *app) runAndWait(ctx context.Context, s *session, f runFlags, req preemption.WorkflowRequest) error {
	out, err := a.askAndFollow(ctx, s, f, req, a.showRun)
	if err != nil {
		return err
	}
	if err := a.showRun(out); err != nil {
		return err
	}
	return verdict(*out.Round, f.failEmpty)
}

// askAndFollow returns the round that the request started, when it has acted on everything. If the request starts
// no round, the decision is shown and is an error.
func (a *app) askAndFollow(ctx context.Context, s *session, f runFlags, req preemption.WorkflowRequest, show func(runResult) error) (out runResult, err error) {
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	polled, err := s.polled(ctx)
	if err != nil {
		return out, err
	}
	if !polled {
		no := make(chan bool, 1)
		no <- false
		return out, a.send(ctx, s, f, req, no)
	}
	decision, err := s.ask(ctx, f.workflowID, req)
	if err != nil {
		return out, a.undecided(ctx, f, req, err)
	}
	a.log.Debug("decided", "verdict", decision.Verdict, "round", decision.RoundID, "reason", decision.Reason)
	out = runResult{WorkflowID: f.workflowID, RequestID: req.ID, WorkerPolling: true, Decision: &decision}
	if err := a.turnedDown(decision); err != nil {
		return out, errors.Join(show(out), err)
	}
	if decision.Reason != "" {
		a.notice("%s: %s", decision.Verdict, decision.Reason)
	}
	round, err := a.follow(ctx, s, decision.RoundID)
	if err != nil {
		return out, a.leftAlone(ctx, f.workflowID, decision.RoundID, err)
	}
	out.Round = &round
	return out, nil
}

// showRun prints the decision and the round.
func (a *app) showRun(out runResult) error {
	if out.Round == nil && !a.flags.outputSet && !a.flags.json {
		return nil // the error line that follows is enough
	}
	return a.show(view{
		value: out, msg: "preemption decided",
		attrs: []any{"workflowID", out.WorkflowID, "requestID", out.RequestID, "decision", out.Decision, "round", out.Round},
		table: func(t *table) {
			if out.Round != nil {
				roundTable(t, *out.Round)
			}
		},
	})
}

// ask sends the request as an update, which answers what was decided about it. An intake that is just
// ending or starting a new run is asked again: it accepts the same request only once.
func (s *session) ask(ctx context.Context, id string, req preemption.WorkflowRequest) (d preemptapi.Decision, err error) {
	ctx, cancel := context.WithTimeout(ctx, decisionLimit)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		d, err = s.askOnce(ctx, id, req)
		again := passing(err) || d.Again
		if !again || pause > 3*time.Second || !clock.Sleep(ctx, pause) {
			return d, err
		}
		s.app.log.Debug("asking again", "verdict", d.Verdict, "reason", d.Reason, "error", err)
	}
}

func (s *session) askOnce(ctx context.Context, id string, req preemption.WorkflowRequest) (d preemptapi.Decision, err error) {
	start := s.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: id, TaskQueue: s.app.target.queue, StaticSummary: summary(req), Memo: memo(req, "requested"),
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}, preemption.WorkflowName)
	handle, err := s.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateName: preemption.RequestUpdate, Args: []any{req}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err == nil {
		err = handle.Get(ctx, &d)
	}
	return d, err
}

// passing reports whether asking again can help.
func passing(err error) bool {
	var away *serviceerror.Unavailable
	var aborted *serviceerror.Aborted
	var multi *serviceerror.MultiOperationExecution
	var ended *temporal.ApplicationError
	switch {
	case err == nil || namespaceMissing(err):
		return false
	case errors.As(err, &ended):
		return ended.Type() == "AcceptedUpdateCompletedWorkflow"
	}
	return errors.As(err, &away) || errors.As(err, &aborted) || errors.As(err, &multi) || missing(err)
}

// turnedDown is the error for a request that starts nothing.
func (a *app) turnedDown(d preemptapi.Decision) error {
	until := ""
	if !d.Until.IsZero() {
		until = fmt.Sprintf("; ask again after %s (in %s)", timestamp(d.Until), d.Until.Sub(a.Now()).Round(time.Second))
	}
	switch d.Verdict {
	case preemptapi.Refused:
		return refusedf("refused: %s%s", d.Reason, until)
	case preemptapi.Deferred:
		return refusedf("deferred until %s: %s", timestamp(d.Until), d.Reason)
	case preemptapi.Rejected:
		return failedf("the worker rejected the request: %s", d.Reason)
	case preemptapi.Failed:
		return failedf("the request could not be carried out: %s", d.Reason)
	}
	if d.RoundID == "" {
		return failedf("the request was decided as %q but names no round: %s", d.Verdict, d.Reason)
	}
	return nil
}

// undecided explains why there is no decision.
func (a *app) undecided(ctx context.Context, f runFlags, req preemption.WorkflowRequest, err error) error {
	look := a.command(ofWorkflow(f.workflowID, "workflow", "status")...)
	var away *unreachableError
	switch {
	case errors.As(context.Cause(ctx), &away):
		return err
	case errors.Is(context.Cause(ctx), context.Canceled):
		return interruptedf("interrupted before a decision: request %s may have been taken; look: %s", req.ID, look)
	case ctx.Err() != nil || timedOut(err):
		return failedf("no worker decided in time: request %s may have been taken; look: %s", req.ID, look)
	}
	return fmt.Errorf("ask intake %s: %w", f.workflowID, err)
}

// timedOut reports whether a call exceeded its time; gRPC may notice a moment before the context does.
func timedOut(err error) bool {
	var late *serviceerror.DeadlineExceeded
	var update *client.WorkflowUpdateServiceTimeoutOrCanceledError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) || errors.As(err, &update)
}

// leftAlone returns the message that the round continues without us.
func (a *app) leftAlone(ctx context.Context, intake, round string, err error) error {
	var away *unreachableError
	if ctx.Err() == nil && !timedOut(err) || errors.As(context.Cause(ctx), &away) {
		return err
	}
	text := fmt.Sprintf("round %s continues; look: %s; cancel: %s", round,
		a.command("workflow", "status", "--workflow-id", round), a.command(ofWorkflow(intake, "workflow", "cancel")...))
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return interruptedf("interrupted: %s", text)
	}
	return failedf("not done within --timeout: %s", text)
}
