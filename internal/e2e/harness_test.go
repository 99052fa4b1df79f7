package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
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
		_ = flag.Set("test.parallel", strconv.Itoa(sized(8, 4)))
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

// alarmEvent posts an alarm on a host of the cluster and returns it as the router's CloudEvent.
func (s *site) alarmEvent(cluster string, host int, from, to string) event.Event {
	s.t.Helper()
	cl := s.vc.Cluster(cluster)
	ev, err := s.vc.PostAlarm(s.t.Context(), simulation.AlarmChange{
		Name: "cluster-cpu-above-80", Entity: cl.Hosts[host].Ref, From: from, To: to, Cluster: cl.Ref,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	e := event.New()
	e.SetID(fmt.Sprintf("ev-%d-%d", nextID.Add(1), ev.Key))
	e.SetSource(s.vc.URL())
	e.SetType("com.vmware.event.router/event")
	e.SetSubject("AlarmStatusChangedEvent")
	e.SetTime(ev.CreatedTime)
	if err := e.SetData(event.ApplicationJSON, ev); err != nil {
		s.t.Fatal(err)
	}
	return e
}

// plainEvent is an event that is no alarm.
func plainEvent() event.Event {
	e := event.New()
	e.SetID(fmt.Sprintf("run-%d", nextID.Add(1)))
	e.SetSource("preempctl-run")
	e.SetType(preemption.RunEventType)
	e.SetTime(time.Now())
	return e
}

// alarmRequest is what the original function sends for an alarm on a host of the cluster.
func (s *site) alarmRequest(cluster string, c preemption.Criticality) preemption.WorkflowRequest {
	return preemption.WorkflowRequest{Tag: "preemptible", Criticality: c, Event: s.alarmEvent(cluster, 0, "green", "red")}
}

// signal sends a request as existing clients do.
func (s *site) signal(id string, req any) {
	s.t.Helper()
	_, err := s.c.SignalWithStartWorkflow(s.t.Context(), s.id(id), preemption.SignalChannel, req,
		client.StartWorkflowOptions{ID: s.id(id), TaskQueue: s.queue}, preemption.WorkflowName)
	if err != nil {
		s.t.Fatal(err)
	}
}

// id makes a workflow id this site's own, for all sites share one server.
func (s *site) id(id string) string { return s.queue + "." + id }

// state queries current_state.
func (s *site) state(id string) (r preemptapi.Response) {
	s.t.Helper()
	v, err := s.c.QueryWorkflow(s.t.Context(), s.id(id), "", preemption.WorkFlowQueryType)
	// A query waits for a worker that was killed a moment ago, or for a busy one, and gives up before a test should.
	for deadline := time.Now().Add(time.Minute); timedOut(err) && time.Now().Before(deadline); {
		v, err = s.c.QueryWorkflow(s.t.Context(), s.id(id), "", preemption.WorkFlowQueryType)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var text string
	if err := v.Get(&text); err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		s.t.Fatalf("current_state is no JSON: %v\n%s", err, text)
	}
	return r
}

func timedOut(err error) bool {
	var late *serviceerror.DeadlineExceeded
	var dropped *serviceerror.Canceled       // the worker that was given the query died with it
	var again *serviceerror.WorkflowNotReady // its task is tried again
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) || errors.As(err, &dropped) || errors.As(err, &again)
}

// until polls the intake until ok says so.
func (s *site) until(id, what string, ok func(preemptapi.Response) bool) preemptapi.Response {
	s.t.Helper()
	return s.untilWithin(30*time.Second, id, what, ok)
}

func (s *site) untilWithin(d time.Duration, id, what string, ok func(preemptapi.Response) bool) preemptapi.Response {
	s.t.Helper()
	var last preemptapi.Response
	deadline := time.Now().Add(d)
	for time.Now().Before(deadline) {
		if last = s.state(id); ok(last) {
			return last
		}
		time.Sleep(20 * time.Millisecond)
	}
	b, _ := json.MarshalIndent(last, "", " ")
	s.t.Fatalf("never: %s; last state:\n%s", what, b)
	return last
}

// done waits until the intake's last round has ended.
func (s *site) done(id string) preemptapi.RoundResult {
	s.t.Helper()
	return *s.until(id, "the round ended", func(r preemptapi.Response) bool {
		return r.Round != nil && r.State != "running"
	}).Round
}

// round waits for a round workflow to close, and returns its result even where it failed.
func (s *site) round(id string) preemptapi.RoundResult {
	s.t.Helper()
	var r preemptapi.RoundResult
	res, err := preemptapi.ResultOf(s.c.GetWorkflow(s.t.Context(), id, "").Get(s.t.Context(), &r), r)
	if err == nil {
		return res
	}
	return r
}

// attribute reads the custom attribute of a VM.
func (s *site) attribute(vm types.ManagedObjectReference) (a preempt.Attribute, ok bool) {
	s.t.Helper()
	text, ok := s.vc.Attribute(vm, preemption.AttributeKey)
	if !ok || text == "" {
		return a, false
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		s.t.Fatalf("the attribute of %s is no JSON: %v", vm, err)
	}
	return a, true
}

// agree checks that what vCenter says of every VM matches the reported result: off and annotated exactly
// where the round claims it, and nothing else touched.
func (s *site) agree(results ...preemptapi.RoundResult) {
	s.t.Helper()
	claimed := map[string]preemptapi.VMOutcome{}
	for _, r := range results {
		for _, t := range r.Targets {
			if !t.Outcome.Ours() {
				continue
			}
			if _, twice := claimed[t.Ref.Value]; twice {
				s.t.Errorf("%s is claimed twice", t.Name)
			}
			claimed[t.Ref.Value] = t
		}
	}
	for _, vm := range s.vc.VMs() {
		t, ours := claimed[vm.Ref.Value]
		_, annotated := s.attribute(vm.Ref)
		off := s.vc.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOff
		switch {
		case ours && !off:
			s.t.Errorf("%s is reported %s and is on", vm.Name, t.Outcome)
		case ours && annotated != t.Annotated:
			s.t.Errorf("%s: reported annotated=%v, is %v", vm.Name, t.Annotated, annotated)
		case !ours && annotated:
			s.t.Errorf("%s carries the attribute and is in no result", vm.Name)
		}
	}
}

// ledger reads the ledger's state.
func (s *site) ledger() (st ledger.State) {
	s.t.Helper()
	v, err := s.c.QueryWorkflow(s.t.Context(), ledger.WorkflowID(s.queue), "", ledger.QueryState)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := v.Get(&st); err != nil {
		s.t.Fatal(err)
	}
	return st
}
