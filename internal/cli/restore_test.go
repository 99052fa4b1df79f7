package cli_test

import (
	"strings"
	"testing"
	"time"

	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fakeRestore brings one VM back; the tag says how it goes.
func fakeRestore(ctx workflow.Context, in preemptapi.RestoreInput) (preemptapi.RestoreResult, error) {
	r := preemptapi.RestoreResult{
		RestoreID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: preemptapi.RestoreCompleted, By: in.By, Tag: in.Tag, Scope: in.Scope,
		PolicyName: "default", Waves: 1, VMs: []preemptapi.RestoredVM{{
			Return: policy.Return{Ref: ref("vm-1"), Name: "web-1", Wave: 1, Priority: 100, OffSince: until}, Outcome: preemptapi.OutcomeRestored, OnAt: until,
		}},
		Left: []policy.Spared{{Ref: ref("vm-2"), Name: "db-1", Reason: policy.TouchedByOwner, Detail: "VmReconfiguredEvent by alice"}},
	}
	if err := workflow.SetQueryHandler(ctx, preemptapi.RestoreStateQuery, func() (preemptapi.RestoreResult, error) { return r, nil }); err != nil {
		return r, err
	}
	fails := func(kind, reason string) (preemptapi.RestoreResult, error) {
		r.State, r.Reason = preemptapi.RestoreFailed, reason
		return preemptapi.RestoreResult{}, sdktemporal.NewNonRetryableApplicationError(reason, kind, nil, r)
	}
	switch in.Tag {
	case "slow":
		return r, workflow.Sleep(ctx, time.Minute)
	case "busy":
		r.State, r.Reason = preemptapi.RestoreRefused, "round round-1 is under way in this scope"
	case "partial":
		r.State, r.Reason = preemptapi.RestorePartial, "1 of 2 VMs failed"
	case "nosuch":
		return fails("NotFound", `find VM "web-9": this vCenter has no such VM`)
	case "now":
		r.VMs[0].OnAt = workflow.Now(ctx).UTC()
	case "again":
		r.VMs, r.Left = nil, []policy.Spared{{Ref: ref("vm-1"), Name: "web-1", Reason: policy.AlreadyOn}, {Ref: ref("vm-5"), Name: "web-5", Reason: policy.NotOurs}}
	case "rejected":
		return fails("RequestRejected", "tag is not among the allowed tags")
	}
	if in.DryRun {
		r.State, r.VMs[0].Outcome, r.VMs[0].OnAt = preemptapi.RestorePlanned, preemptapi.OutcomeWouldPowerOn, time.Time{}
	}
	return r, nil
}

func TestRestoreSaysWhoCameBackAndWhyTheOthersDidNot(t *testing.T) {
	s := newSite(t, true)
	got := s.run("restore", "--wait")
	got.want(t, 0, "stdout", "completed", "web-1", "restored", "2030-01-02 03:04:05Z", "db-1", "no longer ours (VmReconfiguredEvent by alice)")
	r := decode[preemptapi.RestoreResult](t, s.run("restore", "web-1", "--cluster", "domain-c7", "--wait", "-o", "json").stdout)
	if r.Scope != (vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}) || len(r.Restored()) != 1 || r.RestoreID != preemptapi.RestoreID(s.queue, r.Scope) {
		t.Errorf("unexpected result %+v", r)
	}
	s.run("workflow", "status", "-w", r.RestoreID).want(t, 0, "stdout", "completed", "web-1")
}

func TestADryRunOfRestoreShowsTheWaves(t *testing.T) {
	s := newSite(t, true)
	s.run("restore", "--dry-run").want(t, 0, "stdout", "planned", "WAVE", "would power on", "db-1")
}

func TestWithoutWaitRestoreSaysWhereToLook(t *testing.T) {
	s := newSite(t, true)
	s.run("restore", "-t", "slow").want(t, 0, "stdout", preemptapi.RestoreID(s.queue, vsphere.Ref{}))
	s.run("restore", "-t", "slow").want(t, 4, "stderr", "refused: restore", "is under way", "workflow cancel --workflow-id "+preemptapi.RestoreID(s.queue, vsphere.Ref{}))
	s.run("restore", "-t", "slow", "--wait", "--cluster", "domain-c8", "--timeout", "1s").want(t, 1, "stderr", "continues; stop it")
	s.run("workflow", "cancel", "-w", preemptapi.RestoreID(s.queue, vsphere.Ref{})).want(t, 0, "stdout", "cancelled")
}

func TestARestoreThatDidNotDoWhatWasAskedSaysSoByItsExitCode(t *testing.T) {
	s := newSite(t, true)
	for name, c := range map[string]struct {
		args []string
		code int
		text string
	}{
		"a round is under way":  {[]string{"-t", "busy", "--wait"}, 4, "refused: round round-1"},
		"some VMs failed":       {[]string{"-t", "partial", "--wait"}, 1, "1 of 2 VMs failed"},
		"a VM is not there":     {[]string{"web-9", "-t", "nosuch", "--wait"}, 3, "no such VM"},
		"the worker rejects it": {[]string{"-t", "rejected", "--wait"}, 1, "allowed tags"},
		"no tag":                {[]string{"-t", " "}, 2, "--tag is empty"},
		"an empty name":         {[]string{""}, 2, "name is empty"},
		"a timeout for nothing": {[]string{"--timeout", "1s"}, 2, "--timeout needs"},
		"a timeout below zero":  {[]string{"--timeout", "-1s", "--wait"}, 2, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(append([]string{"restore"}, c.args...)...).want(t, c.code, "stderr", c.text)
		})
	}
}

func TestWithoutAWorkerNothingIsRestored(t *testing.T) {
	newSite(t, false).run("restore").want(t, 1, "stderr", "no worker polls")
}

func TestOfAVMThatCameBackItIsSaidWhenAndAfterWhichRound(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id(), "-t", "filtered", "--wait").want(t, 0, "stdout", "web-1")
	s.run("restore", "-t", "now", "--wait").want(t, 0, "stdout", "restored")
	back := "Z: " + preemptapi.RestoreID(s.queue, vsphere.Ref{}) + " restored it after round round-"
	eventually(t, "the record knows that it came back", func() bool {
		return strings.Contains(s.run("explain", "VirtualMachine:vm-1").stdout, back)
	})
	got := s.run("restore", "web-1", "web-5", "-t", "again", "--wait")
	got.want(t, 0, "stdout", "it came back at 20", back, "web-5", "no open record of a preemption by us")
	if strings.Contains(got.stdout, "it is on already") {
		t.Errorf("it says two things of web-1:\n%s", got.stdout)
	}
	r := decode[struct {
		CameBack []struct {
			VM      vsphere.Ref
			At      time.Time
			RoundID string
		}
	}](t, s.run("restore", "web-1", "-t", "again", "--wait", "-o", "json").stdout)
	if len(r.CameBack) != 1 || r.CameBack[0].VM != ref("vm-1") || time.Since(r.CameBack[0].At) > time.Hour || r.CameBack[0].RoundID == "" {
		t.Errorf("unexpected %+v", r)
	}
}
