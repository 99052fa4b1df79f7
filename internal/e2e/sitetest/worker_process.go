package sitetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// childEnv marks a process of this test binary that is a worker, and runs no test; it holds its orders.
const childEnv = "E2E_WORKER"

// orders tell a worker process whom to work for.
type orders struct {
	HostPort, Namespace, Queue string
	VCenter, Secret            string
	Settings                   preempt.Settings
	Remediate                  remediate.Settings
	Alarms                     []string // each a rule to preempt
}

// childMain is the worker process: it serves until SIGTERM, or until its parent is gone.
func childMain() int {
	var o orders
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &o); err != nil {
		fmt.Fprintln(os.Stderr, "worker process:", err)
		return 2
	}
	if err := serve(o); err != nil {
		fmt.Fprintln(os.Stderr, "worker process:", err)
		return 1
	}
	return 0
}

func serve(o orders) error {
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("E2E_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	c, err := client.Dial(client.Options{HostPort: o.HostPort, Namespace: o.Namespace, Logger: sdklog.NewStructuredLogger(log)})
	if err != nil {
		return err
	}
	defer c.Close()
	g, err := vcenter.New(vcenter.Config{URL: o.VCenter, Insecure: true, SecretPath: o.Secret, Logger: log})
	if err != nil {
		return err
	}
	sender, err := notify.New([]string{"127.0.0.1"}, time.Second)
	if err != nil {
		return err
	}
	sdkworker.SetStickyWorkflowCacheSize(0) // or the server waits a while for each workflow that it had in hand when killed
	w := worker.New(context.Background(), worker.Config{
		Temporal: c, Namespace: o.Namespace, TaskQueue: o.Queue, VCenter: g, VCenterHost: vcenterHost(o.VCenter), Notify: sender,
		Preempt: o.Settings, Remediate: o.Remediate, Rules: RulesOn(o.Alarms...), Identity: "child", Version: "test", Log: log,
		StopTimeout: 500 * time.Millisecond,
	})
	if err := w.Start(); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for parent := os.Getppid(); ; {
		select {
		case <-stop:
			w.Stop()
			return nil // as a pod that is gone after its grace period: what still runs dies here
		case <-time.After(time.Second):
			if os.Getppid() != parent {
				return nil
			}
		}
	}
}

// Process is a worker in a process of its own.
type Process struct {
	cmd  *exec.Cmd
	once sync.Once
	Gone chan struct{}
}

// Process starts a worker process of the site.
func (s *Site) Process() *Process {
	s.T.Helper()
	b, err := json.Marshal(orders{
		HostPort: s.Server.HostPort(), Namespace: s.Server.Namespace(), Queue: s.Queue,
		VCenter: s.VC.URL(), Secret: s.Secret, Settings: s.Settings, Remediate: s.Remedy, Alarms: alarmsOf(s.Rules),
	})
	if err != nil {
		s.T.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	p := &Process{cmd: cmd, Gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.Gone)
	}()
	s.T.Cleanup(p.Kill)
	return p
}

// Kill ends the process as kill -9 does, and waits until it is gone.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Terminate asks it to stop as SIGTERM does, and waits until it is gone.
func (p *Process) Terminate() { p.end(syscall.SIGTERM) }

func (p *Process) end(sig syscall.Signal) {
	p.once.Do(func() { _ = p.cmd.Process.Signal(sig) })
	<-p.Gone
}

// Program builds one of our programs as a release does, and returns its path and size in bytes.
func Program(t testing.TB, name string) (path string, size int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/vsphere-preemption/vsphere-preemption/cmd/"+name)
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

// WorkerProcess starts the worker as in production: by its documented environment alone.
func (s *Site) WorkerProcess(path string, extra ...string) *exec.Cmd {
	s.T.Helper()
	cmd := exec.Command(path)
	cmd.Env = append([]string{
		"TEMPORAL_URL=" + s.Server.HostPort(), "TEMPORAL_NAMESPACE=" + s.Server.Namespace(), "TEMPORAL_TASKQUEUE=" + s.Queue,
		"VCENTER_URL=" + s.VC.URL(), "VCENTER_INSECURE=true", "VCENTER_SECRET_PATH=" + s.Secret, "HTTP_ADDR=127.0.0.1:0",
		"HOME=" + os.Getenv("HOME"),
	}, extra...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.T.Failed() {
			s.T.Log(log.String())
		}
	})
	return cmd
}

// Polling waits until somebody polls the site's queue.
func (s *Site) Polling() {
	s.T.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		d, err := s.Temporal.DescribeTaskQueue(s.T.Context(), s.Queue, enums.TASK_QUEUE_TYPE_WORKFLOW)
		if err == nil && len(d.GetPollers()) > 0 {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	s.T.Fatal("nobody polls")
}

// Resident returns a process's resident memory in MiB.
func Resident(t testing.TB, pid int) float64 {
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
