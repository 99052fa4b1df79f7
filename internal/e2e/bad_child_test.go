package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

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
		Preempt: o.Settings, Remediate: o.Remediate, Rules: rulesOn(o.Alarms...), Identity: "child", Version: "test", Log: log,
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

// process is a worker in a process of its own.
type process struct {
	cmd  *exec.Cmd
	once sync.Once
	gone chan struct{}
}

// process starts a worker process of the site.
func (s *site) process() *process {
	s.t.Helper()
	b, err := json.Marshal(orders{
		HostPort: s.server.HostPort(), Namespace: s.server.Namespace(), Queue: s.queue,
		VCenter: s.vc.URL(), Secret: s.secret, Settings: s.set, Remediate: s.remedy, Alarms: alarmsOf(s.rules),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &process{cmd: cmd, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.gone)
	}()
	s.t.Cleanup(p.kill)
	return p
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() { p.end(syscall.SIGKILL) }

// terminate asks it to stop as SIGTERM does, and waits until it is gone.
func (p *process) terminate() { p.end(syscall.SIGTERM) }

func (p *process) end(sig syscall.Signal) {
	p.once.Do(func() { _ = p.cmd.Process.Signal(sig) })
	<-p.gone
}
