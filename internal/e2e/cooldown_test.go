package e2e

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestInTheCooldownAPersonIsRefusedAndAnAlarmDeferred(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.done("alarm")

	refused := s.ask("cli", person(preemption.CriticalityHigh))
	if refused.Verdict != preemptapi.Refused || !refused.Until.After(first.EndedAt) {
		t.Errorf("a person in the cooldown: %+v", refused)
	}
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	deferred := s.ask("alarm", req)
	if deferred.Verdict != preemptapi.Deferred {
		t.Fatalf("an alarm in the cooldown: %+v", deferred)
	}
	again := s.until("alarm", "the deferred alarm is planned anew", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.RoundID != first.RoundID && r.State != "running"
	})
	if gap := again.Round.StartedAt.Sub(first.EndedAt); gap < 3900*time.Millisecond {
		t.Errorf("the second round began %s after the first ended; the cooldown is 4 s", gap)
	}
	if s.off("cluster-a") != 4 {
		t.Errorf("%d VMs are off, want 2 and 2", s.off("cluster-a"))
	}
	s.agree(first, *again.Round)
}

func TestSkipsDoNotExtendTheCooldown(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.done("alarm")
	var last preemptapi.Decision
	for time.Since(first.EndedAt) < 2*time.Second {
		if last = s.ask("cli", person(preemption.CriticalityHigh)); last.Verdict != preemptapi.Refused {
			t.Fatalf("%+v", last)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if late := last.Until.Sub(first.EndedAt); late > 4500*time.Millisecond {
		t.Errorf("refused requests moved the end of the cooldown to %s after the round", late)
	}
	if v := s.state("cli"); v.LastPreemption.IsZero() && s.state("alarm").LastPreemption.IsZero() {
		t.Error("a skip wiped the status")
	}
	time.Sleep(time.Until(last.Until) + 100*time.Millisecond)
	if d := s.ask("cli", person(preemption.CriticalityHigh)); d.Verdict != preemptapi.Started {
		t.Errorf("after the cooldown: %+v", d)
	}
}

func TestAHigherCriticalityOverridesTheCooldownOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.worker()
	if d := s.ask("cli", person(preemption.CriticalityLow)); d.Verdict != preemptapi.Started {
		t.Fatalf("%+v", d)
	}
	s.done("cli")
	if d := s.ask("cli", person(preemption.CriticalityHigh)); d.Verdict != preemptapi.Started {
		t.Fatalf("LOW then HIGH within the cooldown must not be dropped: %+v", d)
	}
	s.until("cli", "HIGH is done", func(r preemptapi.Response) bool { return r.State != "running" && r.Round.Criticality == "HIGH" })
	if d := s.ask("cli", person(preemption.CriticalityHigh)); d.Verdict != preemptapi.Refused {
		t.Errorf("a flap buys no second set: %+v", d)
	}
}

func TestAnAlarmThatStandsIsPlannedAgainAfterTheCooldown(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.RepeatWhileRed, p.Cooldown = 2, true, clock.Duration(time.Second)
	}))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.until("alarm", "a second round", func(preemptapi.Response) bool { return s.off("cluster-a") == 4 })
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.until("alarm", "the alarm fell", func(r preemptapi.Response) bool { return len(r.Levels) == 0 && len(r.Deferred) == 0 })
	off := s.off("cluster-a")
	time.Sleep(1500 * time.Millisecond)
	if s.off("cluster-a") != off {
		t.Error("a round began after the alarm had fallen")
	}
}

func TestRedGreenRedPreemptsOnceInTheCooldown(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(time.Minute) }))
	s.worker()
	for range 3 { // as the original function does: signal, then cancel
		s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
		s.until("alarm", "decided", func(r preemptapi.Response) bool { return r.LastDecision != nil && r.State != "running" })
		if err := s.c.CancelWorkflow(t.Context(), s.id("alarm"), ""); err != nil {
			t.Fatal(err)
		}
		var res preemptapi.Response
		if err := s.c.GetWorkflow(t.Context(), s.id("alarm"), "").Get(t.Context(), &res); err != nil {
			t.Fatalf("a cancelled intake completes with its response: %v", err)
		}
	}
	if n := s.off("cluster-a"); n != 2 {
		t.Errorf("red-green-red-green-red took %d VMs within one cooldown; 2 is the plan's limit", n)
	}
}
