package standalone

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

const (
	farewell     = 2 * time.Second  // for logging out of vCenter and ending health
	connectAgain = 5 * time.Second  // between attempts to reach vCenter at the start
	simulateStop = 3 * time.Second  // for activities to end, where the VMs are simulated
	attrsAgain   = 10 * time.Second // bound of the look at the search attributes
)

// startWorker starts a worker, with health, once vCenter was reached: until then requests wait in Temporal.
func (s *stack) startWorker(ctx context.Context, fatal context.CancelCauseFunc) error {
	gateway, err := vcenter.New(vcenter.Config{
		URL: s.set.VCenter.URL, SecretPath: s.set.VCenter.SecretPath, Insecure: s.set.VCenter.Insecure,
		CAFile: s.set.VCenter.CAFile, Thumbprint: s.set.VCenter.Thumbprint,
		MaxConcurrentCalls: s.set.File.Limits.VCenterCalls, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		gateway.Close(ctx)
	})
	if err := s.startHealth(gateway); err != nil {
		return err
	}
	if err := s.reachVCenter(ctx, gateway); err != nil {
		return err
	}
	acts, err := s.activities(ctx, gateway)
	if err != nil {
		return err
	}
	o := preempt.WorkerOptions{OnFatal: func(err error) { fatal(fmt.Errorf("the worker cannot go on: %w", err)) }}
	if s.simulate {
		o.StopTimeout = simulateStop
	}
	w := preempt.NewWorker(s.client, acts, o)
	if err := w.Start(); err != nil {
		return fmt.Errorf("start the worker on task queue %s: %w", s.queue(), err)
	}
	s.onStop(w.Stop)
	s.out.say("worker", "polls task queue %s", s.queue())
	return nil
}

func (s *stack) activities(ctx context.Context, gateway *vcenter.Gateway) (*preempt.Activities, error) {
	limits := s.set.File.Limits
	sender, err := notify.New(limits.ReplyAllow, 0)
	if err != nil {
		return nil, err
	}
	set := preempt.DefaultSettings()
	set.Policies, set.AllowedTags, set.MaxCriticality = s.policies(), limits.AllowedTags, limits.MaxCriticality
	set.Timing.Outage = limits.Outage
	set.EventSource = notify.Source(s.temporal.HostPort(), s.temporal.Namespace())
	a := &preempt.Activities{
		VCenter: gateway, Temporal: s.client, TaskQueue: s.queue(), Namespace: s.temporal.Namespace(),
		Notify: sender, Settings: set, Log: s.log,
	}
	ctx, cancel := context.WithTimeout(ctx, attrsAgain)
	defer cancel()
	return a, a.CheckAttributes(ctx, s.temporal.Namespace())
}

// policies are those of the file. Without a file a simulation has shorter waits, so that all can be tried at once.
func (s *stack) policies() map[string]policy.Policy {
	if !s.simulate || s.set.Path != "" {
		return s.set.File.Policies
	}
	p := policy.Default()
	p.Cooldown = policy.Duration(5 * time.Second)
	p.Criticality.Medium.GracePeriod = policy.Duration(10 * time.Second)
	p.Criticality.Low.GracePeriod = policy.Duration(10 * time.Second)
	p.WithdrawWait, p.LateWatch = policy.Duration(5*time.Second), policy.Duration(10*time.Second)
	return map[string]policy.Policy{"default": p}
}

// reachVCenter waits for vCenter, and says once for each reason why it has to.
func (s *stack) reachVCenter(ctx context.Context, gateway *vcenter.Gateway) error {
	said := ""
	for {
		err := gateway.Connect(ctx)
		if err == nil {
			if s.vcenter == nil {
				s.out.say("vCenter", "%s, as %s", s.set.VCenter.URL, gateway.User())
			}
			return nil
		}
		if text := err.Error(); text != said && ctx.Err() == nil {
			s.out.say("vCenter", "not usable yet, trying again: %s", text)
			said = text
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for vCenter: %w", context.Cause(ctx))
		case <-time.After(connectAgain):
		}
	}
}

func (s *stack) startHealth(gateway *vcenter.Gateway) error {
	h, err := telemetry.Serve(s.log, s.set.HTTP.Addr, s.set.HTTP.Explicit,
		telemetry.Check{Name: "temporal", Ready: func(ctx context.Context) error {
			_, err := s.client.CheckHealth(ctx, &client.CheckHealthRequest{})
			return err
		}},
		telemetry.Check{Name: "vcenter", Ready: gateway.Connect},
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
		s.out.say("health", "%s, paths /healthz and /readyz", h.Addr())
	}
	return nil
}
