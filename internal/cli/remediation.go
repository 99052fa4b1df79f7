package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// remediationCommand groups the commands about remediations.
func (a *app) remediationCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remediation", Aliases: []string{"remediations"},
		Short: "Show, plan and start remediations: resize, reconfigure and move VMs",
		Long: "Show, plan and start remediations. A VM in alarm gets more CPU or memory, a VM that is turned off gets the\n" +
			"settings that its tags ask for, and VMs are moved off a full datastore. Rules in the worker's file start\n" +
			"remediations. These commands show their results, and start them by hand.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl remediation list\n  preemptctl remediation show vm-12\n  preemptctl remediation plan web-1 --resource cpu",
	}
	return group(cmd, a.remediationListCommand(), a.remediationShowCommand(), a.remediationPlanCommand(), a.remediationRunCommand())
}

// kindOf returns the kind of remediation of a workflow type; empty: it is not a remediation.
func kindOf(workflowType string) string {
	for _, kind := range []string{placement.KindResize, placement.KindReconfigure, placement.KindMove} {
		if placement.WorkflowType(kind) == workflowType {
			return kind
		}
	}
	return ""
}

// aim is a VM or a datastore, as the user names it.
type aim struct {
	kind string      // vsphere.TypeVM or vsphere.TypeDatastore
	text string      // as it was named
	ref  vsphere.Ref // zero: only the worker can tell which one is meant
}

var moRef = regexp.MustCompile(`^(vm|datastore)-[0-9]+$`)

// aimAt reads the name of an object. Text that is not a reference names a VM, by inventory path or name.
func aimAt(text string) aim {
	kind, value := vsphere.TypeVM, text
	if ref, ok := vsphere.ParseRef(text); ok && (ref.Type == vsphere.TypeVM || ref.Type == vsphere.TypeDatastore) {
		return aim{ref.Type, text, ref}
	}
	m := moRef.FindStringSubmatch(text)
	switch {
	case m == nil:
		return aim{kind: kind, text: text}
	case m[1] == "datastore":
		kind = vsphere.TypeDatastore
	}
	return aim{kind, text, vsphere.Ref{Type: kind, Value: value}}
}

// aimFound looks the object up, so that a wrong name starts nothing, and what is about one object meets in one workflow. Where vCenter
// cannot be asked, the workflow that starts finds it.
func (a *app) aimFound(ctx context.Context, s *session, t aim) (aim, error) {
	if polled, err := s.polled(ctx); err != nil || !polled {
		return t, err
	}
	in := preemptapi.NamesInput{VMs: []string{t.text}}
	if t.kind == vsphere.TypeDatastore {
		in = preemptapi.NamesInput{Datastore: t.text}
	}
	out, err := a.lookUp(ctx, s, in)
	switch {
	case err != nil && t.kind == vsphere.TypeVM && t.ref.Zero() && exitCodeOf(err) == program.NotFound:
		return a.datastoreCalled(ctx, s, t.text, err)
	case err != nil:
		return t, err
	case t.kind == vsphere.TypeDatastore && !out.Datastore.Zero():
		t.ref = out.Datastore
	case len(out.VMs) == 1 && !out.VMs[0].Zero():
		t.ref = out.VMs[0]
	}
	return t, nil
}

// datastoreCalled is the datastore of a name that no VM has, or the error that there is no such VM.
func (a *app) datastoreCalled(ctx context.Context, s *session, name string, noVM error) (aim, error) {
	out, err := a.lookUp(ctx, s, preemptapi.NamesInput{Datastore: name})
	if err != nil || out.Datastore.Zero() {
		return aim{kind: vsphere.TypeVM, text: name}, noVM
	}
	return aim{kind: vsphere.TypeDatastore, text: name, ref: out.Datastore}, nil
}

// words names it in a sentence.
func (t aim) words() string {
	if t.kind == vsphere.TypeDatastore {
		return "datastore " + t.text
	}
	return "VM " + t.text
}

// nameCheck refuses text that cannot be a name.
func nameCheck(what, name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return usagef("%s is empty: give a name, an inventory path or a MoRef", what)
	case len(name) > maxVMName:
		return usagef("%s is %d bytes long: at most %d are taken", what, len(name), maxVMName)
	case !utf8.ValidString(name):
		return usagef("%s is no text in UTF-8", what)
	}
	return nil
}

// remedyMemo is what the list shows of a remediation until its workflow says more.
func remedyMemo(kind string, t aim) map[string]any {
	m := map[string]any{"kind": kind, "vm": t.ref.Value, "name": "", "state": "requested", "reason": ""}
	if t.ref.Zero() {
		m["name"] = t.text
	}
	return m
}

// maxLine is the length of a text in Temporal's list.
const maxLine = 200

// line is a text as Temporal's list shows it.
func line(format string, args ...any) string {
	return shown.Clip(clean(fmt.Sprintf(format, args...)), maxLine)
}

// question is a workflow that a command starts.
type question struct {
	id, kind, summary string
	input             any
	memo              map[string]any
	limit             time.Duration // after which it ends by itself; 0: never
	unpolled          string        // what does not happen if no worker polls
}

// put starts a workflow, unless no worker would take it.
func (s *session) put(ctx context.Context, q question) (client.WorkflowRun, error) {
	polled, err := s.polled(ctx)
	if err != nil {
		return nil, err
	}
	if !polled {
		return nil, s.app.noWorker(q.unpolled)
	}
	run, err := s.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: q.id, TaskQueue: s.app.target.queue, WorkflowExecutionErrorWhenAlreadyStarted: true, WorkflowExecutionTimeout: q.limit,
		StaticSummary: q.summary, Memo: q.memo,
	}, q.kind, q.input)
	if err != nil {
		return nil, fmt.Errorf("start workflow %s: %w", q.id, err)
	}
	return run, nil
}

// notNamed returns an error if a workflow failed because the named object does not exist or is ambiguous; else nil.
func notNamed(err error) error {
	var app *temporal.ApplicationError
	for errors.As(err, &app) {
		if app.Type() == "NotFound" || app.Type() == "Ambiguous" {
			return notFoundf("%s", app.Message())
		}
		err = app.Unwrap()
	}
	return nil
}

// unanswered explains why a workflow has no result, and ends it, because nobody waits for it any more. what names the
// missing result, left describes what the workflow may have done.
func (s *session) unanswered(ctx context.Context, id, what, left string, err error) error {
	if ctx.Err() != nil || timedOut(err) || temporal.IsTimeoutError(err) {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.CancelWorkflow(end, id, "")
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return interruptedf("interrupted: %s", left)
		}
		return failedf("no %s within the time given: is the worker running, and can it reach vCenter? %s", what, left)
	}
	return failedf("no %s: %w", what, reasonOf(err))
}

// reasonOf returns the message of a failed workflow, without the SDK's text around it.
func reasonOf(err error) error {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return errors.New(app.Message())
	}
	return err
}

// goesOn explains that the command no longer waits for a workflow that continues. It returns nil for other errors.
func (a *app) goesOn(ctx context.Context, what, id string, err error) error {
	if ctx.Err() == nil && !timedOut(err) {
		return nil
	}
	text := fmt.Sprintf("%s %s continues; look: %s", what, id, a.command("remediation", "show", id))
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return interruptedf("interrupted: %s", text)
	}
	return failedf("not done within --timeout: %s", text)
}

// reconciled returns the result of a reconciliation. A failed one has it in its error's details. It returns err if there is none.
func reconciled(err error, r remediateapi.ReconcileResult) (remediateapi.ReconcileResult, error) {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.HasDetails() {
		var failed remediateapi.ReconcileResult
		if app.Details(&failed) == nil && failed.State != "" {
			return failed, nil
		}
	}
	return r, err
}
