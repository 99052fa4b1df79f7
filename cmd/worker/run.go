package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"time"

	sdkworker "go.temporal.io/sdk/worker"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// stopTime bounds each step of stopping but the worker's own, which has 20 seconds: together they stay
// under the 30 seconds that Kubernetes grants.
const stopTime = 4 * time.Second

// gcPercent trades a little processor time, of which a worker uses next to none, for a smaller heap.
const gcPercent = 40

const usage = `worker runs the preemption workflows: it polls a Temporal task queue and speaks to vCenter.

Usage: worker [--config FILE]

  -f, --config FILE   the YAML file with limits, policies and rules (default $PREEMPTION_CONFIG; none: defaults hold)
      --version       print the version and exit
  -h, --help          print this and exit

Environment (* required):
  TEMPORAL_URL*         host:port of Temporal's frontend; TEMPORAL_ADDRESS does too
  TEMPORAL_NAMESPACE*   namespace
  TEMPORAL_TASKQUEUE*   task queue
  TEMPORAL_TLS_*, TEMPORAL_API_KEY, TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE   as Temporal's own tools read them
  VCENTER_URL*          https://<host>/sdk
  VCENTER_SECRET_PATH   folder with the files username and password (default /var/bindings/vsphere)
  VCENTER_CA_FILE, VCENTER_THUMBPRINT, VCENTER_INSECURE=true   how vCenter's certificate is trusted: at most one
  VSPHERE_ALARM_NAME, VSPHERE_PREEMPTION_TAG, K_SINK   one rule besides those of the file; with rules vCenter's alarms are watched
  HTTP_ADDR             address of /healthz, /readyz and /metrics (default :8080)
  LOG_FORMAT            json or text (default json)
  DEBUG                 true logs more

Exit codes: 0 stopped by a signal; 1 failed; 2 wrong usage or configuration.
`

// program is one run of the worker with all it takes from outside.
type program struct {
	args           []string
	env            config.Env
	stdout, stderr io.Writer
	build          telemetry.Build
}

// run returns the exit code.
func (p program) run(ctx context.Context) int {
	path, code, done := p.flags()
	if done {
		return code
	}
	cfg, err := config.LoadWorker(p.env, path)
	if err != nil {
		return p.refuse(err)
	}
	debug.SetGCPercent(gcPercent)
	log := telemetry.New(p.stderr, cfg.Log.Format, cfg.Log.Debug)
	s, err := assemble(cfg, p.build, log)
	if err != nil {
		return p.refuse(err)
	}
	if err := s.serve(ctx); err != nil {
		log.Error("the worker cannot run", "reason", err)
		return exitFailed
	}
	return exitDone
}

// flags reads the command line; done tells that the answer has been given already.
func (p program) flags() (path string, code int, done bool) {
	set := flag.NewFlagSet("worker", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	var file string
	set.StringVar(&file, "config", "", "")
	set.StringVar(&file, "f", "", "")
	version := set.Bool("version", false, "")
	err := set.Parse(p.args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, usage)
		return "", exitDone, true
	case err == nil && set.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "worker: %v; see worker --help\n", err)
		return "", exitUsage, true
	}
	if *version {
		fmt.Fprintln(p.stdout, "worker", p.build)
		return "", exitDone, true
	}
	return file, exitDone, false
}

// refuse lists every problem of the configuration.
func (p program) refuse(err error) int {
	fmt.Fprintln(p.stderr, "worker: the configuration cannot be used:")
	for _, problem := range config.Problems(err) {
		fmt.Fprintf(p.stderr, "  - %v\n", problem)
	}
	return exitUsage
}

// service is the assembled worker.
type service struct {
	cfg      config.Worker
	build    telemetry.Build
	log      *slog.Logger
	metrics  *telemetry.Metrics
	gateway  *vcenter.Gateway
	sender   *notify.Sender
	settings preempt.Settings
	session  session
}

// assemble builds the parts; it opens no connection. Its errors are the operator's to correct.
func assemble(cfg config.Worker, build telemetry.Build, log *slog.Logger) (*service, error) {
	metrics := telemetry.NewMetrics(build, telemetry.Worker)
	metrics.KnowPolicies(slices.Collect(maps.Keys(cfg.File.Policies))...)
	gateway, gatewayErr := vcenter.New(vcenter.Config{
		URL: cfg.VCenter.URL, SecretPath: cfg.VCenter.SecretPath, Insecure: cfg.VCenter.Insecure,
		CAFile: cfg.VCenter.CAFile, Thumbprint: cfg.VCenter.Thumbprint,
		MaxConcurrentCalls: cfg.File.Limits.VCenterCalls, Logger: log,
		Observe: metrics.VCenterCalled, Renewed: metrics.VCenterRenewed,
	})
	sender, senderErr := notify.New(cfg.File.Limits.ReplyAllow, 0)
	if err := errors.Join(gatewayErr, senderErr); err != nil {
		return nil, err
	}
	options := &cfg.Temporal.Options
	options.Logger, options.MetricsHandler = telemetry.ForTemporal(log), metrics.ForTemporal()
	if options.Identity == "" {
		options.Identity = identity()
	}
	sdkworker.SetBinaryChecksum(build.ID()) // else the SDK reads and hashes the whole binary at the start
	s := &service{cfg: cfg, build: build, log: log, metrics: metrics, gateway: gateway, sender: sender, settings: settings(cfg)}
	s.session.queue = cfg.Temporal.TaskQueue
	return s, nil
}

// identity names this process in Temporal's history and list of pollers.
func identity() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("worker-%d@%s", os.Getpid(), host)
}

// settings lays the configuration over the defaults.
func settings(cfg config.Worker) preempt.Settings {
	s := preempt.DefaultSettings()
	s.Policies = cfg.File.Policies
	s.AllowedTags = cfg.File.Limits.AllowedTags
	s.MaxCriticality = cfg.File.Limits.MaxCriticality
	s.Observe = cfg.File.Mode == policy.ModeObserve
	s.Timing.Outage = cfg.File.Limits.Outage
	s.Self = config.SelfUUIDs(os.DirFS(config.DMI))
	s.EventSource = notify.Source(cfg.Temporal.Options.HostPort, cfg.Temporal.Options.Namespace)
	return s
}

// remediation are the activities of remediation, beside those of preemption.
func remediation(f config.File, a *preempt.Activities) *remediate.Activities {
	set, said := remediate.DefaultSettings(), f.Remediation()
	set.Observe, set.PerHour, set.Moves, set.NeverTouch = said.Observe, said.PerHour, remediate.Bounds(said.Moves), said.NeverTouch
	set.Self, set.EventSource, set.Timing.Outage = a.Settings.Self, a.Settings.EventSource, a.Settings.Timing.Outage
	return &remediate.Activities{VCenter: a.VCenter, Temporal: a.Temporal, TaskQueue: a.TaskQueue, Notify: a.Notify, Settings: set, Log: a.Log}
}

// serve works until ctx ends, then stops in order. Health is served first, so that the process shows
// that it lives while Temporal and vCenter are still sought, both at the same time.
func (s *service) serve(ctx context.Context) error {
	health, err := telemetry.Serve(s.log, s.cfg.HTTP.Addr, s.cfg.HTTP.Explicit, s.metrics,
		telemetry.Check{Name: "polling", Ready: s.session.ready},
		telemetry.Check{Name: "vcenter", Ready: s.vcenterReady})
	if err != nil {
		return err
	}
	if s.cfg.VCenter.Insecure {
		s.log.Warn("vCenter's certificate is not verified: whoever is in between can read the password; for a test only",
			"reason", "VCENTER_INSECURE=true", "remedy", "set VCENTER_CA_FILE or VCENTER_THUMBPRINT instead")
	}
	settle := time.AfterFunc(2*time.Second, debug.FreeOSMemory) // what only the start needed
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
