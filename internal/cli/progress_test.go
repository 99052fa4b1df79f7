package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// newWedgedSite is a site whose worker ends no task of an intake, a restore or a remediation.
func newWedgedSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t, false)
	w := worker.New(s.client, s.queue, worker.Options{WorkerStopTimeout: time.Millisecond})
	for _, kind := range []string{preemption.WorkflowName, preemptapi.RestoreType, placement.ResizeType} {
		w.RegisterWorkflowWithOptions(func(workflow.Context) error { panic("out of order") }, workflow.RegisterOptions{Name: kind})
	}
	w.RegisterWorkflowWithOptions(fakeDiagnosis, workflow.RegisterOptions{Name: doctorapi.Type})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	s.awaitPoller()
	return s
}

func TestACommandThatOnlyHandsOverSaysSoWhereNobodyTakesIt(t *testing.T) {
	s := newWedgedSite(t)
	for name, args := range map[string][]string{
		"run":         {"workflow", "run", "-w", s.id()},
		"evict":       {"evict", "web-" + s.queue, "--wait=false"},
		"restore":     {"restore", "--cluster", "ClusterComputeResource:" + s.queue},
		"remediation": {"remediation", "run", "vm-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			got := s.run(args...)
			got.want(t, 1, "stderr", "has the request and has not handled it within 2s: its task fails (attempt 2); it stays queued; look: preemptctl doctor")
			if took := time.Since(start); took > promised {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestRunInJSONSaysWhyTheIntakeHasNotTakenTheRequest(t *testing.T) {
	s := newWedgedSite(t)
	got := s.run("workflow", "run", "-w", s.id(), "-o", "json")
	got.want(t, 1, "stdout", `"notTaken": "its task fails (attempt 2)"`)
}

func TestEveryCommandThatLooksNamesALedgerOfTheWrongType(t *testing.T) {
	s := newSite(t, true)
	t.Cleanup(func() { _ = s.client.TerminateWorkflow(context.Background(), ledger.WorkflowID(s.queue), "", "end") })
	options := client.StartWorkflowOptions{ID: ledger.WorkflowID(s.queue), TaskQueue: s.queue}
	if _, err := s.client.ExecuteWorkflow(t.Context(), options, preemption.WorkflowName); err != nil {
		t.Fatal(err)
	}
	remedy := "preemptctl workflow repair " + options.ID + " --server " + s.address
	says := []string{options.ID, "a workflow of type PreemptVMsWorkflow runs under this id, where a PreemptionLedger should"}
	got := s.run("doctor", "-o", "json")
	got.want(t, 1, "stderr", "checks failed")
	if c := decode[diagnosis](t, got.stdout).find(t, "workflow "+options.ID); c.State != doctorapi.Failed || !strings.Contains(c.Text, says[1]) || !strings.Contains(c.Remedy, remedy) {
		t.Errorf("doctor says %+v", c)
	}
	s.run("workflow", "list").want(t, 0, "stderr", append(says, "STALLED", remedy)...)
	type row struct{ WorkflowID, Stalled string }
	eventually(t, "the list marks it", func() bool {
		for _, r := range decode[[]row](t, s.run("workflow", "list", "--limit", "1000", "-o", "json").stdout) {
			if r.WorkflowID == options.ID {
				return strings.Contains(r.Stalled, says[1])
			}
		}
		return false
	})
}

func TestDoctorSaysThatOpenWorkflowsMakeProgress(t *testing.T) {
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id()).want(t, 0, "stdout", s.id())
	eventually(t, "it is counted", func() bool {
		return strings.Contains(s.run("doctor").stdout, "none of 1 open workflows is stalled")
	})
}

func TestAWatchThatFollowsIsNotWellWhereTheLedgerIsDead(t *testing.T) {
	s := newWatchSite(t, following(checkpoint()))
	s.run("watch", "start").want(t, 0, "stdout")
	s.becomes(t, "following").want(t, 0, "stdout")
	id := ledger.WorkflowID(s.queue)
	t.Cleanup(func() { _ = s.client.TerminateWorkflow(context.Background(), id, "", "end") })
	if _, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, "Other"); err != nil {
		t.Fatal(err)
	}
	got := s.run("watch", "status", "-o", "json")
	got.want(t, 1, "stderr", "STALLED: "+id, "the watch is following, but 1 workflow(s)", "make no progress")
	st := decode[struct{ Stalled []health.Stall }](t, got.stdout)
	if len(st.Stalled) != 1 || st.Stalled[0].Kind != health.WrongType {
		t.Errorf("the JSON has %+v", st.Stalled)
	}
}
