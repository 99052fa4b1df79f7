package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"

	"github.com/spf13/cobra"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// Bounds of evict.
const (
	maxVMName       = 1024
	maxEvictID      = 100 // of a workflow id, the bytes taken from the VM's name
	rehearsalNotice = 30 * time.Second
	maxRehearsal    = time.Hour
)

// evictFlags are the flags of evict.
type evictFlags struct {
	askFlags
	noticeOnly, dryRun, wait bool
	notice, timeout          time.Duration
}

// evictResult is what evict prints.
type evictResult struct {
	VM string `json:"vm"` // as given by the user
	runResult
}

func (a *app) evictCommand() *cobra.Command {
	f := evictFlags{askFlags: askFlags{criticality: string(preemption.CriticalityMedium)}}
	cmd := &cobra.Command{
		Use: "evict VM", Args: arguments(1, 1, "one VM: its name, inventory path or MoRef"),
		Short: "Evict one VM, or rehearse the notice on it",
		Long: "Evict one VM as a preemption would: give notice, wait, check again that the VM may be turned off, act, verify,\n" +
			"force if the policy says so, and annotate it. VM is a MoRef, an inventory path, or a name that only one VM has.\n" +
			"The VM must carry the tag, and everything that protects it from a preemption protects it here.\n\n" +
			"With --notice-only the VM gets its notice, which is withdrawn when the notice time is over. Nothing else happens\n" +
			"to the VM. Use this to see how the guest reacts.\n\n" +
			exitCodes(", also when no worker polls the task queue", "no such VM, tag or policy", "refused: not tagged, protected or spared, cooldown, a round under way"),
		Example: "  # what would happen?\n  preemptctl evict web-1 --dry-run\n" +
			"  # let the guest answer a notice, and withdraw it\n  preemptctl evict web-1 --notice-only --notice 2m\n" +
			"  # the real thing\n  preemptctl evict /dc-1/vm/prod/web-1 --criticality HIGH",
		RunE: func(cmd *cobra.Command, args []string) error { return a.evict(cmd, args[0], f) },
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.noticeOnly, "notice-only", false, "only give the notice, and withdraw it at its end")
	flags.DurationVar(&f.notice, "notice", rehearsalNotice, "with --notice-only: length of the notice if the policy has none")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show whether the VM would be evicted, and touch nothing")
	flags.BoolVar(&f.wait, "wait", true, "follow the eviction to its result")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long to wait (default: until the result; with --dry-run 2m)")
	return cmd
}

// check validates the flags.
func (f evictFlags) check(cmd *cobra.Command, vm string) error {
	switch {
	case vm == "":
		return usagef("VM is empty: give its name, its inventory path or its MoRef")
	case len(vm) > maxVMName:
		return usagef("VM is %d bytes long: at most %d are taken", len(vm), maxVMName)
	case cmd.Flags().Changed("notice") && !f.noticeOnly:
		return usagef("--notice needs --notice-only: the notice of an eviction is the policy's")
	case f.noticeOnly && f.dryRun:
		return usagef("--notice-only gives the guest a notice and --dry-run touches nothing: use one of them")
	case f.notice <= 0 || f.notice > maxRehearsal:
		return usagef("--notice %s is not within 1s to %s", f.notice, maxRehearsal)
	case f.timeout < 0:
		return usagef("--timeout %s is negative", f.timeout)
	case f.timeout > 0 && !f.wait && !f.dryRun:
		return usagef("--timeout needs --wait or --dry-run: without them the command does not wait")
	}
	return nil
}

func (a *app) evict(cmd *cobra.Command, vm string, f evictFlags) error {
	vm = strings.TrimSpace(vm)
	if err := f.check(cmd, vm); err != nil {
		return err
	}
	req, err := a.request(requestFlags{askFlags: f.askFlags})
	if err != nil {
		return err
	}
	if req.VM, req.NoticeOnly = vm, f.noticeOnly; f.noticeOnly {
		req.Notice = f.notice.String()
	}
	run := runFlags{workflowID: evictID(vm, a.target.queue), timeout: f.timeout}
	if f.dryRun {
		return a.planOf(cmd, planFlags{timeout: f.timeout}, req)
	}
	if cmd.Flags().Changed("notice") {
		if a.rehearsed = f.notice; !f.wait {
			a.notice("--notice counts only where the policy gives no notice of its own: without --wait nobody says here which it was")
		}
	}
	limit, ask := quick+namesLimit, func(ctx context.Context, s *session) error { return a.send(ctx, s, run, req, s.polledLater(ctx)) }
	if f.wait {
		limit, ask = 0, func(ctx context.Context, s *session) error { return a.evictAndWait(ctx, s, run, req) }
	}
	return a.withSession(cmd, limit, func(ctx context.Context, s *session) error {
		if err := a.known(ctx, s, preemptapi.NamesInput{Tag: req.Tag, VMs: []string{vm}, Policy: req.Policy}); err != nil {
			return err
		}
		return ask(ctx, s)
	})
}

// evictID is the id of the intake for one VM. Characters of its name that are not plain are left out. A part of a
// hash keeps such ids distinct. Task queues other than the default are part of it.
func evictID(vm, queue string) string {
	id := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-", r):
			return r
		case r == '/', r == ' ', r == ':':
			return '-'
		}
		return -1
	}, vm)
	id = strings.Trim(id[:min(len(id), maxEvictID)], "-")
	if id != vm {
		sum := sha256.Sum256([]byte(vm))
		id = strings.TrimPrefix(id+"-"+hex.EncodeToString(sum[:4]), "-")
	}
	if queue != preemption.DefaultTaskQueue {
		id += "@" + queue
	}
	return workflowid.Of(workflowid.Evict + id)
}

// evictAndWait asks for the eviction, follows it, and returns how it ended.
func (a *app) evictAndWait(ctx context.Context, s *session, f runFlags, req preemption.WorkflowRequest) error {
	show := func(out runResult) error { return a.showEvicted(evictResult{req.VM, out}) }
	out, err := a.askAndFollow(ctx, s, f, req, show)
	if err != nil {
		return err
	}
	if err := show(out); err != nil {
		return err
	}
	if out.Round.State == preemptapi.RoundFailed {
		ended := s.GetWorkflow(ctx, out.Round.RoundID, "").Get(ctx, nil)
		if err := notThatVM(*out.Round, preemptapi.KindOf(ended)); err != nil {
			return err
		}
	}
	if req.NoticeOnly && out.Round.State == preemptapi.RoundObserved {
		return refusedf("no notice was given: the worker or policy %s only observes", out.Round.PolicyName)
	}
	return evictVerdict(*out.Round, req.VM)
}

// notThatVM returns the error of a round that failed because of the VM or tag that was named; nil if it failed for
// another reason. kind is the type of its error.
func notThatVM(r preemptapi.RoundResult, kind string) error {
	switch kind {
	case preemptapi.NoRoomNeeded:
		return refusedf("refused: %s", r.Reason)
	case preemptapi.NotTagged:
		return refusedf("refused: %s; name its tag with --tag, or have it tagged", r.Reason)
	case preemptapi.VMNotFound, preemptapi.TagNotFound, preemptapi.ScopeNotFound:
		return notFoundf("%s", r.Reason)
	case preemptapi.VMAmbiguous, preemptapi.TagAmbiguous:
		return usagef("%s", r.Reason)
	}
	return nil
}

// evictVerdict returns the error of a round, or a plan, that did not turn the named VM off.
func evictVerdict(r preemptapi.RoundResult, vm string) error {
	if err := verdict(r, false); err != nil {
		return err
	}
	if len(r.Targets) == 0 {
		if why := policy.BelowTarget(r.Usage); why != "" && len(r.Spared) == 0 {
			return refusedf("refused: %s stays: %s", vm, why)
		}
		for _, s := range r.Spared {
			return refusedf("refused: %s stays: %s", vmName(s.Name, s.Ref), s.Explanation().Words())
		}
		if r.State == preemptapi.RoundHeld { // a pause, or a person who has taken the alarm
			return refusedf("refused: nothing was done about VM %s: %s", vm, r.Reason)
		}
		return failedf("nothing was done about VM %s: the round is %s", vm, r.State)
	}
	t := r.Targets[0]
	name := vmName(t.Name, t.Ref)
	if t.Outcome != action.Spared {
		return nil
	}
	switch t.Reason.Reason {
	case policy.Rehearsed:
		if why, none := t.NotNotified(); none {
			return failedf("%s was not given its notice: %s", name, why)
		}
		return nil
	case policy.Withdrawn, policy.OnAtWithdraw:
		return failedf("%s stays: %s", name, t.Reason.Words())
	}
	return refusedf("%s stays: %s", name, t.Reason.Words())
}

// showEvicted prints the steps of the eviction.
func (a *app) showEvicted(out evictResult) error {
	if out.Round == nil && !a.flags.outputSet && !a.flags.json {
		return nil // the error line that follows is enough
	}
	return a.show(view{
		value: out, msg: "eviction decided",
		attrs: []any{"vm", out.VM, "workflowID", out.WorkflowID, "requestID", out.RequestID, "decision", out.Decision, "round", out.Round},
		table: func(t *table) {
			if out.Round != nil {
				evictTable(t, out.VM, *out.Round)
			}
		},
	})
}

func evictTable(t *table, vm string, r preemptapi.RoundResult) {
	t.row("vm", vm)
	t.row("round", r.RoundID)
	t.row("state", stateWords(r))
	t.row("tag", r.Tag)
	t.row("criticality", string(r.Criticality))
	t.field("policy", r.PolicyName)
	t.field("reason", r.Reason)
	for _, v := range r.Targets {
		t.field("chosen as", v.Why)
		switch {
		case v.Notice != "":
			t.row("notice", v.Notice)
		case r.State != preemptapi.RoundObserved:
			t.row("notice", "none: the policy gives none")
		}
		t.row("outcome", vmName(v.Name, v.Ref)+": "+becameWords(v))
		t.field("why", v.Reason.Words())
		at := "off at"
		if v.Outcome.StaysOn() {
			at = "throttled at"
		}
		t.field(at, timestamp(v.OffAt))
		if v.Outcome.Ours() {
			t.row("power cut", yesNo(v.Forced))
			t.row("annotated", annotated(v))
		}
	}
	t.field("freed", freed(r))
	epilogue(t, r)
	sparedTable(t, r)
}

func annotated(v preemptapi.VMOutcome) string {
	if v.AnnotationError != "" {
		return "no: " + v.AnnotationError
	}
	return yesNo(v.Annotated)
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
