package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// How often to try again, and to log, while Temporal cannot be used.
const (
	firstPause      = 100 * time.Millisecond
	longestPause    = 2 * time.Second
	callTimeout     = 5 * time.Second
	tellEvery       = 5 * time.Second // in the first minute,
	tellSeldom      = 30 * time.Second
	attributesEvery = 5 * time.Minute
	startWait       = 2 * time.Second // for a start that a signal overtook
)

// work polls for work until ctx ends. If Temporal refuses a worker, as when its namespace was deleted, a new one
// replaces it as soon as that is possible.
func (s *service) work(ctx context.Context) {
	for ctx.Err() == nil {
		c, ok := s.reach(ctx)
		if !ok {
			return
		}
		s.session.use(c)
		if err := s.poll(ctx, c); err != nil && ctx.Err() == nil {
			s.session.lost(err)
			s.log.Error("Temporal refuses the worker; the worker starts again", "namespace", s.namespace(), "queue", s.queue(), "reason", err)
			clock.Sleep(ctx, longestPause)
		}
	}
}

func (s *service) namespace() string { return s.cfg.Temporal.Options.Namespace }
func (s *service) queue() string     { return s.cfg.Temporal.TaskQueue }

// reach dials Temporal until it answers for our namespace; ok is false if ctx ended first.
func (s *service) reach(ctx context.Context) (c client.Client, ok bool) {
	n := nag{log: s.log.With("temporal", s.cfg.Temporal.Options.HostPort, "namespace", s.namespace())}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		c, err := s.dial(ctx)
		if err == nil {
			n.over()
			return c, true
		}
		if ctx.Err() != nil {
			return nil, false
		}
		s.session.lost(err)
		n.tell(err)
		if !clock.Sleep(ctx, pause) {
			return nil, false
		}
	}
}

// dial connects and checks whether the namespace exists: a worker in a missing one would poll nothing.
func (s *service) dial(ctx context.Context) (client.Client, error) {
	c, err := client.DialContext(ctx, s.cfg.Temporal.Options)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = c.WorkflowService().DescribeNamespace(limited, &workflowservice.DescribeNamespaceRequest{Namespace: s.namespace()})
	var unimplemented *serviceerror.Unimplemented
	if err != nil && !errors.As(err, &unimplemented) {
		c.Close()
		return nil, err
	}
	return c, nil
}

// poll runs one Temporal worker until ctx ends or Temporal refuses it, and stops it.
func (s *service) poll(ctx context.Context, c client.Client) error {
	running, end := context.WithCancel(ctx)
	defer end()
	refused := make(chan error, 1)
	w := worker.New(running, worker.Config{
		Temporal: c, Namespace: s.namespace(), TaskQueue: s.queue(), VCenter: s.gateway, VCenterHost: s.cfg.VCenter.Host(), Notify: s.sender,
		Preempt: s.preempt, Remediate: worker.Remediation(s.cfg.File, s.preempt), Rules: s.cfg.File.Rules, Channels: s.channels,
		Identity: s.cfg.Temporal.Options.Identity, Version: s.build.String(), Log: s.log, Tracer: s.traces.Tracer(),
		TookOver: s.metrics.TookOver, OnFatal: func(err error) { refused <- err },
	})
	known := s.checkAttributes(running, w.Preempt.Env, "")
	started := make(chan error, 1)
	go func() { started <- w.Start() }()
	if err, ok := startResult(ctx, started); err != nil || !ok {
		return err
	}
	s.session.started()
	s.log.Info("worker started", "namespace", s.namespace(), "queue", s.queue(), "temporal", s.cfg.Temporal.Options.HostPort,
		"vcenter", s.cfg.VCenter.Host(), "version", s.build.Version, "config", s.cfg.Path)
	go s.recheckAttributes(running, w.Preempt.Env, known)
	go w.Preempt.CountPreempted(running, s.gateway, s.metrics.Preempted)
	go s.ensureWatch(running, c)
	go s.monitor.Run(running, c)
	var err error
	select {
	case <-ctx.Done():
		s.log.Info("worker is stopping: running steps may finish", "queue", s.queue())
	case err = <-refused:
	}
	s.session.lost(errors.New("the worker is stopping"))
	w.Stop()
	return err
}

// ensureWatch starts the watch of vCenter's events if there are rules, and tries until it succeeds.
func (s *service) ensureWatch(ctx context.Context, c client.Client) {
	if len(s.cfg.File.Rules) == 0 {
		s.log.Info("no rules: vCenter's events are not watched", "config", s.cfg.Path)
		return
	}
	for {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		err := watch.Ensure(limited, c, s.queue(), watch.DefaultTiming())
		cancel()
		if err == nil {
			s.log.Info("vCenter's events are watched", "rules", len(s.cfg.File.Rules), "workflow_id", watch.WorkflowID(s.queue()))
			watch.Keep(ctx, c, s.queue(), watch.DefaultTiming(), watch.KeepEvery, s.log)
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("the watch of vCenter's events could not be started; trying again", "reason", err)
		if !clock.Sleep(ctx, longestPause) {
			return
		}
	}
}

// startResult waits for a start; ok is false if the start did not end in time after a signal.
func startResult(ctx context.Context, started <-chan error) (err error, ok bool) {
	select {
	case err := <-started:
		return err, true
	case <-ctx.Done():
	}
	select {
	case err := <-started:
		return err, true
	case <-time.After(startWait):
		return nil, false
	}
}

// recheckAttributes looks for the search attributes from time to time, as they may be registered later.
func (s *service) recheckAttributes(ctx context.Context, a *preempt.Env, known string) {
	for clock.Sleep(ctx, attributesEvery) {
		known = s.checkAttributes(ctx, a, known)
	}
}

// checkAttributes looks for the search attributes and tells, once, which are missing. It returns what it
// found, for the next look.
func (s *service) checkAttributes(ctx context.Context, a *preempt.Env, known string) string {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := a.CheckAttributes(limited, s.namespace())
	found := "registered"
	if err != nil {
		found = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	switch {
	case found == known, ctx.Err() != nil:
	case err != nil:
		s.log.Info("workflows run without search attributes, because not all exist; register them to search by alarm, scope and state",
			"namespace", s.namespace(), "reason", found)
	case known != "":
		s.log.Info("search attributes are registered now", "namespace", s.namespace())
	}
	return found
}

// session is the state of the connection to Temporal.
type session struct {
	queue string

	mu      sync.Mutex
	client  client.Client
	polling bool
	why     error // why not polling
}

func (s *session) use(c client.Client) {
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
}

func (s *session) started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polling, s.why = true, nil
}

func (s *session) lost(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polling, s.why = false, why
}

// close closes the client, if there is one.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.Close()
	}
	s.client = nil
}

func (s *session) state() (c client.Client, polling bool, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client, s.polling, s.why
}

// ready returns why no work is taken from the queue, nil if it is.
func (s *session) ready(ctx context.Context) error {
	c, polling, why := s.state()
	switch {
	case !polling && why != nil:
		return fmt.Errorf("not polling task queue %s: %w", s.queue, why)
	case !polling:
		return fmt.Errorf("not polling task queue %s yet", s.queue)
	}
	if _, err := c.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		return fmt.Errorf("reach Temporal: %w", err)
	}
	return worker.Polling(ctx, c, s.queue)
}

// nag logs a lasting problem, at once and then from time to time.
type nag struct {
	log         *slog.Logger
	kind        string
	since, last time.Time
}

func (n *nag) tell(err error) {
	level, kind, text, remedy := explain(err)
	now := time.Now()
	if n.since.IsZero() {
		n.since = now
	}
	every := tellEvery
	if now.Sub(n.since) > time.Minute {
		every = tellSeldom
	}
	if kind == n.kind && now.Sub(n.last) < every {
		return
	}
	n.kind, n.last = kind, now
	n.log.Log(context.Background(), level, text, "reason", err, "for", now.Sub(n.since).Round(time.Second).String(), "remedy", remedy)
}

func (n *nag) over() {
	if !n.since.IsZero() {
		n.log.Info("Temporal answers", "after", time.Since(n.since).Round(time.Millisecond).String())
	}
}

// explain returns what an operator can do about an error of Temporal.
func explain(err error) (level slog.Level, kind, text, remedy string) {
	var (
		missing *serviceerror.NamespaceNotFound
		absent  *serviceerror.NotFound
		denied  *serviceerror.PermissionDenied
	)
	switch {
	case errors.As(err, &missing), errors.As(err, &absent):
		return slog.LevelError, "namespace", "the Temporal namespace does not exist; the worker waits for it",
			"create it (temporal operator namespace create --namespace <name>) or correct TEMPORAL_NAMESPACE"
	case errors.As(err, &denied), status.Code(err) == codes.Unauthenticated:
		return slog.LevelError, "denied", "Temporal denies access; the worker tries again",
			"check TEMPORAL_API_KEY, TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_NAMESPACE"
	}
	return slog.LevelWarn, "away", "waiting for Temporal", "check that TEMPORAL_URL is right, that Temporal runs, and TEMPORAL_TLS_* if it wants TLS"
}
