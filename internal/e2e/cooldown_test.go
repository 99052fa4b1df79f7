package e2e

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestInTheCooldownAPersonIsRefusedAndAnAlarmDeferred(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.Done("alarm")

	refused := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityHigh))
	if refused.Verdict != preemptapi.Refused || !refused.Until.After(first.EndedAt) {
		t.Errorf("a person in the cooldown: %+v", refused)
	}
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	deferred := s.Ask("alarm", req)
	if deferred.Verdict != preemptapi.Deferred {
		t.Fatalf("an alarm in the cooldown: %+v", deferred)
	}
	again := s.Until("alarm", "the deferred alarm is planned anew", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.RoundID != first.RoundID && r.State != preemptapi.IntakeRunning
	})
	if gap := again.Round.StartedAt.Sub(first.EndedAt); gap < 3900*time.Millisecond {
		t.Errorf("the second round began %s after the first ended; the cooldown is 4 s", gap)
	}
	if s.OffIn("cluster-a") != 4 {
		t.Errorf("%d VMs are off, want 2 and 2", s.OffIn("cluster-a"))
	}
	s.Agree(first, *again.Round)
}

func TestSkipsDoNotExtendTheCooldown(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.Done("alarm")
	var last preemptapi.Decision
	for time.Since(first.EndedAt) < 2*time.Second {
		if last = s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityHigh)); last.Verdict != preemptapi.Refused {
			t.Fatalf("%+v", last)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if late := last.Until.Sub(first.EndedAt); late > 4500*time.Millisecond {
		t.Errorf("refused requests moved the end of the cooldown to %s after the round", late)
	}
	if v := s.State("cli"); v.LastPreemption.IsZero() && s.State("alarm").LastPreemption.IsZero() {
		t.Error("a skip wiped the status")
	}
	time.Sleep(time.Until(last.Until) + 100*time.Millisecond)
	if d := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityHigh)); d.Verdict != preemptapi.Started {
		t.Errorf("after the cooldown: %+v", d)
	}
}

func TestAHigherCriticalityOverridesTheCooldownOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.Worker()
	if d := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityLow)); d.Verdict != preemptapi.Started {
		t.Fatalf("%+v", d)
	}
	s.Done("cli")
	if d := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityHigh)); d.Verdict != preemptapi.Started {
		t.Fatalf("LOW then HIGH within the cooldown must not be dropped: %+v", d)
	}
	s.Until("cli", "HIGH is done", func(r preemptapi.Response) bool {
		return r.State != preemptapi.IntakeRunning && r.Round.Criticality == "HIGH"
	})
	if d := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityHigh)); d.Verdict != preemptapi.Refused {
		t.Errorf("a flap buys no second set: %+v", d)
	}
}

func TestAnAlarmThatStandsIsPlannedAgainAfterTheCooldown(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.RepeatWhileRed, p.Cooldown = 2, true, clock.Duration(time.Second)
	}))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Until("alarm", "a second round", func(preemptapi.Response) bool { return s.OffIn("cluster-a") == 4 })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Until("alarm", "the alarm fell", func(r preemptapi.Response) bool { return len(r.Levels) == 0 && len(r.Deferred) == 0 })
	off := s.OffIn("cluster-a")
	time.Sleep(1500 * time.Millisecond)
	if s.OffIn("cluster-a") != off {
		t.Error("a round began after the alarm had fallen")
	}
}

func TestRedGreenRedPreemptsOnceInTheCooldown(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Minute) }))
	s.Worker()
	for range 3 { // as the original function does: signal, then cancel
		s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
		s.Until("alarm", "decided", func(r preemptapi.Response) bool { return r.LastDecision != nil && r.State != preemptapi.IntakeRunning })
		if err := s.Temporal.CancelWorkflow(t.Context(), s.ID("alarm"), ""); err != nil {
			t.Fatal(err)
		}
		var res preemptapi.Response
		if err := s.Temporal.GetWorkflow(t.Context(), s.ID("alarm"), "").Get(t.Context(), &res); err != nil {
			t.Fatalf("a cancelled intake completes with its response: %v", err)
		}
	}
	if n := s.OffIn("cluster-a"); n != 2 {
		t.Errorf("red-green-red-green-red took %d VMs within one cooldown; 2 is the plan's limit", n)
	}
}
