package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// restoreFlags are the flags of restore.
type restoreFlags struct {
	tag, policy, cluster, replyTo string
	dryRun, wait                  bool
	timeout                       time.Duration
}

// restoreStarted is what restore prints without --wait.
type restoreStarted struct {
	RestoreID string `json:"restoreID"`
	RunID     string `json:"workflowRunID"`
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use: "restore [VM...]", Args: cobra.ArbitraryArgs,
		Short: "Power on VMs that were preempted",
		Long: "Power on VMs that were preempted and that nobody has touched since: all that carry the tag, or those that you\n" +
			"name by MoRef, inventory path or unique name. The most important VMs come first, in waves, while the policy's\n" +
			"target leaves room. A restore that the end of an alarm starts waits for the settle time and for room; this one\n" +
			"does not.\n\n" +
			exitStatus("no such VM, cluster, tag or policy", "another restore of the scope or a preemption is under way in it"),
		Example: "  # which VMs would be restored, in which order, and why not the others?\n  preemptctl restore --dry-run\n" +
			"  preemptctl restore --wait\n  preemptctl restore web-1 web-2 --wait\n  preemptctl restore --cluster cluster-a -o json --wait",
		RunE: func(cmd *cobra.Command, args []string) error { return a.restore(cmd, f, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.tag, "tag", "t", preemption.DefaultTag, "vSphere tag that the VMs were preempted for")
	placeFlag(cmd, &f.cluster, "only what was preempted in this cluster", "everything")
	flags.StringVar(&f.policy, "policy", "", "name of the policy in the worker's file (default: the policy \"default\")")
	flags.StringVar(&f.replyTo, "reply-to", "", "URL that gets a CloudEvent about the restored VMs")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show which VMs would be restored, in which wave, and why the others stay off")
	flags.BoolVar(&f.wait, "wait", false, "wait for the result")
	flags.DurationVar(&f.timeout, "timeout", 0, "with --wait or --dry-run: how long to wait (default: until there is a result; 2m for a dry run)")
	return cmd
}

func (a *app) restore(cmd *cobra.Command, f restoreFlags, vms []string) error {
	in := preemptapi.RestoreInput{
		Tag: strings.TrimSpace(f.tag), PolicyName: f.policy, By: preemptapi.ByHand, Person: true, DryRun: f.dryRun, VMs: vms, ReplyTo: f.replyTo,
	}
	for _, vm := range vms {
		if strings.TrimSpace(vm) == "" {
			return usagef("a VM's name is empty")
		}
	}
	switch {
	case in.Tag == "":
		return usagef("--tag is empty: name the tag that marks preemptible VMs")
	case f.timeout < 0:
		return usagef("--timeout %s is negative", f.timeout)
	case f.timeout > 0 && !f.wait && !f.dryRun:
		return usagef("--timeout needs --wait or --dry-run: without them the command does not wait")
	}
	limit := f.timeout
	switch {
	case f.dryRun && limit == 0:
		limit = planLimit
	case !f.wait && !f.dryRun:
		limit = quick + namesLimit
	}
	f.timeout = limit
	return a.withSession(cmd, limit, func(ctx context.Context, s *session) error { return a.restoreNow(ctx, s, f, in) })
}

// mayRestore refuses a restore where a person has paused what it is of.
func (a *app) mayRestore(ctx context.Context, s *session, in preemptapi.RestoreInput) error {
	h, err := s.heldUp(ctx)
	if err != nil || in.DryRun {
		return nil // the restore itself asks the ledger
	}
	for _, p := range h.Pauses {
		if p.Alarm == "" && (p.Scope == "" || in.Scope.Zero() || p.Scope == in.Scope.String()) {
			return refusedf("refused: %s; end it first: %s", clean(p.Words()), a.command(p.Resumes()...))
		}
	}
	return nil
}

// restoreNow starts the restore, and follows it if requested.
func (a *app) restoreNow(ctx context.Context, s *session, f restoreFlags, in preemptapi.RestoreInput) error {
	var err error
	if err = s.mustPoll(ctx, "nothing is restored"); err != nil {
		return err
	}
	if in.Scope, err = a.placeNamed(ctx, s, f.cluster); err != nil {
		return err
	}
	if err := a.mayRestore(ctx, s, in); err != nil {
		return err
	}
	if err := a.known(ctx, s, preemptapi.NamesInput{Tag: in.Tag, Scope: in.Scope, VMs: in.VMs, Policy: in.PolicyName}); err != nil {
		return err
	}
	opts := client.StartWorkflowOptions{
		ID: preemptapi.RestoreID(a.target.queue, in.Scope), TaskQueue: a.target.queue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary: clean("restore of VMs tagged " + in.Tag), Memo: map[string]any{"alarm": "", "scope": in.Scope.String(), "tag": in.Tag, "state": "requested"},
	}
	if in.DryRun {
		opts.ID, opts.WorkflowExecutionTimeout = "restore-plan-"+uuid.NewString(), f.timeout
	}
	run, err := s.ExecuteWorkflow(ctx, opts, preemptapi.RestoreType, in)
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &already) {
		return refusedf("refused: restore %s is under way; look: %s; stop it: %s", opts.ID,
			a.command("workflow", "status", "--workflow-id", opts.ID), a.command("workflow", "cancel", "--workflow-id", opts.ID))
	}
	if err != nil {
		return fmt.Errorf("ask for a restore: %w", err)
	}
	if !f.wait && !in.DryRun {
		out := restoreStarted{RestoreID: run.GetID(), RunID: run.GetRunID()}
		why := s.taken(ctx, out.RestoreID)
		err := a.show(view{
			value: out, msg: "restore started", attrs: []any{"restoreID", out.RestoreID, "workflowRunID", out.RunID},
			table: func(t *table) { t.row("restore", out.RestoreID); t.row("run", out.RunID) },
		})
		return errors.Join(err, a.notTaken(out.RestoreID, why))
	}
	var r preemptapi.RestoreResult
	ended := run.Get(ctx, &r)
	if r, err = preemptapi.RestoreResultOf(ended, r); err != nil {
		return a.notRestored(ctx, s, in, run.GetID(), err)
	}
	var failed *temporal.ApplicationError
	if errors.As(ended, &failed) && (failed.Type() == "NotFound" || failed.Type() == "Ambiguous") {
		return notFoundf("%s", r.Reason)
	}
	if err := a.showRestore(ctx, s, r); err != nil {
		return err
	}
	return restoreVerdict(r)
}

// notRestored explains why there is no result of a restore. It ends a dry run for which nobody waits any more.
func (a *app) notRestored(ctx context.Context, s *session, in preemptapi.RestoreInput, id string, err error) error {
	if ctx.Err() == nil && !timedOut(err) {
		return failedf("restore %s ended without a result: %w", id, err)
	}
	if in.DryRun {
		return a.notPlanned(ctx, s, id, err)
	}
	text := fmt.Sprintf("restore %s continues; stop it: %s", id, a.command("workflow", "cancel", "--workflow-id", id))
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return interruptedf("interrupted: %s", text)
	}
	return failedf("not done within --timeout: %s", text)
}

// restoreStatus shows the state of a restore.
func (a *app) restoreStatus(ctx context.Context, s *session, info *workflowpb.WorkflowExecutionInfo) error {
	var r preemptapi.RestoreResult
	err := s.answer(ctx, info, preemptapi.RestoreStateQuery, &r)
	if err != nil && info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		e := info.GetExecution()
		r, err = preemptapi.RestoreResultOf(s.GetWorkflow(ctx, e.GetWorkflowId(), e.GetRunId()).Get(ctx, &r), r)
	}
	if err != nil {
		return err
	}
	return a.showRestore(ctx, s, r)
}

// restoreVerdict returns the error of a restore that did not do what was requested.
func restoreVerdict(r preemptapi.RestoreResult) error {
	switch r.State {
	case preemptapi.RestoreRefused:
		return refusedf("refused: %s", r.Reason)
	case preemptapi.RestoreFailed, preemptapi.RestorePartial, preemptapi.RestoreStopped:
		return failedf("the restore is %s: %s", r.State, r.Reason)
	}
	return nil
}

func (a *app) showRestore(ctx context.Context, s *session, result preemptapi.RestoreResult) error {
	r := restoreShown{RestoreResult: result, CameBack: s.cameBack(ctx, result.Left)}
	return a.show(view{value: r, msg: "restore", attrs: []any{"restore", r}, table: func(t *table) { restoreTable(t, r) }})
}

// restoreTable shows which VMs were restored, or would be, and why the others stay off.
func restoreTable(t *table, r restoreShown) {
	t.section()
	t.row("restore", string(r.State))
	t.field("reason", r.Reason)
	t.row("tag", r.Tag)
	if scope := scopeWords(r.ScopeName, r.Scope); scope != "" {
		t.row("scope", scope)
	}
	t.field("policy", r.PolicyName)
	t.row("by", r.By)
	if len(r.VMs) > 0 {
		t.section("WAVE", "VM", "MOREF", "OUTCOME", "PRIORITY", "OFF SINCE", "ON AT", "WHY").spare("MOREF", "PRIORITY")
	}
	for _, vm := range r.VMs {
		why := vm.Reason.Words()
		if vm.AnnotationError != "" {
			why = strings.TrimPrefix(why+"; not annotated: "+vm.AnnotationError, "; ")
		}
		t.row(strconv.Itoa(vm.Wave), orDash(vm.Name), vm.Ref.Value, vm.Outcome.Words(), strconv.Itoa(vm.Priority),
			orDash(timestamp(vm.OffSince)), orDash(timestamp(vm.OnAt)), orDash(why))
	}
	if len(r.Left) > 0 {
		t.section("LEFT", "MOREF", "WHY")
	}
	for _, s := range r.Left {
		t.row(orDash(s.Name), s.Ref.Value, r.whyLeft(s))
	}
}
