package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/channel"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/console"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/otlp"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// stopTime limits each step of stopping except the worker's own, which has 20 seconds. Together they must take less
// than the 30 seconds that Kubernetes grants.
const stopTime = 4 * time.Second

// gcPercent trades a little processor time, of which a worker uses next to none, for a smaller heap.
const gcPercent = 40

const usage = `worker runs the preemption workflows: it polls a Temporal task queue and connects to vCenter.

Usage: worker [--config FILE]

  -f, --config FILE   the YAML file with limits, policies and rules (default $PREEMPTION_CONFIG; without a file, the defaults apply)
      --version       print the version and exit
  -h, --help          print this and exit

Environment (* required):
  TEMPORAL_URL*         host:port of Temporal's frontend; or set TEMPORAL_ADDRESS
  TEMPORAL_NAMESPACE*   namespace
  TEMPORAL_TASKQUEUE*   task queue
  TEMPORAL_TLS_*, TEMPORAL_API_KEY, TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE   as for Temporal's own tools
  VCENTER_URL*          https://<host>/sdk
  VCENTER_SECRET_PATH   folder with the files username and password (default /var/bindings/vsphere)
  VCENTER_CA_FILE, VCENTER_THUMBPRINT, VCENTER_INSECURE=true   how to trust vCenter's certificate: at most one of these
  VSPHERE_ALARM_NAME, VSPHERE_PREEMPTION_TAG, K_SINK   one rule in addition to the file's; with rules, the worker watches vCenter's alarms
  HTTP_ADDR             address of /healthz, /readyz and /metrics (default :8080)
  UI_ADDR               address of the console, such as 127.0.0.1:8090 (default: none is served)
  UI_TOKEN_FILE, UI_TRUSTED_HEADER   who may read it: file with a token, or header of a reverse proxy; one is needed unless UI_ADDR is loopback
  OTEL_EXPORTER_OTLP_ENDPOINT   collector of OpenTelemetry to which traces are sent (default: none is sent), with the other standard variables
  LOG_FORMAT            json or text (default json)
  DEBUG                 true logs more

Exit codes: 0 stopped by a signal; 1 failed; 2 wrong usage or configuration.
`

// invocation is one run of the worker with all its inputs and outputs.
type invocation struct {
	args           []string
	env            config.Env
	stdout, stderr io.Writer
	build          telemetry.Build
}

// run returns the exit code.
func (p invocation) run(ctx context.Context) int {
	line := program.Server{Name: "worker", Usage: usage, Args: p.args, Stdout: p.stdout, Stderr: p.stderr, Build: p.build}
	path, code, done := line.Flags()
	if done {
		return code
	}
	cfg, err := config.LoadWorker(p.env, path)
	tracing, tracingErr := otlp.Read(p.env.Get)
	if err := errors.Join(err, tracingErr); err != nil {
		return line.Refuse(err)
	}
	debug.SetGCPercent(gcPercent)
	log := telemetry.New(p.stderr, cfg.Log.Format, cfg.Log.Debug)
	traces, err := otlp.New(tracing, "preemption-worker", p.build.Version, log)
	if err != nil {
		return line.Refuse(err)
	}
	defer traces.Stop()
	s, err := assemble(cfg, p.env, p.build, traces, log)
	if err != nil {
		return line.Refuse(err)
	}
	if err := s.serve(ctx); err != nil {
		log.Error("the worker cannot run", "reason", err)
		return program.Failed
	}
	return program.Done
}

// service is the assembled worker.
type service struct {
	cfg      config.Worker
	build    telemetry.Build
	log      *slog.Logger
	metrics  *telemetry.Metrics
	traces   *otlp.Traces // nil: nothing is traced
	gateway  *vcenter.Gateway
	sender   *notify.Sender
	channels *channel.Book
	preempt  preempt.Settings
	session  session
	monitor  *health.Monitor
	console  *console.Console // nil: none is served
}

// assemble builds the parts; it opens no connection. Its errors are errors in the configuration.
func assemble(cfg config.Worker, env config.Env, build telemetry.Build, traces *otlp.Traces, log *slog.Logger) (*service, error) {
	metrics := telemetry.NewMetrics(build, telemetry.Worker)
	metrics.KnowPolicies(slices.Collect(maps.Keys(cfg.File.Policies))...)
	for _, warning := range cfg.File.Warnings {
		log.Warn("the configuration is valid, but probably not what you want", "warning", warning)
	}
	gateway, gatewayErr := worker.Gateway(cfg, metrics, log)
	sender, senderErr := notify.New(cfg.File.Limits.ReplyAllow, 0)
	if err := errors.Join(gatewayErr, senderErr); err != nil {
		return nil, err
	}
	channels, err := worker.Channels(cfg.File, env, sender)
	if err != nil {
		return nil, err
	}
	options := &cfg.Temporal.Options
	options.Logger, options.MetricsHandler = telemetry.ForTemporal(log), metrics.ForTemporal()
	options.Interceptors = traces.Interceptors(worker.Traced())
	traces.CountBy(metrics.Traced)
	if options.Identity == "" {
		options.Identity = program.Identity("worker")
	}
	worker.Prepare(build, sender)
	s := &service{cfg: cfg, build: build, log: log, metrics: metrics, traces: traces, gateway: gateway, sender: sender, channels: channels}
	s.session.queue = cfg.Temporal.TaskQueue
	s.preempt = worker.Preemption(cfg.File, options.HostPort, options.Namespace)
	s.monitor = &health.Monitor{
		Namespace: options.Namespace, TaskQueue: cfg.Temporal.TaskQueue, Watched: len(cfg.File.Rules) > 0, Metrics: options.MetricsHandler, Log: log,
	}
	if cfg.UI.Addr == "" {
		return s, nil
	}
	c, err := client.NewLazyClient(*options)
	if err != nil {
		return nil, fmt.Errorf("set up the console's connection to Temporal: %w", err)
	}
	s.console, err = worker.Console(cfg, c, build.Version, log)
	return s, err
}

// showConsole serves the console where that was asked for, until ctx ends.
func (s *service) showConsole(ctx context.Context) error {
	if s.console == nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.cfg.UI.Addr)
	if err != nil {
		return fmt.Errorf("serve the console on %s: %w; set UI_ADDR to a free address", s.cfg.UI.Addr, err)
	}
	s.log.Info("the console is served", "addr", listener.Addr().String())
	go func() {
		if err := s.console.Serve(ctx, listener); err != nil {
			s.log.Error("the console is no longer served", "reason", err)
		}
	}()
	return nil
}

// serve works until ctx ends, then stops in order. Health is served first, so that the process shows
// that it is alive while it connects to Temporal and vCenter in parallel.
func (s *service) serve(ctx context.Context) error {
	health, err := telemetry.Serve(s.log, s.cfg.HTTP.Addr, s.cfg.HTTP.Explicit, s.metrics,
		telemetry.Check{Name: "polling", Ready: s.session.ready},
		telemetry.Check{Name: "progress", Ready: s.monitor.Ready},
		telemetry.Check{Name: "vcenter", Ready: worker.VCenterReady(s.gateway)})
	if err != nil {
		return err
	}
	if err := s.showConsole(ctx); err != nil {
		return err
	}
	if s.cfg.VCenter.Insecure {
		worker.WarnInsecure(s.log)
	}
	settle := time.AfterFunc(2*time.Second, debug.FreeOSMemory) // memory that only the start needed
	defer settle.Stop()
	sought := make(chan struct{})
	go func() {
		defer close(sought)
		s.seekVCenter(ctx)
	}()
	s.work(ctx)
	<-sought
	stopping, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	s.gateway.Close(stopping)
	s.session.close()
	if err := health.Stop(stopping); err != nil {
		s.log.Warn("health did not stop in time", "reason", err)
	}
	s.log.Info("worker stopped")
	return nil
}
