package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/receiver"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/otlp"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/workflows"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// drainTime is how long requests in flight may take after a signal. All of stopping must take less than the 30 seconds
// that Kubernetes grants.
const drainTime = 20 * time.Second

// memoryLimit limits Go's own memory, without the program's code. GOMEMLIMIT overrides it.
const memoryLimit = 28 << 20

const name = "kn-go-preemption"

const usage = `kn-go-preemption receives vSphere alarm events as CloudEvents over HTTP, applies the rules, and starts or signals workflows in Temporal.

Usage: kn-go-preemption [--config FILE]

  -f, --config FILE   the YAML file with rules and policies (default $PREEMPTION_CONFIG; without a file, one rule from the environment)
      --version       print the version and exit
  -h, --help          print this and exit

Environment (* required; ** required unless the file has rules):
  TEMPORAL_URL*             host:port of Temporal's frontend; or set TEMPORAL_ADDRESS
  TEMPORAL_NAMESPACE*       namespace
  TEMPORAL_TASKQUEUE*       task queue
  TEMPORAL_TLS_*, TEMPORAL_API_KEY, TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE   as for Temporal's own tools
  VSPHERE_ALARM_NAME**      the alarm to act on
  VSPHERE_PREEMPTION_TAG**  the vSphere tag of the VMs that may be preempted
  K_SINK                    address of the reply about preempted VMs; a SinkBinding sets it
  PREEMPTION_CONFIG         the YAML file
  RECEIVER_TOKEN_FILE       file with the bearer token that senders must send (default: no token is required)
  PORT                      port of events, /healthz, /readyz and /metrics (default 8080); Knative sets it
  OTEL_EXPORTER_OTLP_ENDPOINT   collector of OpenTelemetry to which traces are sent (default: none is sent), with the other standard variables
  LOG_FORMAT                json or text (default json)
  DEBUG                     true logs more, such as each ignored event

Exit codes: 0 stopped by a signal; 1 failed; 2 wrong usage or configuration.
`

// invocation is one run of the receiver with all its inputs and outputs.
type invocation struct {
	args           []string
	env            config.Env
	stdout, stderr io.Writer
	build          telemetry.Build
}

// run returns the exit code.
func (p invocation) run(ctx context.Context) int {
	line := program.Server{Name: name, Usage: usage, Args: p.args, Stdout: p.stdout, Stderr: p.stderr, Build: p.build}
	path, code, done := line.Flags()
	if done {
		return code
	}
	cfg, err := config.LoadReceiver(p.env, path)
	log := telemetry.New(p.stderr, cfg.Log.Format, cfg.Log.Debug)
	var token *bearer.Token
	if cfg.TokenFile != "" {
		var tokenErr error
		if token, tokenErr = bearer.Read(cfg.TokenFile, log); tokenErr != nil {
			err = errors.Join(err, fmt.Errorf("RECEIVER_TOKEN_FILE: %w", tokenErr))
		}
	}
	tracing, tracingErr := otlp.Read(p.env.Get)
	if err := errors.Join(err, tracingErr); err != nil {
		return line.Refuse(err)
	}
	if p.env.Get("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if token == nil {
		log.Warn("no token is required: everybody who reaches this address can request preemptions; set RECEIVER_TOKEN_FILE, unless a broker sends the events", "addr", cfg.Addr)
	}
	traces, err := otlp.New(tracing, name, p.build.Version, log)
	if err != nil {
		return line.Refuse(err)
	}
	defer traces.Stop()
	s, err := assemble(cfg, token, p.build, traces, log)
	if err != nil {
		return line.Refuse(err)
	}
	if err := s.serve(ctx); err != nil {
		log.Error("the receiver cannot run", "reason", err)
		return program.Failed
	}
	return program.Done
}

// service is the assembled receiver.
type service struct {
	cfg      config.Receiver
	build    telemetry.Build
	log      *slog.Logger
	temporal *temporal
	stopping chan struct{}
	server   *http.Server
}

// assemble builds the parts; it opens no connection. Its errors are errors in the configuration.
func assemble(cfg config.Receiver, token *bearer.Token, build telemetry.Build, traces *otlp.Traces, log *slog.Logger) (*service, error) {
	options := cfg.Temporal.Options
	metrics := telemetry.NewMetrics(build, telemetry.Receiver)
	options.Logger, options.MetricsHandler = telemetry.ForTemporal(log), metrics.ForTemporal()
	options.Interceptors = traces.Interceptors(workflows.Types{})
	traces.CountBy(metrics.Traced)
	if options.Identity == "" {
		options.Identity = program.Identity(name)
	}
	c, err := client.NewLazyClient(options)
	if err != nil {
		return nil, fmt.Errorf("TEMPORAL_*: %w", err)
	}
	s := &service{
		cfg: cfg, build: build, log: log, stopping: make(chan struct{}),
		temporal: &temporal{client: c, log: log.With("temporal", options.HostPort, "namespace", options.Namespace)},
	}
	r, err := receiver.New(receiver.Config{
		Engine:  &trigger.Engine{Temporal: c, TaskQueue: cfg.Temporal.TaskQueue, Rules: cfg.Rules, Tracer: traces.Tracer()},
		Classes: trigger.Classes(cfg.Rules), Token: token, Log: log, Metrics: metrics, Tracer: traces.Tracer(),
		Pages: telemetry.Handler(metrics,
			telemetry.Check{Name: "receiver", Ready: s.ready},
			telemetry.Check{Name: "temporal", Ready: s.temporal.ready}),
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	s.server = receiver.Server(r, log)
	return s, nil
}

// ready tells why no event can be acted upon for reasons of our own.
func (s *service) ready(context.Context) error {
	select {
	case <-s.stopping:
		return errors.New("it is stopping")
	default:
	}
	if len(s.cfg.Rules) == 0 {
		return errors.New("it has no rules")
	}
	return nil
}

// serve answers until ctx ends, and lets requests in flight finish.
func (s *service) serve(ctx context.Context) error {
	defer s.temporal.client.Close()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; set PORT to a free port", s.cfg.Addr, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(listener) }()
	for _, warning := range s.cfg.Warnings {
		s.log.Warn("the configuration is valid, but probably not what you want", "warning", warning)
	}
	s.log.Info("receiver started", "addr", listener.Addr().String(), "temporal", s.cfg.Temporal.Options.HostPort,
		"namespace", s.cfg.Temporal.Options.Namespace, "queue", s.cfg.Temporal.TaskQueue, "rules", len(s.cfg.Rules),
		"token", s.cfg.TokenFile != "", "version", s.build.Version, "config", s.cfg.Path)
	settle := time.AfterFunc(2*time.Second, debug.FreeOSMemory) // memory that only the start needed
	defer settle.Stop()
	go s.temporal.seek(ctx)
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", s.cfg.Addr, err)
	case <-ctx.Done():
	}
	close(s.stopping)
	s.log.Info("receiver is stopping: requests in flight may finish")
	draining, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := s.server.Shutdown(draining); err != nil {
		s.log.Warn("requests in flight did not finish in time", "reason", errors.Join(err, s.server.Close()))
	}
	s.log.Info("receiver stopped")
	return nil
}
