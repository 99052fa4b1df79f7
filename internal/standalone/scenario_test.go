package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

func TestTheScenarioIsShownAndChecked(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, "--simulate", "--once", "--in-memory", "--headless").run(program.Done).quiet()
	tr.says(
		line("start", "vsphere-preemption standalone v0.0.0-test"),
		line("temporal", `127\.0\.0\.1:\d+, namespace vsphere-preemption, task queue vsphere-preemption, data in memory`),
		line("vCenter", `https://127\.0\.0\.1:\d+/sdk, simulated`),
		line("worker", "polls"),
		line("watch", "vcenter-watch@vsphere-preemption follows vCenter's events, with 1 rules: cluster-cpu-above-80"),
		line("receiver", `takes CloudEvents on http://127\.0\.0\.1:\d+`),
		line("vCenter", "cluster-a: 4 hosts, 20 VMs of which 10 are tagged preemptible, 92 % CPU"),
		line("vCenter", "cluster-b: 4 hosts, 20 VMs of which 4 are tagged preemptible"),
		line("alarm", "cluster-cpu-above-80 on esx-a-1 of cluster-a: green to red"),
		line("request", `PreemptVMsWorkflow "cluster-cpu-above-80@domain-c\d+": HIGH, VMs tagged preemptible`),
		line("shortfall", `cluster-a is \d+\.\d GHz above its target`),
		line("found", "14 VMs tagged preemptible: 3 chosen, 11 left as they are"),
		line("chosen", "cluster-a-batch-08  1 of 3"),
		line("chosen", "cluster-a-batch-02  3 of 3"),
		line("left", `cluster-a-batch-01  .*not_needed`),
		line("left", `cluster-a-batch-03  .*not powered on`),
		line("left", `cluster-a-batch-05  .*operation is under way`),
		line("left", `cluster-a-batch-06  .*group_budget`),
		line("left", `cluster-a-batch-07  .*template`),
		line("left", `cluster-a-batch-09  .*infrastructure`),
		line("left", `cluster-a-batch-10  .*protected`),
		line("left", `cluster-b-batch-01  .*not in the contended cluster`),
		line("off", `cluster-a-batch-02  cluster-a is at 8\d % CPU`),
		line("annotated", "cluster-a-batch-02"),
		line("off", "cluster-a-batch-08  cluster-a is at 7[0-4] % CPU"),
		line("annotated", "cluster-a-batch-08"),
		line("done", "round completed in "),
		"^Result", `^VM +OUTCOME +FORCED +ANNOTATED +MHZ FREED`, `^cluster-a-batch-08 +powered_off +yes +yes +\d+$`, `^total +3 of 3 +\d+$`,
		"^Usage of cluster-a", `^CPU +92\.0 % +7[0-4]\.\d %`,
		"^Custom attribute com.vmware.workflows.vsphere.preemption of cluster-a-batch-08", "^{", "^}",
		line("checked", "vCenter agrees with the result about all 40 VMs: 3 are off and annotated, 37 are as before"),
		line("load", "cluster-a calms down"),
		line("alarm", "cluster-cpu-above-80 on esx-a-1 of cluster-a: red to green"),
		line("restored", "cluster-a-batch-02  restored"),
		line("restored", "cluster-a-batch-08  restored"),
		line("done", "restore completed"),
		line("event", `cluster-cpu-above-80 on esx-b-1 of cluster-b: green to yellow, as a CloudEvent to http://127\.0\.0\.1:\d+, which answers 202 Accepted`),
		line("request", `PreemptVMsWorkflow "cluster-cpu-above-80@domain-c\d+": MEDIUM`),
		line("found", "14 VMs tagged preemptible: 3 chosen, 11 left as they are"),
		line("annotated", "cluster-b-batch-02"),
		line("off", "cluster-b-batch-04"),
		`^cluster-b-batch-04 +forced +yes +yes +\d+$`, `^cluster-b-batch-02 +shut_down +no +yes +\d+$`,
		line("checked", "vCenter agrees with the result about all 40 VMs: 3 are off and annotated, 37 are as before"),
		line("event", "cluster-cpu-above-80 on esx-b-1 of cluster-b: yellow to green"),
		line("restored", "cluster-b-batch-04  restored"),
		line("refused", "cluster-a-app-03, which reserves 4 GB, is not powered on: each host of cluster-a has 3 GB left to reserve"),
		line("request", `MakeRoomWorkflow "make-room@.*": room for cluster-a-app-03`),
		line("off", "cluster-a-batch-"),
		line("gone", `cluster-a-batch-\d+ +rank 1: .*makes room for cluster-a-app-03 on esx-a-\d`),
		line("room", `cluster-a-app-03 runs on esx-a-\d`),
		line("done", "the hosts have room again, and who went is on: restore@domain-c"),
		`^verdict: PASS: 3 preemptions \(2 for an alarm, 1 for room\), 7 VMs preempted, 7 of them restored, every VM as reported\n\z`,
	)
	tr.saysNot("web UI", "What to try next", "mismatch", "\x1b")
	attribute(t, tr.out.String())
}

// attribute reads the JSON that the output shows.
func attribute(t *testing.T, text string) {
	t.Helper()
	from, to := strings.Index(text, "\n{\n"), strings.Index(text, "\n}\n")
	var a preempt.Attribute
	if err := json.Unmarshal([]byte(text[from:to+2]), &a); err != nil {
		t.Fatalf("the attribute shown is no JSON: %v", err)
	}
	if !a.Preempted || !a.ForcedShutdown || a.Tag != "preemptible" || !strings.HasPrefix(a.WorkflowID, alarmName+"@domain-c") || !strings.Contains(string(a.Event), "AlarmStatusChangedEvent") {
		t.Errorf("the attribute shown is %+v", a)
	}
}

func TestAVMThatIsNotAsReportedFailsTheRun(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, "--simulate", "--once", "--in-memory", "--headless")
	tr.program.beforeCheck = func(s *stack) {
		if err := s.vcenter.PowerOnAs(s.vcenter.VM("cluster-a-batch-04"), "somebody@else"); err != nil {
			t.Error(err)
		}
		if err := s.vcenter.PowerOffAs(s.vcenter.VM("cluster-b-app-01"), "somebody@else"); err != nil {
			t.Error(err)
		}
	}
	tr.run(program.Failed)
	tr.says(
		line("mismatch", "cluster-a-batch-04 is reported powered_off, and is poweredOn"),
		line("mismatch", "cluster-b-app-01 is poweredOff and was poweredOn, and nothing is reported of it"),
		`^verdict: FAIL: vCenter contradicts the reported result in 2 points, listed above; the lines marked mismatch say which VMs\n\z`,
	)
	tr.saysNot("checked")
	tr.complains("standalone: vCenter contradicts the reported result in 2 points")
}

func TestTakenPortsAreReplacedAndItServesUntilInterrupted(t *testing.T) {
	t.Parallel()
	taken := func() int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().(*net.TCPAddr).Port
	}
	tr := newTrial(t, "--simulate", "--in-memory")
	tr.program.Ports = Ports{Temporal: taken(), UI: taken(), Console: taken(), Control: taken()}
	var site *stack
	tr.program.beforeCheck = func(s *stack) { site = s }
	tr.start()
	port := tr.await(`What to try next[^\n]*\n\ngo run \./cmd/preemptctl -s 127\.0\.0\.1:(\d+) workflow status -w cluster-cpu-above-80@domain-c\d+`)[1]
	tr.await(`(?m)` + line("serving", "until Ctrl-C"))
	tr.says(
		line("temporal", "127.0.0.1:"+port), line("temporal", "port "+strconv.Itoa(tr.program.Ports.Temporal)+" is taken"),
		line("web UI", `http://127\.0\.0\.1:\d+$`), line("web UI", "port "+strconv.Itoa(tr.program.Ports.UI)+" is taken"),
	)
	get(t, tr.await(`web UI +(http://127\.0\.0\.1:\d+)`)[1])
	tr.says(line("console", "port "+strconv.Itoa(tr.program.Ports.Console)+" is taken"))
	address := tr.await(`\A[^\n]*start [^\n]*\n[^\n]*console +(http://127\.0\.0\.1:\d+) shows`)[1] // it is said first
	if page := get(t, address+"/policies"); !strings.Contains(page, "alarm cluster-cpu-above-80") {
		t.Errorf("the console does not show the rule of the demo:\n%s", page)
	}
	ready := tr.await(`health +(http://127\.0\.0\.1:\d+/readyz)`)[1]
	get(t, ready)
	figures := get(t, strings.Replace(ready, "/readyz", "/metrics", 1))
	for _, want := range []string{
		`preemption_rounds_total\{state="completed"\} [1-9]`, `preemption_receiver_in_flight 0`,
		`preemption_vcenter_calls_total\{code="OK",method="PowerOffVM_Task"\} [1-9]`, `temporal_num_pollers\{.*"workflow_task".*\} [1-9]`,
	} {
		if !regexp.MustCompile(want).MatchString(figures) {
			t.Errorf("/metrics lacks %s", want)
		}
	}

	tr.await(`(?m)` + line("knobs", `preemptctl demo status --demo 127\.0\.0\.1:\d+ `))
	if err := site.vcenter.PowerOnAs(site.vcenter.VM("cluster-a-batch-03"), "owner@example.com"); err != nil {
		t.Fatal(err)
	}
	tr.await(`(?m)` + line("on", "cluster-a-batch-03"))
	tr.signals <- os.Interrupt
	tr.end(program.Done).quiet()
}

func get(t *testing.T, url string) (body string) {
	t.Helper()
	resp, err := asker.Get(url) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s answers %s: %s %v", url, resp.Status, text, err)
	}
	return string(text)
}

func TestASecondRunOnTheSameFolderWorks(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	once := []string{"--simulate", "--once", "--headless", "--data", data}
	first := newTrial(t, once...)
	first.start()
	first.await(`(?m)` + line("off", ""))
	first.signals <- syscall.SIGTERM
	first.end(program.Interrupted).quiet()
	first.saysNot("earlier simulation")
	first.says(`^verdict: FAIL: it was interrupted before the scenario had ended; run it again\n\z`)

	second := newTrial(t, once...).run(program.Done).quiet()
	second.says(line("temporal", `.*data in `+regexp.QuoteMeta(data)), line("temporal", `\d+ open workflows of an earlier simulation were ended`),
		line("found", "14 VMs"), line("checked", ""))
}

func TestTheFirstSignalEndsTheWorkAndTheSecondTheProcess(t *testing.T) {
	tr := newTrial(t)
	codes := make(chan int, 1)
	tr.program.Exit = func(code int) { codes <- code }
	ctx, cancel := context.WithCancelCause(t.Context())
	go tr.program.heed(cancel, nil)
	tr.signals <- os.Interrupt
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, errInterrupted) {
		t.Errorf("ended by %v", cause)
	}
	if len(codes) > 0 {
		t.Error("the first signal ended the process")
	}
	tr.signals <- os.Interrupt
	if code := <-codes; code != program.Interrupted {
		t.Errorf("exit code %d, want %d", code, program.Interrupted)
	}
}
