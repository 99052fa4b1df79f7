package e2e

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

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/takeover"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

var (
	server *temporalServer
	nextID atomic.Int64
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childMain())
	}
	if os.Getenv(serverEnv) != "" {
		os.Exit(serverMain())
	}
	flag.Parse()
	// The tests wait more than they compute.
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", strconv.Itoa(sized(10, 4)))
	}
	// go test ends a package a minute after its ten; on a machine that others hold, most of that minute is worth having.
	if flag.Lookup("test.timeout").Value.String() == "10m0s" {
		_ = flag.Set("test.timeout", "10m50s")
	}
	var err error
	if server, err = startServer(0); err != nil {
		fmt.Fprintln(os.Stderr, "start the embedded Temporal server:", err)
		os.Exit(1)
	}
	code := m.Run()
	server.stop()
	stopRolling()
	os.Exit(code)
}

// site is one vCenter with its task queue, and workers as asked for.
type site struct {
	t       testing.TB
	server  *temporalServer
	vc      *simulation.VCenter
	c       client.Client
	queue   string
	secret  string
	set     preempt.Settings
	remedy  remediate.Settings
	log     *slog.Logger
	workers []*running

	eventLag time.Duration // how long its workers wait for events that tell of a state

	allow  []string              // reply addresses its workers may dial
	config func(*vcenter.Config) // changes how its workers reach vCenter; nil: not at all
	rules  []trigger.Rule
	engine func(*trigger.Engine) // changes how its workers' watch reaches Temporal; nil: not at all
}

// running is one worker under way.
type running struct {
	worker  *worker.Worker
	gateway *vcenter.Gateway
	acts    *preempt.Env
	keeper  *takeover.Keeper
	end     context.CancelFunc // of the keeper
}

type siteOption func(*simulation.Options, *preempt.Settings)

// preemption are the activities of intake, round and restore, for a worker of the test's own.
func (s *site) preemption(c client.Client, g *vcenter.Gateway) *worker.Rooms {
	return worker.NewRooms(&preempt.Env{
		Temporal: c, TaskQueue: s.queue, Namespace: server.Namespace(), Settings: s.set, Log: s.log,
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

func withPolicy(f func(*policy.Policy)) siteOption {
	return func(_ *simulation.Options, s *preempt.Settings) {
		p := s.Policies["default"]
		f(&p)
		s.Policies["default"] = p
	}
}

func withInventory(f func(*simulation.Options)) siteOption {
	return func(o *simulation.Options, _ *preempt.Settings) { f(o) }
}

func withSettings(f func(*preempt.Settings)) siteOption {
	return func(_ *simulation.Options, s *preempt.Settings) { f(s) }
}

// sized is how much a test does of what takes long, and how much of it under the race detector, which makes the
// simulator some ten times slower.
func sized(usual, underRace int) int {
	if raceDetector {
		return underRace
	}
	return usual
}

// newSite starts a simulated vCenter; no worker runs yet.
func newSite(t testing.TB, opts ...siteOption) *site {
	t.Helper()
	return newSiteOn(t, server, opts...)
}

// newSiteOn is a site on another Temporal server than most use, such as rolling.
func newSiteOn(t testing.TB, server *temporalServer, opts ...siteOption) *site {
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
	s := &site{t: t, server: server, vc: vc, queue: fmt.Sprintf("q%d", nextID.Add(1)), secret: t.TempDir(), set: set, log: testLog(t)}
	s.allow, s.eventLag = []string{"127.0.0.1"}, 3*time.Second
	vc.LagEvents(usualLag)
	if err := vc.WriteSecret(s.secret); err != nil {
		t.Fatal(err)
	}
	s.c = s.dial()
	s.set.EventSource = notify.Source(server.HostPort(), server.Namespace())
	s.remedy = remediate.DefaultSettings()
	s.remedy.EventSource = s.set.EventSource
	s.remedy.Timing.Retry, s.remedy.Timing.Heartbeat, s.remedy.Timing.Wait = set.Timing.Retry, set.Timing.Heartbeat, 100*time.Millisecond
	return s
}

func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("E2E_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func (s *site) dial() client.Client {
	s.t.Helper()
	c, err := client.Dial(client.Options{
		HostPort: s.server.HostPort(), Namespace: s.server.Namespace(), Logger: sdklog.NewStructuredLogger(s.log),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *site) gateway() *vcenter.Gateway {
	s.t.Helper()
	cfg := vcenter.Config{URL: s.vc.URL(), Insecure: true, SecretPath: s.secret, Logger: s.log, EventLag: s.eventLag}
	if s.config != nil {
		s.config(&cfg)
	}
	g, err := vcenter.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// worker starts a worker of the site.
func (s *site) worker() *running {
	s.t.Helper()
	sender, err := notify.New(s.allow, time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, end := context.WithCancel(s.t.Context())
	g := s.gateway()
	w := worker.New(ctx, worker.Config{
		Temporal: s.dial(), Namespace: s.server.Namespace(), TaskQueue: s.queue, VCenter: g, VCenterHost: vcenterHost(s.vc.URL()),
		Notify: sender, Preempt: s.set, Remediate: s.remedy, Rules: s.rules, Identity: "test", Version: "test", Log: s.log,
		TakeoverEvery: time.Second, StopTimeout: 3 * time.Second, Engine: s.engine,
	})
	if err := w.Preempt.CheckAttributes(s.t.Context(), s.server.Namespace()); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		s.t.Fatal(err)
	}
	r := &running{worker: w, gateway: g, acts: w.Preempt.Env, keeper: w.Takeovers, end: end}
	s.workers = append(s.workers, r)
	s.t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	if r.worker == nil {
		return
	}
	r.end()
	r.worker.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.gateway.Close(ctx)
	r.worker = nil
}

// cluster returns the MoRef of a cluster as policy nouns.
func (s *site) cluster(name string) vsphere.Ref {
	return ref(s.vc.Cluster(name).Ref)
}

func ref(r types.ManagedObjectReference) vsphere.Ref {
	return vsphere.Ref{Type: r.Type, Value: r.Value}
}
