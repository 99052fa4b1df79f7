package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/embedded"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/otlp"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// stack is all that runs in this process.
type stack struct {
	options
	out     *screen
	log     *slog.Logger
	metrics *telemetry.Metrics
	traces  *otlp.Traces   // nil: nothing is traced
	server  *slog.Logger   // the embedded server's
	level   *slog.LevelVar // of a simulation's log: raised when it ends

	temporal *embedded.Server
	client   client.Client
	vcenter  *simulation.VCenter // nil: a real one
	events   string              // URL that takes CloudEvents; "" for none
	consoled string              // URL of the console; "" for none
	crew     *crew
	knobs    *control // nil: the demo does not go on after its scenario
	score    score

	mu   sync.Mutex
	undo []func()
}

// start brings everything up. When it fails, or ctx ends before it is through, it stops what it started. fatal ends the
// program when the worker cannot go on.
func start(ctx context.Context, fatal context.CancelCauseFunc, o options, out *screen, p Program) (_ *stack, err error) {
	s := &stack{
		options: o, out: out, level: &slog.LevelVar{}, server: p.logger(o, slog.LevelError),
		metrics: telemetry.NewMetrics(p.Build, telemetry.Worker, telemetry.Receiver),
	}
	s.level.Set(slog.LevelWarn)
	s.log = p.logger(o, s.level)
	// What is cut short by the end complains about it, which is no news.
	hushed := slog.LevelError
	if o.lives() {
		hushed = silence // it may be in the middle of a round
	}
	hush := context.AfterFunc(ctx, func() { s.level.Set(hushed) })
	s.onStop(func() { hush() })
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.traces, err = otlp.New(o.tracing, "preemption-standalone", p.Build.Version, s.log); err != nil {
		return nil, err
	}
	s.traces.CountBy(s.metrics.Traced)
	s.onStop(s.traces.Stop)
	if err := s.startServers(ctx, p.Ports); err != nil {
		return nil, err
	}
	if s.client, err = s.dial(fmt.Sprintf("standalone-%d", os.Getpid()), s.log); err != nil {
		return nil, err
	}
	s.onStop(s.client.Close)
	if err := errors.Join(s.startConsole(ctx, p), s.startControl(p.Ports)); err != nil {
		return nil, err
	}
	s.announce(p.Ports)
	if o.simulate {
		if err := s.clearEarlier(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.startWorker(ctx, fatal, p.Build); err != nil {
		return nil, err
	}
	return s, nil
}

// dial connects to the embedded Temporal.
func (s *stack) dial(identity string, log *slog.Logger) (client.Client, error) {
	c, err := client.Dial(client.Options{
		HostPort: s.temporal.HostPort(), Namespace: s.temporal.Namespace(), Logger: telemetry.ForTemporal(log),
		Identity: identity, MetricsHandler: s.metrics.ForTemporal(), Interceptors: s.traces.Interceptors(worker.Traced()),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded Temporal on %s: %w", s.temporal.HostPort(), err)
	}
	return c, nil
}

// startServers starts Temporal and, in a simulation, vCenter, side by side.
func (s *stack) startServers(ctx context.Context, ports Ports) error {
	if err := s.checkPorts(); err != nil {
		return err
	}
	o := s.temporalOptions(ports)
	var simulated error
	var wg sync.WaitGroup
	if s.simulate {
		wg.Go(func() { simulated = s.startVCenter(ctx) })
	}
	server, err := embedded.Start(ctx, o)
	if err == nil {
		s.temporal = server
		s.onStop(server.Stop)
		err = s.askedPorts(server.HostPort(), server.UIURL())
	}
	wg.Wait()
	return errors.Join(err, simulated)
}

func (s *stack) temporalOptions(ports Ports) embedded.Options {
	attrs := map[string]enums.IndexedValueType{}
	for _, name := range preempt.SearchAttributes() {
		attrs[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	return embedded.Options{
		Dir: s.data, InMemory: s.inMemory, Namespace: s.set.Temporal.Options.Namespace,
		Port: ports.Temporal, UI: !s.headless, UIPort: ports.UI,
		SearchAttributes: attrs, RelaxedSync: s.simulate, Logger: s.server,
	}
}

// announce says where everything is to be found.
func (s *stack) announce(ports Ports) {
	keeps := "in memory"
	if !s.inMemory {
		keeps = "in " + s.data
	}
	s.out.say("temporal", "%s, namespace %s, task queue %s, data %s", s.temporal.HostPort(), s.temporal.Namespace(), s.queue(), keeps)
	s.sayTaken("temporal", ports.Temporal, "127.0.0.1:", s.temporal.HostPort())
	if url := s.temporal.UIURL(); url != "" {
		s.out.say("web UI", "%s", url)
		s.sayTaken("web UI", ports.UI, "http://127.0.0.1:", url)
	}
	if s.vcenter != nil {
		s.out.say("vCenter", "%s, simulated (user %s, password %s)", s.vcenter.URL(), s.vcenter.Username(), s.vcenter.Password())
	}
}

func (s *stack) sayTaken(kind string, wanted int, prefix, got string) {
	if wanted != 0 && got != fmt.Sprintf("%s%d", prefix, wanted) {
		s.out.say(kind, "port %d is taken, so a free one was chosen", wanted)
	}
}

func (s *stack) queue() string { return s.set.Temporal.TaskQueue }

func (s *stack) onStop(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undo = append(s.undo, f)
}

// background runs f until stop at the latest, which waits for it.
func (s *stack) background(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	s.onStop(func() {
		cancel()
		<-done
	})
}

// stop ends everything in the opposite order of its start.
func (s *stack) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range slices.Backward(s.undo) {
		f()
	}
	s.undo = nil
}

// rest serves until ctx ends: the demo lives, and a twin's VMs are watched.
func (s *stack) rest(ctx context.Context) error {
	if s.lives() {
		l, err := newLiving(s)
		if err != nil {
			return err
		}
		s.knobs.takes(&knobs{living: l, ctx: ctx})
		s.serving()
		l.run(ctx)
		return nil
	}
	if s.vcenter != nil {
		defer newObserver(s.vcenter, s.out).watch(livingLooks)()
	}
	<-ctx.Done()
	return nil
}
