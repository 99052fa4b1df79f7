package standalone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/receiver"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

const (
	farewell      = 2 * time.Second  // for logging out of vCenter and ending health
	simulateStop  = 3 * time.Second  // for activities to end, where the VMs are simulated
	attrsAgain    = 10 * time.Second // bound of the look at the search attributes
	demoPoll      = 200 * time.Millisecond
	demoRemeasure = time.Second      // between the waves of a restore
	demoCompare   = 10 * time.Second // between comparisons of the simulated alarms' states
)

// startWorker starts a worker, with health. A real vCenter may be away: it is sought meanwhile, and requests wait.
func (s *stack) startWorker(ctx context.Context, fatal context.CancelCauseFunc, build telemetry.Build) (err error) {
	if s.crew, err = s.newCrew(build, func(err error) { fatal(err) }); err != nil {
		return err
	}
	if s.set.VCenter.Insecure && !s.simulate {
		worker.WarnInsecure(s.log)
	}
	monitor := &health.Monitor{
		Namespace: s.temporal.Namespace(), TaskQueue: s.queue(), Watched: len(s.set.File.Rules) > 0, Metrics: s.metrics.ForTemporal(), Log: s.log,
	}
	if err := s.startHealth(monitor); err != nil {
		return err
	}
	worker.Prepare(build, s.crew.sender)
	if err := s.crew.start(ctx); err != nil {
		return err
	}
	s.onStop(s.crew.stop)
	s.background(ctx, func(ctx context.Context) { monitor.Run(ctx, s.client) })
	s.out.say("worker", "polls task queue %s", s.queue())
	return errors.Join(s.startWatch(ctx), s.startReceiver())
}

// startWatch follows vCenter's alarms where there are rules on them.
func (s *stack) startWatch(ctx context.Context) error {
	rules := s.set.File.Rules
	for _, warning := range s.set.File.Warnings {
		s.out.say("config", "%s", warning)
	}
	if len(rules) == 0 {
		s.out.say("watch", "no rules, so alarms start nothing: write rules into a file and name it with --config")
		return nil
	}
	timing := watch.DefaultTiming()
	if s.simulate {
		timing.Poll, timing.Compare = demoPoll, demoCompare
	}
	if err := watch.Ensure(ctx, s.client, s.queue(), timing); err != nil {
		return err
	}
	go watch.Keep(ctx, s.client, s.queue(), timing, watch.KeepEvery, s.log)
	var names []string
	for _, r := range rules {
		names = append(names, r.Name())
	}
	s.out.say("watch", "%s follows vCenter's events, with %d rules: %s", watch.WorkflowID(s.queue()), len(rules), strings.Join(names, ", "))
	return nil
}

// startReceiver takes CloudEvents over HTTP where that was asked for.
func (s *stack) startReceiver() error {
	addr := s.receiver.Addr
	if addr == "" {
		return nil
	}
	if s.simulate && s.env.Get("PORT") == "" {
		addr = "127.0.0.1" + addr
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil && s.simulate {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return fmt.Errorf("take CloudEvents on %s: %w; set PORT to a free port", addr, err)
	}
	var token *bearer.Token
	if s.receiver.TokenFile != "" {
		if token, err = bearer.Read(s.receiver.TokenFile, s.log); err != nil {
			return errors.Join(fmt.Errorf("RECEIVER_TOKEN_FILE: %w", err), listener.Close())
		}
	}
	if token == nil && !s.simulate {
		s.log.Warn("no token is required: everybody who reaches this address can request preemptions; set RECEIVER_TOKEN_FILE", "addr", addr)
	}
	r, err := receiver.New(receiver.Config{
		Engine:  &trigger.Engine{Temporal: s.client, TaskQueue: s.queue(), Rules: s.receiver.Rules, Tracer: s.traces.Tracer()},
		Classes: trigger.Classes(s.receiver.Rules), Token: token, Log: s.log,
		Metrics: s.metrics, Tracer: s.traces.Tracer(),
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := receiver.Server(r, s.log)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("CloudEvents are no longer taken", "addr", listener.Addr().String(), "reason", err)
		}
	}()
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			s.log.Warn("the receiver did not end in time", "reason", err)
		}
	})
	s.events = "http://" + reachable(listener.Addr().String())
	s.out.say("receiver", "takes CloudEvents on %s", s.events)
	return nil
}

// preemption are the settings of preemption: the file's, or the demo's.
func (s *stack) preemption() preempt.Settings {
	set := worker.Preemption(s.set.File, s.temporal.HostPort(), s.temporal.Namespace())
	set.Policies = s.policies()
	s.metrics.KnowPolicies(slices.Collect(maps.Keys(set.Policies))...)
	if s.simulate {
		set.Timing.Remeasure = demoRemeasure
	}
	return set
}

// checkAttributes looks whether the search attributes are registered.
func (s *stack) checkAttributes(ctx context.Context, a *preempt.Env) error {
	ctx, cancel := context.WithTimeout(ctx, attrsAgain)
	defer cancel()
	return a.CheckAttributes(ctx, s.temporal.Namespace())
}

// policies are those of the file. Without a file a simulation has shorter waits, so that all can be tried at once; a
// rehearsal has what a site without a file has.
func (s *stack) policies() map[string]policy.Policy {
	if !s.simulate || s.set.Path != "" || s.inventory != "" {
		return s.set.File.Policies
	}
	p := policy.Default()
	p.Cooldown = clock.Duration(2 * time.Second)
	p.Criticality.Medium.Notice, p.Criticality.Medium.GracePeriod = clock.Duration(2*time.Second), clock.Duration(4*time.Second)
	p.Criticality.Low.GracePeriod = clock.Duration(10 * time.Second)
	p.WithdrawWait, p.LateWatch = clock.Duration(5*time.Second), clock.Duration(10*time.Second)
	p.Target = policy.Goal{CPU: 75, Margin: 1, IfShort: policy.ShortPartial}
	p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{Percent: true, N: 50}}}
	p.Restore.Enabled, p.Restore.Settle, p.Restore.Wave = true, clock.Duration(time.Second), 2
	return map[string]policy.Policy{"default": p}
}

// seekVCenter logs in ahead of need, and says why that does not work yet.
func (s *stack) seekVCenter(ctx context.Context, gateway *vcenter.Gateway) {
	connected := worker.SeekVCenter(ctx, gateway, func(reason string, _ time.Duration) {
		s.out.say("vCenter", "cannot be used yet, requests wait until it can: %s", reason)
	})
	if connected {
		s.out.say("vCenter", "%s, logged in as %s", s.set.VCenter.Host(), gateway.User())
	}
}

func (s *stack) startHealth(monitor *health.Monitor) error {
	h, err := telemetry.Serve(s.log, s.set.HTTP.Addr, s.set.HTTP.Explicit, s.metrics,
		telemetry.Check{Name: "polling", Ready: func(ctx context.Context) error { return worker.Polling(ctx, s.client, s.queue()) }},
		telemetry.Check{Name: "progress", Ready: monitor.Ready},
		telemetry.Check{Name: "disk", Ready: func(context.Context) error { return s.temporal.Writable() }},
		telemetry.Check{Name: "vcenter", Ready: s.crew.ready},
	)
	if err != nil {
		return err
	}
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			s.log.Warn("health did not end in time", "reason", err)
		}
	})
	if h.Addr() != "" {
		s.out.say("health", "http://%s/readyz", reachable(h.Addr()))
	}
	return nil
}

// reachable names an address that listens everywhere as this machine reaches it.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return addr
	}
	return net.JoinHostPort("localhost", port)
}
