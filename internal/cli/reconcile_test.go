package cli_test

import (
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

func TestReconcileSaysWhatWasApplied(t *testing.T) {
	s := newSite(t, true)
	s.run("reconcile", "--wait").want(t, 0, "stdout", "reconciliation   Applied", "5 VMs with tags of settings", "2 VMs, which get theirs", "virtual CPUs 2 to 4, CPU hot add yes to no",
		"BAD TAG", "it is no number")
	r := decode[remediateapi.ReconcileResult](t, s.run("reconcile", "--dry-run", "-o", "json").stdout)
	if r.State != remediateapi.Planned || len(r.Decisions) != 1 || r.Decisions[0].Cause.Event != placement.ByHand {
		t.Errorf("unexpected result %+v", r)
	}
	id := remediateapi.ReconcileID(s.queue)
	s.run("remediation", "show", id).want(t, 0, "stdout", id+" (completed)", "virtual CPUs 2 to 4")
}

func TestAReconciliationThatDidNotDoItAllSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		says string
	}{
		"partial": {1, "1 VM of 1 VM failed"},
		"failed":  {1, "the reconciliation failed: vCenter said no"},
	} {
		t.Run(name, func(t *testing.T) {
			newSite(t, true).run("reconcile", "--wait").want(t, c.code, "stderr", c.says)
		})
	}
	t.Run("slow", func(t *testing.T) {
		s := newSite(t, true)
		id := remediateapi.ReconcileID(s.queue)
		s.run("reconcile").want(t, 0, "stdout", id, "preemptctl remediation show "+id)
		s.run("reconcile").want(t, 4, "stderr", "refused: reconciliation "+id+" is under way; look: preemptctl remediation show "+id)
		s.run("remediation", "show", id).want(t, 0, "stdout", id+" (running)", "nothing yet")
		s.run("reconcile", "--dry-run").want(t, 0, "stdout", "Planned")
	})
}

func TestAScheduleCanReconcile(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	s.run("schedule", "create", name, "--reconcile", "--cron", "0 3 * * *", "--paused").want(t, 0, "stdout", "every day at 03:00",
		"asks for    reconciliation of VMs that are off with their tags", "within 6h ends without doing anything")
	action := s.describe(name).Schedule.Action.(*client.ScheduleWorkflowAction)
	if action.Workflow != remediateapi.ReconcileType || action.TaskQueue != s.queue || action.ID != "schedule-"+name {
		t.Errorf("unexpected action %+v", action)
	}
	s.run("schedule", "run", name).want(t, 0, "stdout", "triggered")
	row := s.shows(name, "the run has its result", func(r scheduledRow) bool { return r.Last != nil && r.Last.Result == "Applied, 1 VM reconciled" })
	if row.Tag+row.Criticality != "" || !row.Reconciles {
		t.Errorf("unexpected row %+v", row)
	}
	var in remediateapi.ReconcileInput
	if s.input(t, row.Last.WorkflowID, &in); in.By != placement.ByReconciler || in.DryRun {
		t.Errorf("unexpected input %+v", in)
	}
	s.run("schedule", "list").want(t, 0, "stdout", "ASKS FOR", "reconciliation")
	s.run("schedule", "pause", name).want(t, 0, "stdout", "paused")
	s.run("schedule", "resume", name).want(t, 0, "stdout", "resumed")
	s.run("schedule", "delete", name).want(t, 0, "stdout", "deleted")
}
