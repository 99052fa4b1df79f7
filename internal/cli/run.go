package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// runFlags are the flags of run.
type runFlags struct {
	requestFlags
	where                            whereFlags
	workflowID                       string
	wait, dryRun, observe, failEmpty bool
	timeout                          time.Duration
}

// runResult is what run prints.
type runResult struct {
	WorkflowID    string                  `json:"workflowID"`
	RunID         string                  `json:"workflowRunID,omitempty"`
	RequestID     string                  `json:"requestID"`
	WorkerPolling bool                    `json:"workerPolling"`
	NotTaken      string                  `json:"notTaken,omitempty"` // why the intake has not handled it yet; without --wait
	Decision      *preemptapi.Decision    `json:"decision,omitempty"` // with --wait
	Round         *preemptapi.RoundResult `json:"round,omitempty"`    // with --wait
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use: "run", Args: noArgs,
		Short: "Ask for a preemption",
		Long: "Ask for a preemption of the VMs that carry a tag. The request goes to the intake workflow, which is started if\n" +
			"it does not run. Without --wait the command ends when the intake has accepted the request, and fails if that\n" +
			"takes more than two seconds. With --wait it shows the decision and follows the round to its result.\n\n" +
			"The same event acts only once. If you send it again, the answer is the round that it has started.\n\n" +
			exitStatus("no such tag, cluster or policy", "refused (cooldown, or a round under way), or no VM went, with --fail-empty"),
		Example: "  # ask, and look at the result later\n  preemptctl workflow run\n" +
			"  # ask to power off at once, and follow it\n  preemptctl workflow run --criticality HIGH --wait\n" +
			"  # which VMs would be turned off?\n  preemptctl workflow run --dry-run\n" +
			"  # the same as a round that is recorded and touches nothing\n  preemptctl workflow run --observe --wait\n" +
			"  # with the event that caused it\n  preemptctl workflow run --event @event.json --reply-to https://broker.corp.local",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd, f) },
	}
	f.register(cmd)
	clusterFlag(cmd, &f.where.cluster, "only VMs of this cluster go", "wherever they run")
	headroomFlag(cmd, &f.where.headroom)
	flags := cmd.Flags()
	flags.StringVarP(&f.workflowID, "workflow-id", "w", preemption.DefaultWorkflowID, "id of the intake workflow")
	flags.BoolVar(&f.wait, "wait", false, "wait for the decision and the round's result")
	flags.DurationVar(&f.timeout, "timeout", 0, "with --wait: how long to wait (default: until the round has its result)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show which VMs would be turned off, as plan does")
	flags.BoolVar(&f.observe, "observe", false, "decide and record everything, and touch no VM")
	flags.BoolVar(&f.failEmpty, "fail-empty", false, "with --wait or --dry-run: exit 4 when no VM goes")
	return cmd
}

func (a *app) run(cmd *cobra.Command, f runFlags) error {
	switch {
	case strings.TrimSpace(f.workflowID) == "":
		return usagef("--workflow-id is empty: leave it out for the default, or name one")
	case reserved(f.workflowID) != "":
		return usagef("--workflow-id %q is reserved: such ids belong to %s; name another one, or leave it out for the default", f.workflowID, reserved(f.workflowID))
	case f.timeout < 0:
		return usagef("--timeout %s is negative", f.timeout)
	case (f.timeout > 0 || f.failEmpty) && !f.wait && !f.dryRun:
		return usagef("--timeout and --fail-empty need --wait or --dry-run: without them the command does not wait")
	case f.dryRun:
		return a.plan(cmd, planFlags{requestFlags: f.requestFlags, where: f.where, timeout: f.timeout, failEmpty: f.failEmpty})
	}
	f.workflowID = workflowid.Of(f.workflowID)
	if err := f.where.check(f.event); err != nil {
		return err
	}
	req, err := a.request(f.requestFlags)
	if err != nil {
		return err
	}
	if f.observe {
		req.Mode = preemption.ModeObserve
	}
	limit, ask := quick+namesLimit, func(ctx context.Context, s *session) error {
		a.warnPaused(ctx, s)
		return a.send(ctx, s, f, req, s.polledLater(ctx))
	}
	if f.wait {
		limit, ask = 0, func(ctx context.Context, s *session) error { return a.runAndWait(ctx, s, f, req) }
	}
	return a.withSession(cmd, limit, func(ctx context.Context, s *session) error {
		if err := f.where.in(ctx, a, s, &req); err != nil {
			return err
		}
		if err := a.known(ctx, s, preemptapi.NamesInput{Tag: req.Tag, Policy: req.Policy}); err != nil {
			return err
		}
		return ask(ctx, s)
	})
}

// reserved names our own workflows to which an id belongs, "" if it may be an intake's.
func reserved(id string) string {
	what, _ := workflowid.Reserved(workflowid.Of(id))
	return what
}

// send signals the request to the intake and reports whether it was accepted.
func (a *app) send(ctx context.Context, s *session, f runFlags, req preemption.WorkflowRequest, polled <-chan bool) error {
	a.log.Debug("sending request", "workflowID", f.workflowID, "tag", req.Tag, "criticality", req.Criticality, "replyto", shown.Redact(req.ReplyTo))
	runID, err := s.signalWithStart(ctx, f.workflowID, req)
	if err != nil {
		return fmt.Errorf("send the request to intake %s: %w", f.workflowID, err)
	}
	out := runResult{WorkflowID: f.workflowID, RunID: runID, RequestID: req.ID, WorkerPolling: <-polled}
	if out.WorkerPolling {
		out.NotTaken = s.taken(ctx, f.workflowID)
	}
	status := a.command(ofWorkflow(f.workflowID, "workflow", "status")...)
	err = a.show(view{
		value: out, msg: "successfully triggered workflow",
		attrs: []any{
			"address", a.target.address, "namespace", a.target.namespace, "queue", a.target.queue, "workflow", preemption.WorkflowName,
			"workflowID", out.WorkflowID, "workflowRunID", out.RunID, "requestID", out.RequestID,
		},
		table: func(t *table) {
			t.row("workflow", out.WorkflowID)
			t.row("run", out.RunID)
			t.row("request", out.RequestID)
			t.row("next", status)
		},
	})
	if err != nil {
		return err
	}
	if !out.WorkerPolling {
		return a.noWorker("the request stays queued and runs when one starts")
	}
	return a.notTaken(f.workflowID, out.NotTaken)
}

// summary is the text of a request in Temporal's list.
func summary(req preemption.WorkflowRequest) string {
	text := fmt.Sprintf("%s preemption of VMs tagged %s", req.Criticality, req.Tag)
	switch {
	case req.NoticeOnly:
		text = "Rehearsal: notice to VM " + req.VM
	case req.VM != "":
		text = fmt.Sprintf("%s eviction of VM %s", req.Criticality, req.VM)
	}
	if req.Cluster != "" {
		text += " in " + req.Cluster
	}
	if req.Headroom {
		text += ", for its headroom"
	}
	return clean(shown.Clip(text, maxLine))
}

// memo is what the list of workflows shows about a request until its workflow adds more.
func memo(req preemption.WorkflowRequest, state string) map[string]any {
	return map[string]any{"alarm": "", "scope": "", "tag": req.Tag, "state": state}
}

// signalled is a signal that starts its workflow if that does not run.
type signalled struct {
	id, kind, signal, summary string
	payload                   any
	memo                      map[string]any
}

// signalWithStart sends the request to an intake. For the server, a repeated call with the same request id is
// the same call, and the intake accepts the same request only once.
func (s *session) signalWithStart(ctx context.Context, id string, req preemption.WorkflowRequest) (runID string, err error) {
	return s.signalStart(ctx, signalled{
		id: id, kind: preemption.WorkflowName, signal: preemption.SignalChannel, summary: summary(req), payload: req, memo: memo(req, "requested"),
	})
}

// signalStart sends a signal by one raw call: the SDK's own would first ask the server for its capabilities.
func (s *session) signalStart(ctx context.Context, m signalled) (runID string, err error) {
	conv := converter.GetDefaultDataConverter()
	input, err := conv.ToPayloads(m.payload)
	if err != nil {
		return "", usagef("the request cannot be written as JSON: %w", err)
	}
	text, err := conv.ToPayload(m.summary)
	if err != nil {
		return "", err
	}
	fields := map[string]*commonpb.Payload{}
	for key, value := range m.memo {
		if fields[key], err = conv.ToPayload(value); err != nil {
			return "", err
		}
	}
	t := s.app.target
	call := &workflowservice.SignalWithStartWorkflowExecutionRequest{
		Namespace: t.namespace, WorkflowId: m.id, RequestId: uuid.NewString(), Identity: "preemptctl",
		WorkflowType: &commonpb.WorkflowType{Name: m.kind},
		TaskQueue:    &taskqueuepb.TaskQueue{Name: t.queue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		SignalName:   m.signal, SignalInput: input,
		Memo: &commonpb.Memo{Fields: fields}, UserMetadata: &sdkpb.UserMetadata{Summary: text},
	}
	resp, err := s.WorkflowService().SignalWithStartWorkflowExecution(ctx, call)
	for pause := 100 * time.Millisecond; passing(err) && pause < time.Second && clock.Sleep(ctx, pause); pause *= 2 {
		resp, err = s.WorkflowService().SignalWithStartWorkflowExecution(ctx, call)
	}
	return resp.GetRunId(), err
}
