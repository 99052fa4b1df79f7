package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/embedded"
	"github.com/vsphere-preemption/vsphere-preemption/internal/released"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

const (
	namespace = "bench"
	alarmName = "bench"
	perRound  = 1000 // maxVMs: the configuration takes no more
	patience  = 10 * time.Minute
)

// run is what all benchmarks of one invocation share.
type run struct {
	options
	began  time.Time
	stderr io.Writer
	done   func(*table)

	dir    string // of everything that is written
	server *embedded.Server
	client client.Client
	sites  int
}

// start builds the worker and starts Temporal.
func (r *run) start(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return fmt.Errorf("make a folder for what is written: %w", err)
	}
	r.say("building the worker as a release does")
	if err := released.Build(ctx, r.dir, "worker"); err != nil {
		return err
	}
	keywords := map[string]enums.IndexedValueType{}
	for _, name := range preemptapi.SearchAttributes() {
		keywords[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	r.say("starting Temporal")
	r.server, err = embedded.Start(ctx, embedded.Options{Dir: filepath.Join(r.dir, "temporal"), Namespace: namespace, SearchAttributes: keywords})
	if err != nil {
		return err
	}
	r.client, err = client.DialContext(ctx, client.Options{
		HostPort: r.server.HostPort(), Namespace: namespace, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return fmt.Errorf("connect to the embedded Temporal: %w", err)
	}
	return nil
}

// site is one simulated vCenter with its task queue and its workers.
type site struct {
	*run
	vc      *simulation.VCenter
	queue   string
	secret  string
	workers []*released.Process
	last    map[string]string // the last round of an intake
}

// newSite makes an inventory; no worker runs yet.
func (r *run) newSite(ctx context.Context, o simulation.Options) (*site, error) {
	began := time.Now()
	vc, err := simulation.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	if n := len(vc.VMs()); n > 1000 {
		r.say("made %d VMs in %s", n, rounded(time.Since(began)))
	}
	r.sites++
	s := &site{run: r, vc: vc, queue: fmt.Sprintf("bench-%d", r.sites), last: map[string]string{}}
	s.secret = filepath.Join(r.dir, s.queue)
	if err := vc.WriteSecret(s.secret); err != nil {
		vc.Close()
		return nil, err
	}
	return s, nil
}

// file is a worker's configuration. Rules make it watch vCenter's alarms.
func (s *site) file(maxVMs int, cooldown time.Duration, rules bool) (path string, err error) {
	text := fmt.Sprintf("limits: {vcenterCalls: %d}\npolicies: {default: {maxVMs: %d, cooldown: %s, repeatWhileRed: false}}\n", s.calls, maxVMs, cooldown)
	if rules {
		text += fmt.Sprintf("rules: [{alarm: %s, preempt: {tag: preemptible, criticality: {red: HIGH}}}]\n", alarmName)
	}
	path = filepath.Join(s.secret, fmt.Sprintf("preemption-%d-%s-%t.yaml", maxVMs, cooldown, rules))
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// start starts n workers and waits until they poll.
func (s *site) start(ctx context.Context, n int, file string) error {
	for range n {
		cmd := exec.Command(filepath.Join(s.dir, "worker"))
		cmd.Env = released.Worker{
			Temporal: s.server.HostPort(), Namespace: namespace, Queue: s.queue, VCenter: s.vc.URL(), Secret: s.secret, Config: file, Home: s.secret,
		}.Env()
		w, err := s.spawn(cmd)
		if err != nil {
			return err
		}
		s.workers = append(s.workers, w)
	}
	return s.until(ctx, "the workers poll", func() error {
		d, err := s.client.DescribeTaskQueue(ctx, s.queue, enums.TASK_QUEUE_TYPE_WORKFLOW)
		if err != nil {
			return err
		}
		for _, w := range s.workers {
			if !polls(d.GetPollers(), w) {
				return fmt.Errorf("worker %d does not", w.PID())
			}
		}
		return nil
	})
}

// spawn starts a program, with its log where it was asked for.
func (s *site) spawn(cmd *exec.Cmd) (*released.Process, error) {
	if s.logs == "" {
		return released.Start(cmd, nil)
	}
	name := filepath.Join(s.logs, s.queue+"-"+filepath.Base(cmd.Path)+".log")
	log, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return released.Start(cmd, log)
}

// polls reports whether a worker is among the pollers; those that have stopped stay in the list for a while.
func polls(pollers []*taskqueue.PollerInfo, w *released.Process) bool {
	return slices.ContainsFunc(pollers, func(p *taskqueue.PollerInfo) bool {
		return strings.HasPrefix(p.GetIdentity(), fmt.Sprintf("worker-%d@", w.PID()))
	})
}

// stop stops the workers.
func (s *site) stop() {
	for _, w := range s.workers {
		w.Stop()
	}
	s.workers = nil
}

// close stops the workers and vCenter.
func (s *site) close() {
	s.stop()
	s.vc.Close()
}

// until waits until f fails no more. It gives up when a worker has ended, or after a long while.
func (s *site) until(ctx context.Context, what string, f func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.alive(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it did not come about within %s that %s: %w", patience, what, err)
		}
	}
}

// alive is nil while all workers run.
func (s *site) alive() error {
	for _, w := range s.workers {
		select {
		case <-w.Gone():
			return fmt.Errorf("a worker has ended; its last words:\n%s", w.LastWords())
		default:
		}
	}
	return nil
}
