package standalone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/worker"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/doctor"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/receiver"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

const (
	farewell      = 2 * time.Second  // for logging out of vCenter and ending health
	connectAgain  = 5 * time.Second  // between attempts to reach vCenter at the start
	vcenterFresh  = 2 * time.Minute  // vCenter's last answer counts as ready for so long
	simulateStop  = 3 * time.Second  // for activities to end, where the VMs are simulated
	attrsAgain    = 10 * time.Second // bound of the look at the search attributes
	demoPoll      = 200 * time.Millisecond
	demoRemeasure = time.Second      // between the waves of a restore
	demoCompare   = 10 * time.Second // between comparisons of the simulated alarms' states
)

// startWorker starts a worker, with health. A real vCenter may be away: it is sought meanwhile, and requests wait.
func (s *stack) startWorker(ctx context.Context, fatal context.CancelCauseFunc, build telemetry.Build) error {
	gateway, err := s.newGateway()
	if err != nil {
		return err
	}
	if err := s.startHealth(gateway); err != nil {
		return err
	}
	acts, err := s.activities(ctx, gateway)
	if err != nil {
		return err
	}
	if s.vcenter != nil {
		err = gateway.Connect(ctx) // ahead of need
	} else {
		s.background(ctx, func(ctx context.Context) { s.seekVCenter(ctx, gateway) })
	}
	if err != nil {
		return err
	}
	worker.SetBinaryChecksum(build.ID()) // else the SDK reads and hashes the whole program at the start
	o := preempt.WorkerOptions{OnFatal: func(err error) { fatal(fmt.Errorf("the worker cannot go on: %w", err)) }}
	if s.simulate {
		o.StopTimeout = simulateStop
	}
	w := preempt.NewWorker(s.client, acts, o)
	rules := s.set.File.Rules
	remediate.Register(w, remediation(s.set.File, acts))
	doctor.Register(w, &doctor.Activities{
		VCenter: gateway, Rules: rules, Policies: acts.Settings.Policies, Allowed: acts.Settings.AllowedTags, Observe: acts.Settings.Observe,
		Worker: fmt.Sprintf("standalone-%d", os.Getpid()), Version: build.String(),
	})
	watch.Register(w, watch.NewActivities(gateway, s.client, s.queue(), rules, s.set.VCenter.Host(), s.log))
	if err := w.Start(); err != nil {
		return fmt.Errorf("start the worker on task queue %s: %w", s.queue(), err)
	}
	s.onStop(w.Stop)
	s.background(ctx, func(ctx context.Context) { acts.CountPreempted(ctx, s.metrics.Preempted) })
	s.out.say("worker", "polls task queue %s", s.queue())
	return errors.Join(s.startWatch(ctx), s.startReceiver())
}

// startWatch follows vCenter's alarms where there are rules on them.
func (s *stack) startWatch(ctx context.Context) error {
	rules := s.set.File.Rules
	if len(rules) == 0 {
		s.out.say("watch", "no rules, so that alarms start nothing: name rules in a file with --config")
		return nil
	}
	timing := watch.DefaultTiming()
	if s.simulate {
		timing.Poll, timing.Compare = demoPoll, demoCompare
	}
	if err := watch.Ensure(ctx, s.client, s.queue(), timing); err != nil {
		return err
	}
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
	var token *receiver.Token
	if s.receiver.TokenFile != "" {
		if token, err = receiver.ReadToken(s.receiver.TokenFile, s.log); err != nil {
			return errors.Join(fmt.Errorf("RECEIVER_TOKEN_FILE: %w", err), listener.Close())
		}
	}
	r, err := receiver.New(receiver.Config{
		Engine:  &trigger.Engine{Temporal: s.client, TaskQueue: s.queue(), Rules: s.receiver.Rules},
		Classes: trigger.Classes(s.receiver.Rules), Token: token, Log: s.log,
		Metrics: s.metrics,
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

func (s *stack) newGateway() (*vcenter.Gateway, error) {
	v := s.set.VCenter
	gateway, err := vcenter.New(vcenter.Config{
		URL: v.URL, SecretPath: v.SecretPath, Insecure: v.Insecure, CAFile: v.CAFile, Thumbprint: v.Thumbprint,
		MaxConcurrentCalls: s.set.File.Limits.VCenterCalls, Logger: s.log,
		Observe: s.metrics.VCenterCalled, Renewed: s.metrics.VCenterRenewed,
	})
	if err != nil {
		return nil, err
	}
	if v.Insecure && !s.simulate {
		s.log.Warn("vCenter's certificate is not verified: whoever is in between can read the password; for a test only",
			"reason", "VCENTER_INSECURE=true", "remedy", "set VCENTER_CA_FILE or VCENTER_THUMBPRINT instead")
	}
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		gateway.Close(ctx)
	})
	return gateway, nil
}

func (s *stack) activities(ctx context.Context, gateway *vcenter.Gateway) (*preempt.Activities, error) {
	limits := s.set.File.Limits
	sender, err := notify.New(limits.ReplyAllow, 0)
	if err != nil {
		return nil, err
	}
	set := preempt.DefaultSettings()
	policies := s.policies()
	s.metrics.KnowPolicies(slices.Collect(maps.Keys(policies))...)
	set.Policies, set.AllowedTags, set.MaxCriticality = policies, limits.AllowedTags, limits.MaxCriticality
	if s.simulate {
		set.Timing.Remeasure = demoRemeasure
	}
	set.Observe = s.set.File.Mode == policy.ModeObserve
	set.Timing.Outage, set.Self = limits.Outage, config.SelfUUIDs(os.DirFS(config.DMI))
	set.EventSource = notify.Source(s.temporal.HostPort(), s.temporal.Namespace())
	a := &preempt.Activities{
		VCenter: gateway, Temporal: s.client, TaskQueue: s.queue(), Namespace: s.temporal.Namespace(),
		Notify: sender, Settings: set, Log: s.log,
	}
	ctx, cancel := context.WithTimeout(ctx, attrsAgain)
	defer cancel()
	return a, a.CheckAttributes(ctx, s.temporal.Namespace())
}

// remediation are the activities of remediation, beside those of preemption.
func remediation(f config.File, a *preempt.Activities) *remediate.Activities {
	set, said := remediate.DefaultSettings(), f.Remediation()
	set.Observe, set.PerHour, set.Moves, set.NeverTouch = said.Observe, said.PerHour, remediate.Bounds(said.Moves), said.NeverTouch
	set.Self, set.EventSource, set.Timing.Outage = a.Settings.Self, a.Settings.EventSource, a.Settings.Timing.Outage
	return &remediate.Activities{VCenter: a.VCenter, Temporal: a.Temporal, TaskQueue: a.TaskQueue, Notify: a.Notify, Settings: set, Log: a.Log}
}

// policies are those of the file. Without a file a simulation has shorter waits, so that all can be tried at once.
func (s *stack) policies() map[string]policy.Policy {
	if !s.simulate || s.set.Path != "" {
		return s.set.File.Policies
	}
	p := policy.Default()
	p.Cooldown = policy.Duration(2 * time.Second)
	p.Criticality.Medium.Notice, p.Criticality.Medium.GracePeriod = policy.Duration(2*time.Second), policy.Duration(4*time.Second)
	p.Criticality.Low.GracePeriod = policy.Duration(10 * time.Second)
	p.WithdrawWait, p.LateWatch = policy.Duration(5*time.Second), policy.Duration(10*time.Second)
	p.Target = policy.Goal{CPU: 75, Margin: 1, IfShort: policy.ShortPartial}
	p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{Percent: true, N: 50}}}
	p.Restore = policy.Restore{Enabled: true, Settle: policy.Duration(time.Second), Wave: 2, GiveUp: policy.Duration(time.Minute)}
	return map[string]policy.Policy{"default": p}
}

// seekVCenter logs in ahead of need, and says once for each reason why that does not work yet.
func (s *stack) seekVCenter(ctx context.Context, gateway *vcenter.Gateway) {
	said := ""
	for {
		err := gateway.Connect(ctx)
		if err == nil {
			s.out.say("vCenter", "%s, logged in as %s", s.set.VCenter.Host(), gateway.User())
			return
		}
		if text := err.Error(); text != said && ctx.Err() == nil {
			s.out.say("vCenter", "cannot be worked with yet, requests wait until it can: %s", text)
			said = text
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(connectAgain):
		}
	}
}

func (s *stack) startHealth(gateway *vcenter.Gateway) error {
	h, err := telemetry.Serve(s.log, s.set.HTTP.Addr, s.set.HTTP.Explicit, s.metrics,
		telemetry.Check{Name: "polling", Ready: s.polling},
		telemetry.Check{Name: "vcenter", Ready: func(ctx context.Context) error {
			if at, err := gateway.LastContact(); err == nil && time.Since(at) < vcenterFresh {
				return nil
			}
			return gateway.Connect(ctx)
		}},
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

// polling tells why no work is taken from the queue, nil when it is.
func (s *stack) polling(ctx context.Context) error {
	queue, err := s.client.DescribeTaskQueue(ctx, s.queue(), enums.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return fmt.Errorf("look for pollers of task queue %s: %w", s.queue(), err)
	}
	if len(queue.GetPollers()) == 0 {
		return fmt.Errorf("task queue %s has no poller", s.queue())
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
