package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// remediationStarted is what remediation run prints without --wait.
type remediationStarted struct {
	WorkflowID string   `json:"workflowID"`
	RunID      string   `json:"workflowRunID"`
	RequestIDs []string `json:"requestIDs"`
}

func (a *app) remediationRunCommand() *cobra.Command {
	var f remedyFlags
	var dryRun, wait bool
	cmd := &cobra.Command{
		Use: "run {VM|DATASTORE}", Args: arguments(0, 1, "one VM or datastore"),
		Short: "Resize or move a VM, or move VMs off a datastore",
		Long: "Resize a VM by one step, or with --move move it; or move VMs off a datastore. The limits of a rule apply here\n" +
			"too: the owner's tags, the cooldown, and the room on hosts and datastores. VM is a MoRef, an inventory path, or\n" +
			"a name that only one VM has. DATASTORE is one too; --datastore says that none but\n" +
			"a datastore is meant.\n\n" +
			exitStatus("no such VM or datastore", "with --wait: there is nothing to do, or it cannot be done"),
		Example: "  # what would happen?\n  preemptctl remediation run web-1 --dry-run\n" +
			"  preemptctl remediation run vm-12 --resource memory --wait\n  preemptctl remediation run datastore-5 --target-usage 70 --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun {
				if f.timeout == 0 {
					f.timeout = planLimit
				}
				return a.remediationPlan(cmd, f, args)
			}
			return a.remediationRun(cmd, f, args, wait)
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&dryRun, "dry-run", false, "only show what would be done, as plan does")
	flags.BoolVar(&wait, "wait", false, "wait for the result")
	flags.DurationVar(&f.timeout, "timeout", 0, "with --wait or --dry-run: how long to wait (default: until there is a result; 2m for a dry run)")
	return cmd
}

func (a *app) remediationRun(cmd *cobra.Command, f remedyFlags, args []string, wait bool) error {
	t, err := f.aimed(cmd, args)
	if err != nil {
		return err
	}
	move := f.move || t.kind == vsphere.TypeDatastore
	if err := f.check(cmd, move, false); err != nil {
		return err
	}
	limit, err := waitLimit(f.timeout, wait)
	if err != nil {
		return err
	}
	return a.withSession(cmd, limit, func(ctx context.Context, s *session) error {
		t, err := a.aimFound(ctx, s, t)
		if err != nil {
			return err
		}
		move := move || t.kind == vsphere.TypeDatastore
		if err := f.check(cmd, move, false); err != nil {
			return err
		}
		out, err := s.remedy(ctx, t, a.requests(f, t, move, false))
		if err != nil {
			return err
		}
		if wait {
			return a.remedied(ctx, s, out)
		}
		why := s.taken(ctx, out.WorkflowID)
		err = a.show(view{
			value: out, msg: "remediation started", attrs: []any{"workflowID", out.WorkflowID, "workflowRunID", out.RunID, "requestIDs", out.RequestIDs},
			table: func(t *table) {
				t.row("remediation", out.WorkflowID)
				t.row("run", out.RunID)
				t.row("next", a.command("remediation", "show", out.WorkflowID))
			},
		})
		return errors.Join(err, a.notTaken(out.WorkflowID, why))
	})
}

// waitLimit bounds a command that waits only with --wait.
func waitLimit(timeout time.Duration, wait bool) (time.Duration, error) {
	switch {
	case timeout < 0:
		return 0, usagef("--timeout %s is negative", timeout)
	case wait:
		return timeout, nil
	case timeout > 0:
		return 0, usagef("--timeout needs --wait or --dry-run: without them the command does not wait")
	}
	return quick + namesLimit, nil
}

// remedy asks for the remediation of one object: its own workflow if its reference is known, so that there is
// one at a time, else a workflow that finds the object first.
func (s *session) remedy(ctx context.Context, t aim, requests []placement.Request) (out remediationStarted, err error) {
	kind := requests[0].Kind
	for _, r := range requests {
		out.RequestIDs = append(out.RequestIDs, r.ID)
	}
	about, nothing := line("%s of %s, by hand", kind, t.words()), "nothing is done"
	if t.ref.Zero() {
		run, err := s.put(ctx, question{
			id: remediationRunPrefix + uuid.NewString(), kind: placement.WorkflowType(kind), summary: about,
			input: remediateapi.Input{Requests: requests}, memo: remedyMemo(kind, t), unpolled: nothing,
		})
		if err != nil {
			return out, err
		}
		out.WorkflowID, out.RunID = run.GetID(), run.GetRunID()
		return out, nil
	}
	polled, err := s.polled(ctx)
	if err != nil {
		return out, err
	}
	if !polled {
		return out, s.app.noWorker(nothing)
	}
	out.WorkflowID = placement.WorkflowID(kind, t.ref, s.app.target.queue)
	for _, r := range requests {
		runID, err := s.signalStart(ctx, signalled{
			id: out.WorkflowID, kind: placement.WorkflowType(kind), signal: placement.Signal, summary: about, payload: r, memo: remedyMemo(kind, t),
		})
		if err != nil {
			return out, fmt.Errorf("ask remediation %s: %w", out.WorkflowID, err)
		}
		if out.RunID == "" {
			out.RunID = runID
		}
	}
	return out, nil
}

// remedied waits for a remediation and returns the result of the request.
func (a *app) remedied(ctx context.Context, s *session, out remediationStarted) error {
	var r remediateapi.Report
	ended := s.GetWorkflow(ctx, out.WorkflowID, out.RunID).Get(ctx, &r)
	if named := notNamed(ended); named != nil {
		return named
	}
	r, err := remediateapi.ReportOf(ended, r)
	if err != nil {
		if on := a.goesOn(ctx, "remediation", out.WorkflowID, err); on != nil {
			return on
		}
		return failedf("remediation %s ended without a result: %w", out.WorkflowID, reasonOf(err))
	}
	r.Decisions = slices.DeleteFunc(r.Decisions, func(d remediateapi.Decision) bool { return !slices.Contains(out.RequestIDs, d.RequestID) })
	if len(r.Decisions) == 0 {
		return failedf("remediation %s ended and does not report the result of the request; look: %s", out.WorkflowID, a.command("remediation", "show", out.WorkflowID))
	}
	if err := a.showReport(r); err != nil {
		return err
	}
	return verdictOf(r.Decisions)
}
