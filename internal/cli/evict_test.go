package cli_test

import (
	"strings"
	"testing"
	"time"

	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// evictions is what a round finds when it is to evict the VM of that name.
var evictions = map[string]func(*preemptapi.RoundResult) error{
	"protected": func(r *preemptapi.RoundResult) error {
		r.State, r.Reason = preemptapi.RoundEmpty, "no VM was eligible"
		r.Spared = []policy.Spared{{Ref: ref("vm-7"), Name: "protected", Reason: policy.Protected, Detail: "do-not-preempt"}}
		return nil
	},
	"protected-since": func(r *preemptapi.RoundResult) error {
		return spared(r, "protected: do-not-preempt")
	},
	"deaf":      func(r *preemptapi.RoundResult) error { return spared(r, string(policy.GuestIgnored)) },
	"withdrawn": func(r *preemptapi.RoundResult) error { return spared(r, string(policy.Withdrawn)) },
	"untagged": func(r *preemptapi.RoundResult) error {
		return broken(r, preemptapi.NotTagged, `VM "untagged" does not carry the tag "preemptible"`)
	},
	"nosuch": func(r *preemptapi.RoundResult) error {
		return broken(r, preemptapi.VMNotFound, `find VM "nosuch": this vCenter has no such VM`)
	},
	"twins": func(r *preemptapi.RoundResult) error {
		return broken(r, preemptapi.VMAmbiguous, `find VM "twins": 2 VMs are called so`)
	},
	"paused": func(r *preemptapi.RoundResult) error {
		r.State, r.Reason = preemptapi.RoundHeld, "cluster-a is paused: maintenance"
		return nil
	},
	"broken": func(r *preemptapi.RoundResult) error { return broken(r, "Fault", "vCenter said no") },
	"observed": func(r *preemptapi.RoundResult) error {
		r.State = preemptapi.RoundObserved
		r.Targets = []preemptapi.VMOutcome{{Ref: ref("vm-7"), Name: "observed", Outcome: action.Would(action.PowerOff)}}
		return nil
	},
}

func spared(r *preemptapi.RoundResult, reason string) error {
	r.State = preemptapi.RoundCompleted
	r.Targets = []preemptapi.VMOutcome{{Ref: ref("vm-7"), Name: "web-7", Outcome: action.Spared, Reason: policy.InWords(reason)}}
	return nil
}

func broken(r *preemptapi.RoundResult, kind, reason string) error {
	r.State, r.Reason = preemptapi.RoundFailed, reason
	return sdktemporal.NewNonRetryableApplicationError(reason, kind, nil, *r)
}

// fakeEviction evicts the one VM that the demand names; its name says how that goes.
func fakeEviction(ctx workflow.Context, vm string, noticeOnly bool) (preemptapi.RoundResult, error) {
	now := workflow.Now(ctx).UTC()
	r := preemptapi.RoundResult{
		RoundID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: preemptapi.RoundPlanning, Tag: "preemptible", Criticality: "MEDIUM",
		PolicyName: "default", StartedAt: now, Targets: []preemptapi.VMOutcome{}, Spared: []policy.Spared{},
	}
	if err := workflow.SetQueryHandler(ctx, preemptapi.RoundStateQuery, func() (preemptapi.RoundResult, error) { return r, nil }); err != nil {
		return r, err
	}
	if f, ok := evictions[vm]; ok {
		return r, f(&r)
	}
	if r.NoticeTime = clock.Duration(time.Second); vm == "noticed" {
		r.NoticeTime = clock.Duration(5 * time.Minute) // the policy's own
	}
	r.State, r.Deadline, r.Waiting = preemptapi.RoundNotified, now.Add(400*time.Millisecond), []vsphere.Ref{ref("vm-7")}
	r.Changes = []string{now.Format(time.RFC3339) + " web-7 asked for more time"}
	if err := workflow.Sleep(ctx, 400*time.Millisecond); err != nil {
		return r, err
	}
	r.Deadline = time.Time{}
	v := preemptapi.VMOutcome{
		Ref: ref("vm-7"), Name: "web-7", Outcome: action.Forced, Forced: true, OffAt: now, Annotated: true, CPUMHz: 1000, MemoryMB: 1024,
		Why: "rank 1: priority 100, on for 3h", Notice: "extended by 1s",
	}
	if noticeOnly {
		v.Outcome, v.Reason, v.Notice = action.Spared, policy.Because(policy.Rehearsed), "acknowledged, withdrawn"
		if vm == "toolless" {
			v.Notice = "none: no running tools"
		}
		r.State, r.Targets, r.Waiting = preemptapi.RoundRehearsed, []preemptapi.VMOutcome{v}, nil
		return r, nil
	}
	r.State = preemptapi.RoundWaiting
	if err := workflow.Sleep(ctx, 400*time.Millisecond); err != nil {
		return r, err
	}
	r.State, r.Targets, r.Waiting = preemptapi.RoundCompleted, []preemptapi.VMOutcome{v}, nil
	r.FreedCPUMHz, r.FreedMemMB = v.CPUMHz, v.MemoryMB
	return r, nil
}

func TestEvictShowsTheEvictionsLife(t *testing.T) {
	s := newSite(t, true)
	got := s.run("evict", "/dc-1/vm/prod/web-7")
	got.want(t, 0, "stderr", "notice: it runs until ", "web-7 asked for more time", "asked to shut down: waiting for the guest", "web-7 (vm-7): forced")
	got.want(t, 0, "stdout", "notice        extended by 1s", "outcome       web-7 (vm-7): forced", "power cut     yes", "annotated     yes",
		"chosen as     rank 1: priority 100", "freed         1 VM, 1.0 GHz, 1.0 GiB")
	type evicted struct {
		ran
		VM string `json:"vm"`
	}
	out := decode[evicted](t, s.run("evict", "web-7", "-o", "json").stdout)
	if out.VM != "web-7" || out.WorkflowID != "evict@web-7@"+s.queue || out.Round == nil || out.Round.Criticality != "MEDIUM" {
		t.Errorf("unexpected result %+v", out)
	}
}

func TestEvictSaysInItsExitCodeWhatBecameOfTheVM(t *testing.T) {
	s := newSite(t, true)
	cases := map[string]struct {
		args []string
		code int
		says string
	}{
		"protected":                  {[]string{"protected"}, 4, "refused: protected (vm-7) stays: a tag on it protects it (do-not-preempt)"},
		"protected in the meantime":  {[]string{"protected-since"}, 4, "web-7 (vm-7) stays: a tag on it protects it (do-not-preempt)"},
		"a guest that does not hear": {[]string{"deaf"}, 4, "stays: its guest ignored the shutdown"},
		"withdrawn":                  {[]string{"withdrawn"}, 1, "stays: the preemption was withdrawn before its turn"},
		"not tagged":                 {[]string{"untagged"}, 4, `refused: VM "untagged" does not carry the tag "preemptible"; name its tag with --tag`},
		"not there":                  {[]string{"nosuch"}, 3, "this vCenter has no such VM"},
		"not one":                    {[]string{"twins"}, 2, "2 VMs are called so"},
		"in a pause":                 {[]string{"paused"}, 4, "refused: nothing was done about VM paused: cluster-a is paused: maintenance"},
		"failed":                     {[]string{"broken"}, 1, "vCenter said no"},
		"in the cooldown":            {[]string{"cool", "-t", "refused"}, 4, "refused: the scope was preempted"},
		"rejected":                   {[]string{"any", "-t", "rejected"}, 1, "the worker rejected the request"},
		"a rehearsal untold":         {[]string{"toolless", "--notice-only"}, 1, "web-7 (vm-7) was not given its notice: no running tools"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.run(append([]string{"evict"}, c.args...)...).want(t, c.code, "stderr", "Error: ", c.says)
		})
	}
}

func TestEvictRehearsesTheNotice(t *testing.T) {
	s := newSite(t, true)
	got := s.run("evict", "web-8", "--notice-only", "--notice", "1s")
	got.want(t, 0, "stderr", "notice: it runs until ", "web-7 (vm-7): spared, a rehearsal")
	got.want(t, 0, "stdout", "rehearsed: the notice was given and withdrawn, nothing else", "notice        acknowledged, withdrawn")
	if strings.Contains(got.stderr, "does not count") {
		t.Errorf("its notice counts:\n%s", got.stderr)
	}
	s.run("evict", "noticed", "--notice-only", "--notice", "1s").want(t, 0, "stderr", "--notice 1s does not count: policy default gives a notice of 5m")
	s.run("evict", "noticed", "--notice-only", "--notice", "1s", "--wait=false").want(t, 0, "stderr", "--notice counts only where the policy gives no notice of its own")
	if got := s.run("evict", "noticed", "--notice-only"); strings.Contains(got.stderr, "does not count") {
		t.Errorf("nobody asked for a length:\n%s", got.stderr)
	}
	s.run("evict", "observed", "--notice-only").want(t, 4, "stderr", "no notice was given: the worker or policy default only observes")
	s.run("evict", "observed").want(t, 0, "stdout", "observed: nothing was touched", "observed (vm-7): would power off")
}

func TestEvictCanOnlyLook(t *testing.T) {
	s := newSite(t, true)
	for name, c := range map[string]struct {
		vm     string
		code   int
		stream string
		says   []string
	}{
		"one that would go":    {"web-2", 0, "stdout", []string{"1 would be turned off", "power off", "priority 10"}},
		"one that would not":   {"protected", 4, "stderr", []string{"refused: protected (vm-7) stays: a tag on it protects it"}},
		"one that is untagged": {"untagged", 4, "stderr", []string{"refused: VM \"untagged\" does not carry the tag"}},
		"none":                 {"nosuch", 3, "stderr", []string{"no such VM"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.run("evict", c.vm, "--dry-run").want(t, c.code, c.stream, c.says...)
		})
	}
}

func TestEvictWithoutWaitingNamesTheNextStep(t *testing.T) {
	s := newSite(t, true)
	s.run("evict", "web 9", "--wait=false").want(t, 0, "stdout", "evict@web-9-", "preemptctl workflow status --workflow-id evict@web-9-")
	nobody := newSite(t, false)
	nobody.queue += "-nobody"
	nobody.run("evict", "web-10").want(t, 1, "stderr", "no worker polls task queue", "stays queued")
}

func TestTheIntakeOfAVMHasAnIDThatIsSafeAndItsOwn(t *testing.T) {
	s := newSite(t, false)
	seen := map[string]string{}
	for _, vm := range []string{"web-1", "/dc/vm/web-1", "dc/vm/web-1", "dc-vm-web-1", "größe", "groe", "日本", "中国", "VirtualMachine:vm-1", strings.Repeat("n", 300), strings.Repeat("n", 301)} {
		out := decode[ran](t, s.run("evict", vm, "--wait=false", "-o", "json").stdout)
		if other, ok := seen[out.WorkflowID]; ok {
			t.Errorf("%q and %q are both %s", vm, other, out.WorkflowID)
		}
		seen[out.WorkflowID] = vm
		if len(out.WorkflowID) >= workflowid.Max || strings.Trim(strings.ToLower(out.WorkflowID), "abcdefghijklmnopqrstuvwxyz0123456789._-@") != "" {
			t.Errorf("%q becomes %q", vm, out.WorkflowID)
		}
	}
}
