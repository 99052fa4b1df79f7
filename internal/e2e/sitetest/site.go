// Package sitetest is what end-to-end tests share: a simulated vCenter with a task queue on a real Temporal server, workers
// in this process or in one of their own, receivers over real HTTP, and the questions that tests ask of them. The tests are
// in the packages around it, so that each stays well below the ten minutes that go test gives a package.
package sitetest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/vsphere-preemption/vsphere-preemption/internal/channel"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/takeover"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/otlp"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

var (
	// Shared is the Temporal server that the tests of a package share.
	Shared *TemporalServer
	// NextID counts what must have a name of its own.
	NextID atomic.Int64
)

// Main runs the tests of a package with a Temporal server that they share. It is also the entry of the worker and server
// processes that the tests start from their own binary.
func Main(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childMain())
	}
	ServeTemporal()
	WaitSideBySide(Sized(8, 4))
	var err error
	if Shared, err = StartServer(0); err != nil {
		fmt.Fprintln(os.Stderr, "start the embedded Temporal server:", err)
		os.Exit(1)
	}
	code := m.Run()
	Shared.Stop()
	stopRolling()
	os.Exit(code)
}

// WaitSideBySide lets so many tests run at once, unless -parallel says otherwise: for those that wait more than they compute.
func WaitSideBySide(n int) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", strconv.Itoa(n))
	}
}

// Site is one vCenter with its task queue, and workers as asked for.
type Site struct {
	T        testing.TB
	Server   *TemporalServer
	VC       *simulation.VCenter
	Temporal client.Client
	Queue    string
	Secret   string
	Settings preempt.Settings
	Remedy   remediate.Settings
	Log      *slog.Logger
	Workers  []*Running

	eventLag time.Duration // how long its workers wait for events that tell of a state

	Allow  []string              // reply addresses its workers may dial
	Config func(*vcenter.Config) // changes how its workers reach vCenter; nil: not at all
	Rules  []trigger.Rule
	Told   tell.Settings // where its workers tell people, by the variables of Env
	Env    map[string]string
	Engine func(*trigger.Engine) // changes how its workers' watch reaches Temporal; nil: not at all
	Traces *otlp.Traces          // of its receivers, and of its workers from then on; nil: nothing is traced
}

// Running is one worker under way.
type Running struct {
	worker  *worker.Worker
	gateway *vcenter.Gateway
	acts    *preempt.Env
	Keeper  *takeover.Keeper
	End     context.CancelFunc // of the keeper
}

// Option changes the simulated vCenter or the settings of the workers.
type Option func(*simulation.Options, *preempt.Settings)

// Preemption are the activities of intake, round and restore, for a worker of the test's own.
func (s *Site) Preemption(c client.Client, g *vcenter.Gateway) *worker.Rooms {
	return worker.NewRooms(&preempt.Env{
		Temporal: c, TaskQueue: s.Queue, Namespace: Shared.Namespace(), Settings: s.Settings, Log: s.Log,
	}, g, nil)
}

// quick shortens every wait, so that a life of minutes takes seconds. The code is not changed by it.
func quick(s *preempt.Settings) {
	s.Timing.Retry = 50 * time.Millisecond
	s.Timing.Heartbeat = 2 * time.Second
	s.Timing.CancelWait = 5 * time.Second
	s.Timing.IntakeIdle = 30 * time.Second
	s.Timing.Sweep = time.Second
	s.Timing.RepeatWait = 0
	s.Timing.Remeasure = 200 * time.Millisecond
	p := policy.Default()
	p.Cooldown = clock.Duration(4 * time.Second)
	p.RepeatWhileRed = false
	p.Criticality.Medium.GracePeriod = clock.Duration(2 * time.Second)
	p.Criticality.Low.GracePeriod = clock.Duration(2 * time.Second)
	p.WithdrawWait = clock.Duration(time.Second)
	p.LateWatch = clock.Duration(3 * time.Second)
	p.PowerOffTimeout = clock.Duration(30 * time.Second)
	s.Policies = map[string]policy.Policy{"default": p}
}

// WithPolicy changes the default policy.
func WithPolicy(f func(*policy.Policy)) Option {
	return func(_ *simulation.Options, s *preempt.Settings) {
		p := s.Policies["default"]
		f(&p)
		s.Policies["default"] = p
	}
}

// WithInventory changes what the simulated vCenter holds.
func WithInventory(f func(*simulation.Options)) Option {
	return func(o *simulation.Options, _ *preempt.Settings) { f(o) }
}

// WithSettings changes the settings of the workers.
func WithSettings(f func(*preempt.Settings)) Option {
	return func(_ *simulation.Options, s *preempt.Settings) { f(s) }
}

// Sized is how much a test does of what takes long, and how much of it under the race detector, which makes the
// simulator some ten times slower.
func Sized(usual, underRace int) int {
	if RaceDetector {
		return underRace
	}
	return usual
}

// New starts a simulated vCenter; no worker runs yet.
func New(t testing.TB, opts ...Option) *Site {
	t.Helper()
	return NewOn(t, Shared, opts...)
}

// NewOn is a site on another Temporal server than most use, such as Rolling.
func NewOn(t testing.TB, server *TemporalServer, opts ...Option) *Site {
	t.Helper()
	set := preempt.DefaultSettings()
	quick(&set)
	o := simulation.Options{}
	for _, opt := range opts {
		opt(&o, &set)
	}
	vc, err := simulation.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vc.Close)
	s := &Site{T: t, Server: server, VC: vc, Queue: fmt.Sprintf("q%d", NextID.Add(1)), Secret: t.TempDir(), Settings: set, Log: TestLog(t)}
	s.Allow, s.eventLag = []string{"127.0.0.1"}, 3*time.Second
	vc.LagEvents(usualLag)
	if err := vc.WriteSecret(s.Secret); err != nil {
		t.Fatal(err)
	}
	s.Temporal = s.Dial()
	s.Settings.EventSource = notify.Source(server.HostPort(), server.Namespace())
	s.Remedy = remediate.DefaultSettings()
	s.Remedy.EventSource = s.Settings.EventSource
	s.Remedy.Timing.Retry, s.Remedy.Timing.Heartbeat, s.Remedy.Timing.Wait = set.Timing.Retry, set.Timing.Heartbeat, 100*time.Millisecond
	return s
}

// TestLog is the log of a test: discarded unless E2E_LOG is set.
func TestLog(t testing.TB) *slog.Logger {
	if os.Getenv("E2E_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// Dial connects to Temporal, until the test ends.
func (s *Site) Dial() client.Client {
	s.T.Helper()
	c, err := client.Dial(client.Options{
		HostPort: s.Server.HostPort(), Namespace: s.Server.Namespace(), Logger: sdklog.NewStructuredLogger(s.Log),
		Interceptors: s.Traces.Interceptors(worker.Traced()),
	})
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(c.Close)
	return c
}

// Gateway is a connection to the site's vCenter.
func (s *Site) Gateway() *vcenter.Gateway {
	s.T.Helper()
	cfg := vcenter.Config{URL: s.VC.URL(), Insecure: true, SecretPath: s.Secret, Logger: s.Log, EventLag: s.eventLag}
	if s.Config != nil {
		s.Config(&cfg)
	}
	g, err := vcenter.New(cfg)
	if err != nil {
		s.T.Fatal(err)
	}
	return g
}

// Worker starts a worker of the site.
func (s *Site) Worker() *Running {
	s.T.Helper()
	sender, err := notify.New(s.Allow, time.Second)
	if err != nil {
		s.T.Fatal(err)
	}
	channels, err := channel.New(s.Told, func(name string) string { return s.Env[name] }, sender)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Settings.Timing.Tell = len(s.Told.Channels) > 0
	s.Remedy.Timing.Tell = s.Settings.Timing.Tell
	ctx, end := context.WithCancel(s.T.Context())
	g := s.Gateway()
	w := worker.New(ctx, worker.Config{
		Temporal: s.Dial(), Namespace: s.Server.Namespace(), TaskQueue: s.Queue, VCenter: g, VCenterHost: vcenterHost(s.VC.URL()),
		Notify: sender, Channels: channels, Preempt: s.Settings, Remediate: s.Remedy, Rules: s.Rules, Identity: "test", Version: "test", Log: s.Log,
		TakeoverEvery: time.Second, StopTimeout: 3 * time.Second, Engine: s.Engine, Tracer: s.Traces.Tracer(),
	})
	if err := w.Preempt.CheckAttributes(s.T.Context(), s.Server.Namespace()); err != nil {
		s.T.Fatal(err)
	}
	if err := w.Start(); err != nil {
		s.T.Fatal(err)
	}
	r := &Running{worker: w, gateway: g, acts: w.Preempt.Env, Keeper: w.Takeovers, End: end}
	s.Workers = append(s.Workers, r)
	s.T.Cleanup(r.Stop)
	return r
}

// Stop stops the worker, as SIGTERM does.
func (r *Running) Stop() {
	if r.worker == nil {
		return
	}
	r.End()
	r.worker.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.gateway.Close(ctx)
	r.worker = nil
}

// Cluster returns the MoRef of a cluster as policy nouns.
func (s *Site) Cluster(name string) vsphere.Ref {
	return Ref(s.VC.Cluster(name).Ref)
}

// Ref is govmomi's reference as ours.
func Ref(r types.ManagedObjectReference) vsphere.Ref {
	return vsphere.Ref{Type: r.Type, Value: r.Value}
}
