package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// rejected waits until an intake has rejected something for a reason with these words.
func (s *site) rejected(id string, words ...string) {
	s.t.Helper()
	s.until(id, "it is rejected for "+strings.Join(words, ", "), func(r preemptapi.Response) bool {
		if len(r.Rejections) == 0 {
			return false
		}
		for _, w := range words {
			if !strings.Contains(r.Rejections[0].Reason, w) {
				return false
			}
		}
		return true
	})
}

func TestAnEventOfAnotherVCenterPreemptsNothingHere(t *testing.T) {
	t.Parallel()
	s, other := watched(t), newSite(t)
	s.worker()
	url := s.receiver()
	// The other site has a cluster and hosts of the same references and names; its alarm is called alike.
	cl := other.vc.Cluster("cluster-a")
	if cl.Ref != s.vc.Cluster("cluster-a").Ref {
		t.Fatal("the sites are not alike")
	}
	red, err := other.vc.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.id("cpu"), Entity: cl.Hosts[0].Ref, From: "green", To: "red", Cluster: cl.Ref})
	s.must(err)
	if a := s.bring(url, routed(t, other.vc.URL(), red)); a.code != http.StatusAccepted {
		t.Fatalf("%+v", a)
	}
	id := s.intake("cpu", "cluster-a")
	s.rejected(id, "not of this vCenter", strings.TrimPrefix(other.vc.URL(), "https://"))
	if r := s.state(id); r.RoundID != "" || len(r.Levels) != 0 || s.off("cluster-a") != 0 {
		t.Errorf("%d VMs are off: %s", s.off("cluster-a"), pretty(r))
	}
	// Nor does its fall end what is ours.
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	wantState(t, s.done(id), preemptapi.RoundCompleted, 6)
	green, err := other.vc.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.id("cpu"), Entity: cl.Hosts[0].Ref, From: "red", To: "green", Cluster: cl.Ref})
	s.must(err)
	s.bring(url, routed(t, other.vc.URL(), green))
	// Rejected, or older than what is known: the keys of two vCenters tell nothing of each other.
	s.until(id, "its fall ends nothing", func(r preemptapi.Response) bool { return r.Requests == 3 && len(r.Levels) == 1 })
}

func TestAPersonIsToldThatAnEventIsOfAnotherVCenter(t *testing.T) {
	t.Parallel()
	s, other := newSite(t), newSite(t)
	s.worker()
	d := s.ask("cli", other.alarmRequest("cluster-a", preemption.CriticalityHigh))
	if d.Verdict != preemptapi.Rejected || !strings.Contains(d.Reason, "not of this vCenter") {
		t.Errorf("%+v", d)
	}
}

func TestAnEventThatCallsThisVCenterOtherwiseIsTaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		aliases []string
		change  func(*site, *preemption.WorkflowRequest)
	}{
		"by a router, while history has it": {nil, func(s *site, r *preemption.WorkflowRequest) {
			r.Event.SetSource("https://vcenter.corp.example/sdk")
			s.post("cpu", "cluster-a", 0, "red", "yellow") // it no longer stands so
			s.post("cpu", "cluster-a", 0, "yellow", "red")
			s.post("cpu", "cluster-a", 0, "red", "yellow")
		}},
		"while the alarm stands so": {nil, func(s *site, r *preemption.WorkflowRequest) {
			r.Event.SetSource("https://10.161.164.224/sdk")
			s.vc.PurgeEvents()
		}},
		"by an alias": {[]string{"veba/prod"}, func(s *site, r *preemption.WorkflowRequest) {
			r.Event.SetSource("veba/prod")
			s.vc.PurgeEvents()
			s.post("cpu", "cluster-a", 0, "red", "yellow")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.config = func(cfg *vcenter.Config) { cfg.Aliases = c.aliases }
			s.worker()
			// An alarm that no other site has: their workers are asked too.
			req := preemption.WorkflowRequest{
				Tag: "preemptible", Criticality: preemption.CriticalityHigh,
				Event: routed(t, s.vc.URL(), s.post("cpu", "cluster-a", 0, "green", "red")),
			}
			c.change(s, &req)
			s.signal("alarm", req)
			wantState(t, s.done("alarm"), preemptapi.RoundCompleted, 6)
		})
	}
}

func TestAnEventThatNobodyCouldVerifyIsVerifiedBeforeItIsActedUpon(t *testing.T) {
	t.Parallel()
	s, other := newSite(t), newSite(t)
	s.worker()
	// An alarm that no other site has: their workers are asked too.
	cl := other.vc.Cluster("cluster-a")
	red, err := other.vc.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.id("cpu"), Entity: cl.Hosts[0].Ref, From: "green", To: "red", Cluster: cl.Ref})
	s.must(err)
	req := preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: routed(t, other.vc.URL(), red)}
	s.vc.Stop()
	s.signal("alarm", req)
	round := s.started("alarm")
	s.must(s.vc.Restart())
	r := s.round(round)
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	if !strings.Contains(strings.Join(r.Changes, "\n"), "not of this vCenter") {
		t.Errorf("%+v", r.Changes)
	}
}

func TestAnAcknowledgedAlarmStartsNothingUntilItStandsAnew(t *testing.T) {
	t.Parallel()
	for name, hush := range map[string]func(*site, bool) error{
		"acknowledged": func(s *site, on bool) error {
			if !on { // as a person resets it
				s.alarmEvent("cluster-a", 0, "red", "red")
				return nil
			}
			return s.vc.AcknowledgeAlarm("cluster-cpu-above-80", s.vc.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`)
		},
		"actions are disabled": func(s *site, on bool) error { return s.vc.SetAlarmActions(s.vc.Cluster("cluster-a").Ref, !on) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, withPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Second) }))
			s.worker()
			req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
			s.must(hush(s, true))
			s.signal("alarm", req)
			s.until("alarm", "it is held, and says why", func(r preemptapi.Response) bool {
				return r.Round != nil && r.Round.State == preemptapi.RoundHeld && strings.Contains(r.Round.Reason, name) &&
					len(r.Deferred) == 1 && strings.Contains(r.Deferred[0].Reason, name)
			})
			if n := s.off("cluster-a"); n != 0 {
				t.Errorf("%d VMs are off", n)
			}
			s.must(hush(s, false))
			r := s.until("alarm", "it is acted upon in the end", func(r preemptapi.Response) bool {
				return r.Round != nil && r.Round.State == preemptapi.RoundCompleted
			})
			wantState(t, *r.Round, preemptapi.RoundCompleted, 6)
		})
	}
}

func TestAnAcknowledgementStopsRepetitionsAndNoRoundUnderWay(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 2, clock.Duration(time.Second), true
	}))
	s.vc.SetTaskDelay(2 * time.Second)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.started("alarm")
	s.eventually("VMs are going off", func() bool { return s.calls("PowerOffVM_Task") == 2 })
	s.must(s.vc.AcknowledgeAlarm("cluster-cpu-above-80", s.vc.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`))
	s.until("alarm", "the repetition is held", func(r preemptapi.Response) bool { return r.Round != nil && r.Round.State == preemptapi.RoundHeld })
	if n := s.off("cluster-a"); n != 2 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestARuleMayActOnAnAcknowledgedAlarm(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.rules = []trigger.Rule{{Alarm: s.id("cpu"), Action: trigger.Preempt{Tag: "preemptible", WhenSilenced: preemption.WhenSilencedAct}}}
	s.worker()
	url := s.receiver()
	red := s.alarm("cluster-a", 0, "green", "red")
	s.must(s.vc.AcknowledgeAlarm(s.id("cpu"), s.vc.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`))
	s.bring(url, routed(t, s.vc.URL(), red))
	wantState(t, s.done(s.intake("cpu", "cluster-a")), preemptapi.RoundCompleted, 6)
}

func TestAnAlarmIsActedUponForAnEntityOnWhichNobodyAcknowledgedIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	s.alarmEvent("cluster-a", 1, "green", "red")
	s.must(s.vc.AcknowledgeAlarm("cluster-cpu-above-80", s.vc.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`))
	s.signal("alarm", req)
	wantState(t, s.done("alarm"), preemptapi.RoundCompleted, 6)
}

func TestAFallStampedBeforeItsRiseEndsTheAlarm(t *testing.T) {
	t.Parallel()
	s := watched(t, withPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 1, clock.Duration(time.Second), true
	}))
	s.worker()
	url := s.receiver()
	s.vc.SetClock(10 * time.Minute)
	s.bringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	id := s.intake("cpu", "cluster-a")
	wantState(t, s.done(id), preemptapi.RoundCompleted, 1)
	s.vc.SetClock(0)
	s.bringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	s.until(id, "the fall is known", func(r preemptapi.Response) bool {
		return len(r.Levels) == 0 && len(r.Deferred) == 0 && r.State != preemptapi.IntakeRunning
	})
}

func TestTheWatchGoesOnWhenVCentersClockIsSetBack(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.vc.SetClock(10 * time.Minute)
	s.worker()
	often := quickWatch
	often.Compare = time.Second // when the clock is looked at too
	s.watch(often)
	s.alarm("cluster-a", 0, "green", "red")
	first := s.exists(s.intake("cpu", "cluster-a"))
	s.agree(s.done(first))
	s.vc.SetClock(0)
	present := func(c watchapi.Checkpoint) bool { return c.Reached.Before(time.Now().Add(5 * time.Minute)) }
	s.point("it reads from vCenter's present", present)
	since := time.Now()
	s.point("what was stamped before does not lead it astray", func(c watchapi.Checkpoint) bool {
		if !present(c) {
			t.Fatal("it waits for a future that has been taken back")
		}
		return c.Compared.After(since.Add(2 * time.Second))
	})
	s.alarm("cluster-b", 0, "green", "red")
	wantState(t, s.done(s.exists(s.intake("cpu", "cluster-b"))), preemptapi.RoundCompleted, 6)
	s.alarm("cluster-a", 0, "red", "green")
	s.until(first, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAnAlarmFromTheFutureIsCheckedBeforeEachRound(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 1, clock.Duration(time.Second), true
	}))
	s.worker()
	s.vc.SetClock(10 * time.Minute)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	wantState(t, s.done("alarm"), preemptapi.RoundCompleted, 1)
	s.vc.SetClock(0)
	s.alarmEvent("cluster-a", 0, "red", "green") // of which nobody tells
	s.until("alarm", "vCenter says that it is over", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.AlarmOver && len(r.Levels) == 0 && len(r.Deferred) == 0
	})
	if n := s.off("cluster-a"); n > 3 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestAnAlarmOfAnEntityThatIsGonePreemptsNothing(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	url := s.receiver()
	red := s.alarm("cluster-a", 0, "green", "red")
	s.must(s.vc.RemoveEntity(s.vc.Cluster("cluster-a").Hosts[0].Ref))
	s.bring(url, routed(t, s.vc.URL(), red))
	id := s.intake("cpu", "cluster-a")
	r := s.done(id)
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	if !strings.Contains(strings.Join(r.Changes, "\n"), "vCenter has no HostSystem:") {
		t.Errorf("%+v", r.Changes)
	}
	s.until(id, "nothing stands", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAClusterThatIsRenamedWhileRedIsFollowed(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 2, clock.Duration(time.Second), true
	}))
	s.worker()
	cluster := s.vc.Cluster("cluster-a").Ref
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.done("alarm")
	wantState(t, first, preemptapi.RoundCompleted, 2)
	s.must(s.vc.RenameEntity(cluster, "cluster-gold"))
	r := s.until("alarm", "a repetition knows the new name", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.ScopeName == "cluster-gold"
	})
	wantState(t, *r.Round, preemptapi.RoundCompleted, 2)
	if !strings.Contains(strings.Join(r.Round.Changes, "\n"), `"cluster-gold" now`) {
		t.Errorf("the new name is not told: %+v", r.Round.Changes)
	}
}

// repeating is a site whose alarm stands, with the usage of its cluster in percent after the first round.
func repeating(t *testing.T, cpu float64, prepare func(*site)) *site {
	s := newSite(t, withPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 1, clock.Duration(time.Second), true
	}))
	prepare(s)
	s.worker()
	s.must(s.vc.SetClusterUsage("cluster-a", 95, 60))
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	wantState(t, s.done("alarm"), preemptapi.RoundCompleted, 1)
	s.must(s.vc.SetClusterUsage("cluster-a", cpu, 60))
	return s
}

func TestARepetitionBelowTheAlarmsThresholdTakesNobody(t *testing.T) {
	t.Parallel()
	s := repeating(t, 50, func(s *site) {
		s.must(s.vc.SetAlarmThresholds("cluster-cpu-above-80", simulation.CounterCPU, 70, 80))
	})
	before := s.off("cluster-a")
	r := s.until("alarm", "a repetition finds that nobody needs to go", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.State == preemptapi.RoundEmpty
	})
	if n := s.off("cluster-a"); n > before+1 || len(r.Levels) != 1 { // one round may have begun before the usage fell
		t.Errorf("%d VMs are off: %s", n, pretty(r))
	}
}

func TestARepetitionAboveTheAlarmsThresholdGoesOn(t *testing.T) {
	t.Parallel()
	s := repeating(t, 95, func(s *site) {
		s.must(s.vc.SetAlarmThresholds("cluster-cpu-above-80", simulation.CounterCPU, 70, 80))
	})
	s.eventually("more VMs go", func() bool { return s.off("cluster-a") >= 2 })
}

func TestARepetitionThatCannotMeasureWaits(t *testing.T) {
	t.Parallel()
	s := repeating(t, 50, func(s *site) { s.set.Timing.RepeatWait = 5 * time.Minute })
	r := s.until("alarm", "the repetition waits", func(r preemptapi.Response) bool { return len(r.Deferred) == 1 })
	if wait := r.Deferred[0].Until.Sub(r.Round.EndedAt); wait < 4*time.Minute || s.off("cluster-a") != 1 {
		t.Errorf("the repetition follows after %s; %d VMs are off", wait, s.off("cluster-a"))
	}
}
