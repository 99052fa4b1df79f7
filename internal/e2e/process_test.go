package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestTheWorkerProgramWorksByItsDocumentedEnvironment(t *testing.T) {
	t.Parallel()
	worker, _ := sitetest.Program(t, "worker")
	ctl, _ := sitetest.Program(t, "preemptctl")
	s := sitetest.New(t)
	p := s.WorkerProcess(worker)
	s.Polling()
	run := func(args ...string) (string, int) {
		args = append([]string{"-s", s.Server.HostPort(), "-q", s.Queue}, args...)
		cmd := exec.CommandContext(t.Context(), ctl, args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("workflow", "run", "-w", s.ID("cli"), "--criticality", "high", "--wait")
	if code != 0 || strings.Count(out, "powered off") < 10 {
		t.Fatalf("run --wait exits %d:\n%s", code, out)
	}
	if out, code = run("workflow", "status", "-w", s.ID("cli")); code != 0 || !strings.Contains(out, "powered off") {
		t.Errorf("status exits %d:\n%s", code, out)
	}
	if out, code = run("workflow", "run", "-w", s.ID("cli"), "--criticality", "high", "--wait"); code != 4 {
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

func BenchmarkWorkerProcess(b *testing.B) {
	path, size := sitetest.Program(b, "worker")
	var starts []time.Duration
	for b.Loop() {
		for range 11 {
			s := sitetest.New(b)
			began := time.Now()
			cmd := s.WorkerProcess(path)
			s.Polling()
			starts = append(starts, time.Since(began))
			_ = cmd.Process.Kill()
		}
	}
	sitetest.Figures(b, "worker: start to polling", starts)
	s := sitetest.New(b, sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = 0 }))
	file := filepath.Join(b.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("policies: {default: {cooldown: 0s, maxVMs: 10, repeatWhileRed: false}}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := s.WorkerProcess(path, "PREEMPTION_CONFIG="+file)
	s.Polling()
	time.Sleep(3 * time.Second)
	idle := sitetest.Resident(b, cmd.Process.Pid)
	for i := range 100 {
		id := fmt.Sprintf("alarm-%d", i)
		s.Signal(id, s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
		if r := s.Done(id); len(r.Preempted()) != 6 {
			b.Fatalf("round %d: %+v", i, r)
		}
		for _, vm := range s.VC.TaggedVMs("cluster-a") {
			if err := s.VC.SetPowerState(vm.Ref, "poweredOn"); err != nil {
				b.Fatal(err)
			}
		}
	}
	fmt.Fprintf(b.Output(), "worker: resident %.1f MiB idle, %.1f MiB after 100 rounds; stripped binary %.2f MB\n",
		idle, sitetest.Resident(b, cmd.Process.Pid), float64(size)/1e6)
}

func BenchmarkPreemptctlRun(b *testing.B) {
	path, size := sitetest.Program(b, "preemptctl")
	s := sitetest.New(b)
	s.Worker()
	s.Polling()
	var samples []time.Duration
	for b.Loop() {
		for range 21 {
			time.Sleep(500 * time.Millisecond) // the worker is done with the last request
			cmd := exec.CommandContext(context.Background(), path, "-s", s.Server.HostPort(), "-q", s.Queue,
				"workflow", "run", "-w", s.ID("cli"), "--observe")
			began := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			samples = append(samples, time.Since(began))
		}
	}
	sitetest.Figures(b, "preemptctl workflow run: start to exit", samples)
	fmt.Fprintf(b.Output(), "preemptctl: stripped binary %.2f MB\n", float64(size)/1e6)
}

func TestTheWorkerProgramFollowsTheRulesOfItsFile(t *testing.T) {
	t.Parallel()
	path, _ := sitetest.Program(t, "worker")
	s := sitetest.New(t)
	file := filepath.Join(t.TempDir(), "preemption.yaml")
	rules := fmt.Sprintf("rules:\n  - alarm: %s\n    preempt: {tag: preemptible}\n  - resize: {resource: cpu, mode: hotAddOnly}\n  - reconfigure: {}\n", s.ID("cpu"))
	s.Must(os.WriteFile(file, []byte(rules), 0o600))
	vm := s.VC.TaggedVMs("cluster-b")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.WorkerProcess(path, "PREEMPTION_CONFIG="+file)
	s.Polling()
	s.Eventually("the watch is there", func() bool {
		_, err := s.Temporal.DescribeWorkflowExecution(t.Context(), watchapi.WorkflowID(s.Queue), "")
		return err == nil
	})
	s.Follows()
	s.Alarm("cluster-a", 0, "green", "red")
	s.TurnsRed(placement.AlarmCPU, vm)
	s.Agree(s.Done(s.Exists(s.Intake("cpu", "cluster-a"))))
	s.Decided(placement.KindResize, vm, remediateapi.Applied)
	s.WantHardware(vm, 3, 16<<10)
}
