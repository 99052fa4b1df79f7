package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

type ran struct {
	WorkflowID    string                  `json:"workflowID"`
	RunID         string                  `json:"workflowRunID"`
	RequestID     string                  `json:"requestID"`
	WorkerPolling bool                    `json:"workerPolling"`
	Decision      *preemptapi.Decision    `json:"decision"`
	Round         *preemptapi.RoundResult `json:"round"`
}

func TestRunSendsTheRequestAndNamesTheNextStep(t *testing.T) {
	s := newSite(t, true)
	got := s.run("workflow", "run", "-w", s.id(), "-c", "high", "-t", "spot")
	got.want(t, 0, "stdout", s.id(), "preemptctl workflow status --workflow-id "+s.id()+" --server "+s.address)
	if got.stderr != "" {
		t.Errorf("it wrote to stderr:\n%s", got.stderr)
	}
	eventually(t, "the intake has the request", func() bool {
		st := s.run("workflow", "status", "-w", s.id(), "-o", "json")
		return strings.Contains(st.stdout, `"tag": "spot"`) && strings.Contains(st.stdout, `"criticality": "HIGH"`)
	})
	d, err := s.client.DescribeWorkflow(t.Context(), s.id(), "")
	if err != nil {
		t.Fatal(err)
	}
	full, err := s.client.DescribeWorkflowExecution(t.Context(), s.id(), "")
	if err != nil {
		t.Fatal(err)
	}
	if limit := full.GetExecutionConfig().GetWorkflowExecutionTimeout().AsDuration(); limit != 0 {
		t.Errorf("the intake was started with an execution timeout of %s", limit)
	}
	if text, err := d.GetStaticSummary(); err != nil || text != "HIGH preemption of VMs tagged spot" {
		t.Errorf("static summary %q, %v", text, err)
	}
}

func TestRunInJSONAndYAML(t *testing.T) {
	s := newSite(t, true)
	out := decode[ran](t, s.run("workflow", "run", "-w", s.id(), "-o", "json").stdout)
	if out.WorkflowID != s.id() || out.RunID == "" || out.RequestID == "" || !out.WorkerPolling {
		t.Errorf("unexpected result %+v", out)
	}
	s.run("workflow", "run", "-w", s.id(), "-o", "yaml").want(t, 0, "stdout", "workflowID: "+s.id())
}

func TestRunKeepsTheDocumentedJSONLine(t *testing.T) {
	s := newSite(t, true)
	got := s.run("workflow", "run", "-w", s.id(), "--json")
	got.want(t, 0, "stdout")
	line := decode[map[string]any](t, got.stdout)
	if line["msg"] != "successfully triggered workflow" || line["workflowID"] != s.id() || line["workflowRunID"] == "" || line["level"] != "info" {
		t.Errorf("unexpected line %v", line)
	}
	mixed := s.run("workflow", "run", "-w", s.id(), "--json", "--verbose", "-o", "json")
	mixed.want(t, 0, "stderr", `"level":"debug"`)
	decode[ran](t, mixed.stdout)
}

func TestRunTakesTheEventFromFlagFileAndInput(t *testing.T) {
	s := newSite(t, true)
	event := `{"specversion":"1.0","id":"e-1","source":"test","type":"ThresholdExceededEvent","data":{"current":87}}`
	in := cli.Options{Stdin: strings.NewReader(event)}
	got := preemptctl(t, in, "workflow", "run", "-w", s.id(), "-e", "-", "-s", s.address, "-q", s.queue, "-o", "json")
	if out := decode[ran](t, got.stdout); out.RequestID != "test|e-1" {
		t.Errorf("the request's id is %q, want the event's with its source", out.RequestID)
	}
	got = s.run("workflow", "run", "-w", s.id(), "-e", event, "-o", "json")
	if out := decode[ran](t, got.stdout); out.RequestID != "test|e-1" {
		t.Errorf("the request's id is %q, want the event's with its source", out.RequestID)
	}
}

func TestRunWithoutWorkerFailsAtOnceAndTheRequestStays(t *testing.T) {
	for name, extra := range map[string][]string{"plain": nil, "wait": {"--wait"}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, false)
			start := time.Now()
			got := s.run(append([]string{"workflow", "run", "-w", s.id()}, extra...)...)
			got.want(t, 1, "stderr", "no worker polls task queue "+s.queue+" in namespace "+preemption.DefaultNamespace+
				": the request stays queued and runs when one starts")
			got.want(t, 1, "stdout", s.id())
			if took := time.Since(start); took > promised {
				t.Errorf("it took %s", took)
			}
			if _, err := s.client.DescribeWorkflowExecution(t.Context(), s.id(), ""); err != nil {
				t.Errorf("the request is not queued: %v", err)
			}
		})
	}
}

func TestRunAndWait(t *testing.T) {
	s := newSite(t, true)
	cases := map[string]struct {
		tag    string
		args   []string
		code   int
		stdout []string
		stderr []string
	}{
		"a round that succeeds":        {"fine", nil, 0, []string{"completed", "web-2", "2 VMs, 1.5 GHz, 2.0 GiB"}, []string{"web-1 (vm-1): powered off", "web-2 (vm-2): powered off"}},
		"a VM that fails":              {"partial", nil, 1, []string{"partial", "the host is on fire"}, []string{"web-2 (vm-2): failed, the host is on fire", "1 of 2 VMs failed"}},
		"a round that fails":           {"failed", nil, 1, []string{"failed"}, []string{"nothing could be done"}},
		"a round that looks on":        {"watching", nil, 0, []string{"watching"}, []string{"web-1"}},
		"nothing eligible":             {"empty", nil, 0, []string{"empty", "no VM was eligible", "it is not powered on"}, nil},
		"nothing eligible, fail-empty": {"empty", []string{"--fail-empty"}, 4, []string{"empty"}, []string{"no VM tagged empty was eligible"}},
		"asked again at a new run":     {"again", nil, 0, []string{"completed"}, nil},
		"observed":                     {"fine", []string{"--observe"}, 0, []string{"observed: nothing was touched", "would power off"}, []string{"web-1 (vm-1): would power off"}},
		"refused":                      {"refused", nil, 4, nil, []string{"refused: the scope was preempted", "ask again after 2030-01-02 03:04:05Z"}},
		"rejected":                     {"rejected", nil, 1, nil, []string{"the worker rejected the request", "allowed tags"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := s.id() + "-" + c.tag + strings.Join(c.args, "")
			got := s.run(append([]string{"workflow", "run", "--wait", "-t", c.tag, "-w", id}, c.args...)...)
			got.want(t, c.code, "stdout", c.stdout...)
			got.want(t, c.code, "stderr", c.stderr...)
		})
	}
}

func TestRunAndWaitInJSON(t *testing.T) {
	s := newSite(t, true)
	got := s.run("workflow", "run", "--wait", "-t", "fine", "-w", s.id(), "-o", "json")
	got.want(t, 0, "stderr", "web-1 (vm-1)")
	if out := decode[ran](t, got.stdout); out.Decision.Verdict != "started" || len(out.Round.Targets) != 2 {
		t.Errorf("unexpected result %+v", out)
	}
	refused := s.run("workflow", "run", "--wait", "-t", "refused", "-w", s.id()+"2", "-o", "json")
	refused.want(t, 4, "stderr", "refused")
	if out := decode[ran](t, refused.stdout); out.Decision.Verdict != "refused" || out.Round != nil {
		t.Errorf("unexpected result %+v", out)
	}
	habit := s.run("workflow", "run", "--wait", "-t", "fine", "-w", s.id()+"3", "--json")
	habit.want(t, 0, "stdout", `"msg":"vm"`, `"msg":"preemption decided"`)
	for line := range strings.Lines(habit.stdout) {
		decode[map[string]any](t, line)
	}
}

func TestAnInterruptedWaitLeavesTheRoundAndSaysSo(t *testing.T) {
	s := newSite(t, true)
	ctx, interrupt := context.WithCancel(t.Context())
	time.AfterFunc(1500*time.Millisecond, interrupt)
	got := s.runCtx(ctx, "workflow", "run", "--wait", "-t", "slow", "-w", s.id())
	got.want(t, 130, "stderr", "interrupted: round round-", "continues; look: preemptctl workflow status", "cancel: preemptctl workflow cancel --workflow-id "+s.id())
}

func TestAWaitEndsWithItsTimeout(t *testing.T) {
	s := newSite(t, true)
	got := s.run("workflow", "run", "--wait", "--timeout", "1s", "-t", "slow", "-w", s.id())
	got.want(t, 1, "stderr", "not done within --timeout: round round-", "continues")
}

func TestPlanShowsWhoWouldGoAndWhyOthersStay(t *testing.T) {
	s := newSite(t, true)
	cases := map[string]struct {
		args   []string
		code   int
		stream string
		says   []string
	}{
		"a plan": {[]string{"plan"}, 0, "stdout", []string{
			"2 would be turned off, 1 would be left as they are", "1   web-2", "power off", "2   web-1", "shut down guest", "it is not in the contended cluster (it is in cluster-b)",
			"priority 10, frees 0.1 GHz", "to free       14.0 GHz, 0.0 GiB; only in part: the plan covers 13.0 GHz, 0.0 GiB",
			"cluster-a (ClusterComputeResource:domain-c7)   2 (1 entering maintenance)   CPU        100.0 GHz    90.0 GHz (90%)    1.0 GHz    76.0 GHz (76%)    75%      14.0 GHz",
		}},
		"a dry run of run":        {[]string{"run", "--dry-run"}, 0, "stdout", []string{"2 would be turned off"}},
		"as JSON":                 {[]string{"plan", "-o", "json"}, 0, "stdout", []string{`"state": "planned"`, `"reason": "out_of_scope"`, `"credited": 1000`, `"partial": true`}},
		"as YAML":                 {[]string{"plan", "-o", "yaml"}, 0, "stdout", []string{"state: planned"}},
		"as a log line":           {[]string{"plan", "--json"}, 0, "stdout", []string{`"msg":"planned"`, `"state":"planned"`}},
		"nobody":                  {[]string{"plan", "-t", "empty"}, 0, "stdout", []string{"0 would be turned off"}},
		"nobody, with fail-empty": {[]string{"plan", "-t", "empty", "--fail-empty"}, 4, "stderr", []string{"no VM tagged empty was eligible"}},
		"a plan that fails":       {[]string{"plan", "-t", "nosuch"}, 1, "stderr", []string{"Error: no plan: vCenter has no such tag\n"}},
		"an invalid request":      {[]string{"plan", "-t", "reject"}, 1, "stderr", []string{"no plan: tag is not among the allowed tags"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s.run(append([]string{"workflow"}, c.args...)...).want(t, c.code, c.stream, c.says...)
		})
	}
}

func TestPlanWithoutWorkerFailsAtOnce(t *testing.T) {
	s := newSite(t, false)
	s.run("workflow", "plan").want(t, 1, "stderr", "no worker polls task queue", "nothing can be planned")
}

func TestAUsageBelowTheTargetIsWhyNobodyGoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	const why = "CPU usage is 54 %, below the target of 80 %: nobody must go"
	s.run("workflow", "plan", "-t", "relaxed").want(t, 0, "stdout", "0 would be turned off", why)
	s.run("workflow", "plan", "-t", "relaxed", "--fail-empty").want(t, 4, "stderr", "Error: "+why)
	s.run("workflow", "run", "-w", s.id(), "-t", "relaxed", "--wait", "--fail-empty").want(t, 4, "stderr", "Error: "+why)
	s.run("workflow", "plan", "-t", "empty", "--fail-empty").want(t, 4, "stderr", "no VM tagged empty was eligible")
}
