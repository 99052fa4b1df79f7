package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// program builds one of our programs as a release does, and returns its path and size in bytes.
func program(t testing.TB, name string) (path string, size int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../../cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, info.Size()
}

// workerProcess starts the worker as in production: by its documented environment alone.
func (s *site) workerProcess(path string, extra ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(path)
	cmd.Env = append([]string{
		"TEMPORAL_URL=" + s.server.HostPort(), "TEMPORAL_NAMESPACE=" + s.server.Namespace(), "TEMPORAL_TASKQUEUE=" + s.queue,
		"VCENTER_URL=" + s.vc.URL(), "VCENTER_INSECURE=true", "VCENTER_SECRET_PATH=" + s.secret, "HTTP_ADDR=127.0.0.1:0",
		"HOME=" + os.Getenv("HOME"),
	}, extra...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Log(log.String())
		}
	})
	return cmd
}

// polling waits until somebody polls the site's queue.
func (s *site) polling() {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		d, err := s.c.DescribeTaskQueue(s.t.Context(), s.queue, enums.TASK_QUEUE_TYPE_WORKFLOW)
		if err == nil && len(d.GetPollers()) > 0 {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	s.t.Fatal("nobody polls")
}

func TestTheWorkerProgramWorksByItsDocumentedEnvironment(t *testing.T) {
	t.Parallel()
	worker, _ := program(t, "worker")
	ctl, _ := program(t, "preemptctl")
	s := newSite(t)
	p := s.workerProcess(worker)
	s.polling()
	run := func(args ...string) (string, int) {
		args = append([]string{"-s", s.server.HostPort(), "-q", s.queue}, args...)
		cmd := exec.CommandContext(t.Context(), ctl, args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("workflow", "run", "-w", s.id("cli"), "--criticality", "high", "--wait")
	if code != 0 || strings.Count(out, "powered off") < 10 {
		t.Fatalf("run --wait exits %d:\n%s", code, out)
	}
	if out, code = run("workflow", "status", "-w", s.id("cli")); code != 0 || !strings.Contains(out, "powered off") {
		t.Errorf("status exits %d:\n%s", code, out)
	}
	if out, code = run("workflow", "run", "-w", s.id("cli"), "--criticality", "high", "--wait"); code != 4 {
		t.Errorf("run in the cooldown exits %d, want 4:\n%s", code, out)
	}
	if out, code = run("workflow", "plan"); code != 0 || !strings.Contains(out, "not powered on") {
		t.Errorf("plan exits %d:\n%s", code, out)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// resident returns a process's resident memory in MiB.
func resident(t testing.TB, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

func BenchmarkWorkerProcess(b *testing.B) {
	path, size := program(b, "worker")
	var starts []time.Duration
	for b.Loop() {
		for range 11 {
			s := newSite(b)
			began := time.Now()
			cmd := s.workerProcess(path)
			s.polling()
			starts = append(starts, time.Since(began))
			_ = cmd.Process.Kill()
		}
	}
	figures(b, "worker: start to polling", starts)
	s := newSite(b, withPolicy(func(p *policy.Policy) { p.Cooldown = 0 }))
	file := filepath.Join(b.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("policies: {default: {cooldown: 0s, maxVMs: 10, repeatWhileRed: false}}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := s.workerProcess(path, "PREEMPTION_CONFIG="+file)
	s.polling()
	time.Sleep(3 * time.Second)
	idle := resident(b, cmd.Process.Pid)
	for i := range 100 {
		id := fmt.Sprintf("alarm-%d", i)
		s.signal(id, s.alarmRequest("cluster-a", preemption.CriticalityHigh))
		if r := s.done(id); len(r.Preempted()) != 6 {
			b.Fatalf("round %d: %+v", i, r)
		}
		for _, vm := range s.vc.TaggedVMs("cluster-a") {
			if err := s.vc.SetPowerState(vm.Ref, "poweredOn"); err != nil {
				b.Fatal(err)
			}
		}
	}
	fmt.Fprintf(b.Output(), "worker: resident %.1f MiB idle, %.1f MiB after 100 rounds; stripped binary %.2f MB\n",
		idle, resident(b, cmd.Process.Pid), float64(size)/1e6)
}

func BenchmarkPreemptctlRun(b *testing.B) {
	path, size := program(b, "preemptctl")
	s := newSite(b)
	s.worker()
	s.polling()
	var samples []time.Duration
	for b.Loop() {
		for range 21 {
			time.Sleep(500 * time.Millisecond) // the worker is done with the last request
			cmd := exec.CommandContext(context.Background(), path, "-s", s.server.HostPort(), "-q", s.queue,
				"workflow", "run", "-w", s.id("cli"), "--observe")
			began := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			samples = append(samples, time.Since(began))
		}
	}
	figures(b, "preemptctl workflow run: start to exit", samples)
	fmt.Fprintf(b.Output(), "preemptctl: stripped binary %.2f MB\n", float64(size)/1e6)
}

func TestTheWorkerProgramFollowsTheRulesOfItsFile(t *testing.T) {
	t.Parallel()
	path, _ := program(t, "worker")
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "preemption.yaml")
	rules := fmt.Sprintf("rules:\n  - alarm: %s\n    preempt: {tag: preemptible}\n  - resize: {resource: cpu, mode: hotAddOnly}\n  - reconfigure: {}\n", s.id("cpu"))
	s.must(os.WriteFile(file, []byte(rules), 0o600))
	vm := s.vc.TaggedVMs("cluster-b")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.workerProcess(path, "PREEMPTION_CONFIG="+file)
	s.polling()
	s.eventually("the watch is there", func() bool {
		_, err := s.c.DescribeWorkflowExecution(t.Context(), watchapi.WorkflowID(s.queue), "")
		return err == nil
	})
	s.follows()
	s.alarm("cluster-a", 0, "green", "red")
	s.turnsRed(remedy.AlarmCPU, vm)
	s.agree(s.done(s.exists(s.intake("cpu", "cluster-a"))))
	s.decided(remedy.KindResize, vm, remediateapi.Applied)
	s.wantHardware(vm, 3, 16<<10)
}
