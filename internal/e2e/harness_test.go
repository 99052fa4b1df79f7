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
	"go.temporal.io/sdk/worker"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
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
		_ = flag.Set("test.parallel", "4")
	}
	var err error
	if server, err = startServer(); err != nil {
		fmt.Fprintln(os.Stderr, "start the embedded Temporal server:", err)
		os.Exit(1)
	}
	code := m.Run()
	server.stop()
	os.Exit(code)
}

// site is one vCenter with its task queue, and workers as asked for.
type site struct {
	t       testing.TB
	vc      *simulation.VCenter
	c       client.Client
	queue   string
	secret  string
	set     preempt.Settings
	remedy  remediate.Settings
	log     *slog.Logger
	workers []*running

	allow  []string              // reply addresses its workers may dial
	config func(*vcenter.Config) // changes how its workers reach vCenter; nil: not at all
	rules  []trigger.Rule
	engine func(*trigger.Engine) // changes how its workers' watch reaches Temporal; nil: not at all
}

// running is one worker under way.
type running struct {
	worker  worker.Worker
	gateway *vcenter.Gateway
	acts    *preempt.Activities
}

type siteOption func(*simulation.Options, *preempt.Settings)

// quick shortens every wait, so that a life of minutes takes seconds. The code is not changed by it.
func quick(s *preempt.Settings) {
	s.Timing.Retry = 50 * time.Millisecond
	s.Timing.Heartbeat = 2 * time.Second
	s.Timing.CancelWait = 5 * time.Second
	s.Timing.IntakeIdle = 30 * time.Second
	s.Timing.Sweep = time.Second
	s.Timing.Remeasure = 200 * time.Millisecond
	p := policy.Default()
	p.Cooldown = policy.Duration(4 * time.Second)
	p.RepeatWhileRed = false
	p.Criticality.Medium.GracePeriod = policy.Duration(2 * time.Second)
	p.Criticality.Low.GracePeriod = policy.Duration(2 * time.Second)
	p.WithdrawWait = policy.Duration(time.Second)
	p.LateWatch = policy.Duration(3 * time.Second)
	p.PowerOffTimeout = policy.Duration(30 * time.Second)
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
	s := &site{t: t, vc: vc, queue: fmt.Sprintf("q%d", nextID.Add(1)), secret: t.TempDir(), set: set, log: testLog(t)}
	s.allow = []string{"127.0.0.1"}
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
		HostPort: server.HostPort(), Namespace: server.Namespace(), Logger: sdklog.NewStructuredLogger(s.log),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *site) gateway() *vcenter.Gateway {
	s.t.Helper()
	cfg := vcenter.Config{URL: s.vc.URL(), Insecure: true, SecretPath: s.secret, Logger: s.log}
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
	g := s.gateway()
	a := &preempt.Activities{
		VCenter: g, Temporal: s.dial(), TaskQueue: s.queue, Namespace: server.Namespace(), Notify: sender, Settings: s.set, Log: s.log,
	}
	if err := a.CheckAttributes(s.t.Context(), server.Namespace()); err != nil {
		s.t.Fatal(err)
	}
	w := preempt.NewWorker(a.Temporal, a, preempt.WorkerOptions{StopTimeout: 3 * time.Second})
	remediate.Register(w, &remediate.Activities{
		VCenter: g, Temporal: a.Temporal, TaskQueue: s.queue, Notify: sender, Settings: s.remedy, Log: s.log,
	})
	acts := watch.NewActivities(g, a.Temporal, s.queue, s.rules, vcenterHost(s.vc.URL()), s.log)
	if s.engine != nil {
		s.engine(acts.Engine)
	}
	watch.Register(w, acts)
	if err := w.Start(); err != nil {
		s.t.Fatal(err)
	}
	r := &running{worker: w, gateway: g, acts: a}
	s.workers = append(s.workers, r)
	s.t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	if r.worker == nil {
		return
	}
	r.worker.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.gateway.Close(ctx)
	r.worker = nil
}

// cluster returns the MoRef of a cluster as policy nouns.
func (s *site) cluster(name string) policy.Ref {
	return ref(s.vc.Cluster(name).Ref)
}

func ref(r types.ManagedObjectReference) policy.Ref { return policy.Ref{Type: r.Type, Value: r.Value} }

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
func (s *site) state(id string) (r preempt.Response) {
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
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late)
}

// until polls the intake until ok says so.
func (s *site) until(id, what string, ok func(preempt.Response) bool) preempt.Response {
	s.t.Helper()
	return s.untilWithin(30*time.Second, id, what, ok)
}

func (s *site) untilWithin(d time.Duration, id, what string, ok func(preempt.Response) bool) preempt.Response {
	s.t.Helper()
	var last preempt.Response
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
func (s *site) done(id string) preempt.RoundResult {
	s.t.Helper()
	return *s.until(id, "the round ended", func(r preempt.Response) bool {
		return r.Round != nil && r.State != "running"
	}).Round
}

// round waits for a round workflow to close, and returns its result even where it failed.
func (s *site) round(id string) preempt.RoundResult {
	s.t.Helper()
	var r preempt.RoundResult
	res, err := preempt.ResultOf(s.c.GetWorkflow(s.t.Context(), id, "").Get(s.t.Context(), &r), r)
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
func (s *site) agree(results ...preempt.RoundResult) {
	s.t.Helper()
	claimed := map[string]preempt.VMOutcome{}
	for _, r := range results {
		for _, t := range r.Targets {
			if !t.Ours() {
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
