package cli_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

func TestShowTellsEveryDecision(t *testing.T) {
	s := newSite(t, true)
	s.run("remediation", "run", "vm-1", "--wait").want(t, 0, "stdout")
	s.run("remediation", "run", "vm-1", "--move", "--wait").want(t, 0, "stdout")
	s.run("remediation", "show", "vm-1").want(t, 0, "stdout", "resize@vm-1@"+s.queue+" (completed)", "move@vm-1@"+s.queue+" (completed)",
		"resource   cpu", "resource   memory", "roomy (datastore-6)")
	type shown struct {
		remediateapi.Report
		Execution string
	}
	all := decode[[]shown](t, s.run("remediation", "show", "resize@vm-1@"+s.queue, "-o", "json").stdout)
	if len(all) != 1 || all[0].Execution != "completed" || len(all[0].Decisions) != 2 || all[0].Kind != "resize" {
		t.Errorf("unexpected remediations %+v", all)
	}

	s.run("remediation", "run", "slow", "--wait", "--timeout", "1s").want(t, 1, "stderr")
	running := s.newest(t)
	s.run("remediation", "show", running).want(t, 0, "stdout", running+" (running)", "resize     Working")
	if err := s.client.TerminateWorkflow(context.Background(), running, "", "the test wants it"); err != nil {
		t.Fatal(err)
	}
	s.run("remediation", "show", running).want(t, 0, "stdout", running+" (terminated)", "failure", "decided")

	s.run("remediation", "run", "broken", "--wait").want(t, 1, "stderr")
	s.run("remediation", "show", s.newest(t)).want(t, 0, "stdout", "(failed)", "resize     Failed", "vCenter said no")

	s.run("remediation", "show", "nosuch").want(t, 3, "stderr", "no remediation nosuch in namespace", "preemptctl remediation list")
	s.run("remediation", "run", "vmfs-5", "--target-usage", "70", "--move", "--wait").want(t, 0, "stdout", "roomy (datastore-6)")
	s.run("remediation", "show", "vmfs-5").want(t, 0, "stdout", "move@datastore-5@"+s.queue)
	s.run("remediation", "plan", "vmfs-5", "--resource", "cpu").want(t, 2, "stderr", "--resource is for a resize, and this is a move")
	s.run("remediation", "show", "vm-99").want(t, 3, "stderr", "no remediation of VM vm-99 for task queue "+s.queue)
	s.run("workflow", "plan").want(t, 0, "stdout")
	_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "ledger-" + s.queue, TaskQueue: s.queue}, "PreemptionLedger")
	if err != nil {
		t.Fatal(err)
	}
	s.run("remediation", "show", "ledger-"+s.queue).want(t, 1, "stderr", "is a PreemptionLedger: this command shows remediations")
}

// newest is the id of the remediation of this site that was asked for last.
func (s *site) newest(t *testing.T) (id string) {
	t.Helper()
	eventually(t, "a remediation by name is listed", func() bool {
		page, err := s.client.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "TaskQueue = '" + s.queue + "' AND WorkflowId STARTS_WITH 'remediation-run-' AND WorkflowType = 'ResizeVMWorkflow'"})
		if err != nil {
			t.Fatal(err)
		}
		found := page.GetExecutions()
		if len(found) == 0 {
			return false
		}
		last := slices.MaxFunc(found, func(a, b *workflowpb.WorkflowExecutionInfo) int {
			return a.GetStartTime().AsTime().Compare(b.GetStartTime().AsTime())
		})
		fresh := last.GetExecution().GetWorkflowId() != s.last
		id = last.GetExecution().GetWorkflowId()
		return fresh
	})
	s.last = id
	return id
}

func TestShowNeedsAWorkerOnlyForWhatRuns(t *testing.T) {
	s := newSite(t, false)
	id := placement.WorkflowID(placement.KindResize, ref("vm-1"), s.queue)
	_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, placement.ResizeType, remediateapi.Input{})
	if err != nil {
		t.Fatal(err)
	}
	s.run("remediation", "show", "vm-1").want(t, 1, "stderr", "no worker polls task queue "+s.queue)
	for name, args := range map[string][]string{
		"plan": {"remediation", "plan", "web-1"}, "run": {"remediation", "run", "vm-1"}, "run by name": {"remediation", "run", "web-1"},
		"reconcile": {"reconcile"}, "create": {"tags", "create"}, "show": {"tags", "show", "web-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(args...).want(t, 1, "stderr", "Error: no worker polls task queue "+s.queue)
		})
	}
}

func TestTheListShowsTheLastDecisions(t *testing.T) {
	s := newSite(t, true)
	s.run("remediation", "run", "vm-1", "--wait").want(t, 0, "stdout")
	s.run("remediation", "run", "datastore-5", "--wait").want(t, 0, "stdout")
	s.run("remediation", "plan", "web-1").want(t, 0, "stdout")
	type row struct{ WorkflowID, Kind, Status, State, VM, Name, Reason string }
	resize, move := "resize@vm-1@"+s.queue, "move@datastore-5@"+s.queue
	listed := func(args ...string) []row {
		got := s.run(append([]string{"remediation", "list", "--limit", "1000", "-o", "json"}, args...)...)
		got.want(t, 0, "stdout")
		return decode[[]row](t, got.stdout)
	}
	at := func(rows []row, id string) int {
		return slices.IndexFunc(rows, func(r row) bool { return r.WorkflowID == id })
	}
	var rows []row
	eventually(t, "both are listed as they ended", func() bool {
		rows = listed()
		r, m := at(rows, resize), at(rows, move)
		return r >= 0 && m >= 0 && rows[r].Status == "completed" && rows[m].Status == "completed"
	})
	if at(rows, move) > at(rows, resize) {
		t.Errorf("the newer stands behind: %+v", rows)
	}
	if r := rows[at(rows, resize)]; r.Kind != "resize" || r.State != "Applied" || r.VM != "vm-1" || r.Name != "web-1" || !strings.Contains(r.Reason, "red") {
		t.Errorf("unexpected row %+v", r)
	}
	isPlan := func(r row) bool { return strings.HasPrefix(r.WorkflowID, "remediation-plan-") }
	if slices.ContainsFunc(rows, isPlan) {
		t.Error("a plan is listed without --all")
	}
	eventually(t, "the plan is listed with --all", func() bool { return slices.ContainsFunc(listed("--all"), isPlan) })
	if rows := listed("--kind", "move"); at(rows, resize) >= 0 || at(rows, move) < 0 {
		t.Errorf("unexpected rows %+v", rows)
	}
	got := s.run("remediation", "list")
	got.want(t, 0, "stdout", "REMEDIATION", `evil \x1b[31mred`)
}
