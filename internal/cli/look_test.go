package cli_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

func TestStatusShowsTheIntakeAndItsRunningRound(t *testing.T) {
	s := newSite(t, true)
	s.run("workflow", "run", "--wait", "--timeout", "1s", "-t", "slow", "-w", s.id()).want(t, 1, "stderr", "continues")
	got := s.run("workflow", "status", "-w", s.id())
	got.want(t, 0, "stdout", s.id()+" (running)", "last preemption   never", "started round-", "web-1", "powered off", "under way",
		`evil \x1b[31mred\x1b[0m text`, `db-\u202e01`)
	if strings.ContainsAny(got.stdout, "\x1b\u202e") {
		t.Error("control characters reach the terminal")
	}
	type status struct {
		preemptapi.Response
		Execution    string                  `json:"execution"`
		RunningRound *preemptapi.RoundResult `json:"runningRound"`
	}
	st := decode[status](t, s.run("workflow", "status", "-w", s.id(), "-o", "json").stdout)
	if st.State != "running" || st.Execution != "running" || st.RunningRound == nil || len(st.RunningRound.Waiting) != 1 {
		t.Errorf("unexpected status %+v", st)
	}
	s.run("workflow", "status", "-w", st.RoundID).want(t, 0, "stdout", "round", "acting", "web-1")
	s.run("workflow", "cancel", "-w", st.RoundID, "--wait").want(t, 0, "stdout", "withdrawn")
}

func TestAQueryThatFailsOnceIsAskedAgain(t *testing.T) {
	s := newSite(t, true)
	s.run("workflow", "run", "-t", "grown", "-w", s.id()).want(t, 0, "stdout")
	s.run("workflow", "status", "-w", s.id()).want(t, 0, "stdout", s.id()+" (running)")
	if grown.Load() < 2 {
		t.Error("its query did not fail")
	}
}

func TestStatusKeepsTheDocumentedJSONLine(t *testing.T) {
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id()).want(t, 0, "stdout")
	got := s.run("workflow", "status", "-w", s.id(), "--json")
	got.want(t, 0, "stdout")
	line := decode[map[string]any](t, got.stdout)
	text, ok := line["status"].(string)
	if line["msg"] != "retrieved workflow status" || !ok {
		t.Fatalf("unexpected line %v", line)
	}
	if st := decode[preemption.WorkflowResponse](t, text); st.WorkflowID != s.id() {
		t.Errorf("unexpected status %+v", st)
	}
}

func TestAnUnknownWorkflowExitsWith3(t *testing.T) {
	s := newSite(t, true)
	for name, args := range map[string][]string{
		"status":                   {"status", "-w", "nosuch"},
		"status of an unknown run": {"status", "-w", "nosuch", "-r", "9b1b5f0e-0000-4000-8000-000000000000"},
		"cancel":                   {"cancel", "-w", "nosuch"},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(append([]string{"workflow"}, args...)...).want(t, 3, "stderr", "Error: no workflow nosuch", "preemptctl workflow list")
		})
	}
}

func TestAnEndedWorkflowStillAnswers(t *testing.T) {
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id(), "-t", "spot").want(t, 0, "stdout")
	got := s.run("workflow", "cancel", "-w", s.id(), "--wait")
	got.want(t, 0, "stdout", s.id()+" (completed)", "spot")
	s.run("workflow", "status", "-w", s.id()).want(t, 0, "stdout", s.id()+" (completed)", "completed")
	s.run("workflow", "cancel", "-w", s.id()).want(t, 3, "stderr", "nothing to cancel: workflow "+s.id()+" is completed")
}

func TestAnEndedWorkflowAnswersWithoutWorker(t *testing.T) {
	withWorker := newSite(t, true)
	withWorker.run("workflow", "run", "-w", withWorker.id(), "-t", "spot").want(t, 0, "stdout")
	eventually(t, "the intake has the request", func() bool {
		return strings.Contains(withWorker.run("workflow", "status", "-w", withWorker.id()).stdout, "spot")
	})
	withWorker.run("workflow", "cancel", "-w", withWorker.id(), "--wait").want(t, 0, "stdout", "completed")

	start := time.Now()
	nobody := *withWorker
	nobody.queue += "-nobody" // what status asks about; the query itself goes to where the workflow ran
	nobody.run("workflow", "status", "-w", withWorker.id()).want(t, 0, "stdout", "(completed)", "spot")
	if took := time.Since(start); took > promised {
		t.Errorf("it took %s", took)
	}
}

func TestStatusWithoutWorkerSaysSoWithinFiveSeconds(t *testing.T) {
	s := newSite(t, false)
	s.run("workflow", "run", "-w", s.id()).want(t, 1, "stderr", "stays queued")
	start := time.Now()
	s.run("workflow", "status", "-w", s.id()).want(t, 1, "stderr", "no worker polls task queue "+s.queue, "no worker can answer for "+s.id()+" (running)")
	if took := time.Since(start); took > promised {
		t.Errorf("it took %s", took)
	}
	s.run("workflow", "cancel", "-w", s.id()).want(t, 1, "stderr", "the cancellation stays queued")
}

func TestCancelSaysWhatHappens(t *testing.T) {
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id()).want(t, 0, "stdout")
	s.run("workflow", "cancel", "-w", s.id()).want(t, 0, "stdout", "targets that were not acted on yet are spared")

	other := s.id() + "-json"
	s.run("workflow", "run", "-w", other).want(t, 0, "stdout")
	line := decode[map[string]any](t, s.run("workflow", "cancel", "-w", other, "--json").stdout)
	if line["msg"] != "successfully cancelled workflow" || line["workflowID"] != other {
		t.Errorf("unexpected line %v", line)
	}
}

func TestOnlyPreemptionsAreCancelledAndShown(t *testing.T) {
	s := newSite(t, true)
	_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "ledger-" + s.queue, TaskQueue: s.queue}, "PreemptionLedger")
	if err != nil {
		t.Fatal(err)
	}
	s.run("workflow", "cancel", "-w", "ledger-"+s.queue).want(t, 4, "stderr", "is a PreemptionLedger")
	s.run("workflow", "status", "-w", "ledger-"+s.queue).want(t, 1, "stderr", "is a PreemptionLedger")
}

func TestListShowsPreemptionsNewestFirst(t *testing.T) {
	s := newSite(t, true)
	s.run("workflow", "run", "--wait", "-t", "fine", "-w", s.id()).want(t, 0, "stdout")
	s.run("workflow", "plan").want(t, 0, "stdout")
	type row struct{ WorkflowID, Type, Status, State, Alarm, Scope, Tag string }
	var rows []row
	listed := func(kind string, args ...string) bool {
		got := s.run(append([]string{"workflow", "list", "--limit", "1000", "-o", "json"}, args...)...)
		got.want(t, 0, "stdout")
		rows = decode[[]row](t, got.stdout)
		return slices.ContainsFunc(rows, func(r row) bool { return r.Type == kind && r.Status == "completed" }) &&
			slices.ContainsFunc(rows, func(r row) bool { return r.WorkflowID == s.id() })
	}
	eventually(t, "the round is listed", func() bool { return listed(preemptapi.RoundType) })
	intake := slices.IndexFunc(rows, func(r row) bool { return r.WorkflowID == s.id() })
	round := slices.IndexFunc(rows, func(r row) bool { return r.Type == preemptapi.RoundType })
	if round > intake {
		t.Errorf("the round is newer and stands behind: %+v", rows)
	}
	if r := rows[round]; r.Alarm != "cpu" || r.Scope != "ClusterComputeResource:domain-c7" || r.State == "" {
		t.Errorf("the memo is missing: %+v", r)
	}
	if slices.ContainsFunc(rows, func(r row) bool { return r.Type == preemptapi.PlanType }) {
		t.Error("a plan is listed without --all")
	}
	eventually(t, "the plan is listed with --all", func() bool { return listed(preemptapi.PlanType, "--all") })
	s.run("workflow", "list").want(t, 0, "stdout", "WORKFLOW", s.id())
	if rows := decode[[]row](t, s.run("workflow", "list", "--limit", "1", "-o", "json").stdout); len(rows) != 1 {
		t.Errorf("%d rows, want 1", len(rows))
	}
}

func TestAStaleWorkerDoesNotCount(t *testing.T) {
	s := newSite(t, true)
	d, err := s.client.DescribeTaskQueue(t.Context(), s.queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil || len(d.GetPollers()) == 0 {
		t.Fatal(d, err)
	}
	seen := d.GetPollers()[0].GetLastAccessTime().AsTime()
	for after, code := range map[time.Duration]int{time.Second: 0, 3 * time.Minute: 1, time.Hour: 0} {
		t.Run(after.String(), func(t *testing.T) {
			o := optionsAt(seen.Add(after))
			preemptctl(t, o, "workflow", "run", "-w", s.id(), "-s", s.address, "-q", s.queue).want(t, code, "stdout", s.id())
		})
	}
}
