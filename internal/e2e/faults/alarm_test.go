package faults

import (
	"net/http"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// rejected waits until an intake has rejected something for a reason with these words.
func rejected(s *sitetest.Site, id string, words ...string) {
	s.T.Helper()
	s.Until(id, "it is rejected for "+strings.Join(words, ", "), func(r preemptapi.Response) bool {
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
	s, other := sitetest.Watched(t), sitetest.New(t)
	s.Worker()
	url := s.Receiver()
	// The other site has a cluster and hosts of the same references and names; its alarm is called alike.
	cl := other.VC.Cluster("cluster-a")
	if cl.Ref != s.VC.Cluster("cluster-a").Ref {
		t.Fatal("the sites are not alike")
	}
	red, err := other.VC.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.ID("cpu"), Entity: cl.Hosts[0].Ref, From: "green", To: "red", Cluster: cl.Ref})
	s.Must(err)
	if a := s.Bring(url, sitetest.Routed(t, other.VC.URL(), red)); a.Code != http.StatusAccepted {
		t.Fatalf("%+v", a)
	}
	id := s.Intake("cpu", "cluster-a")
	rejected(s, id, "not of this vCenter", strings.TrimPrefix(other.VC.URL(), "https://"))
	if r := s.State(id); r.RoundID != "" || len(r.Levels) != 0 || s.OffIn("cluster-a") != 0 {
		t.Errorf("%d VMs are off: %s", s.OffIn("cluster-a"), sitetest.Pretty(r))
	}
	// Nor does its fall end what is ours.
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	sitetest.WantState(t, s.Done(id), preemptapi.RoundCompleted, 6)
	green, err := other.VC.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.ID("cpu"), Entity: cl.Hosts[0].Ref, From: "red", To: "green", Cluster: cl.Ref})
	s.Must(err)
	s.Bring(url, sitetest.Routed(t, other.VC.URL(), green))
	// Rejected, or older than what is known: the keys of two vCenters tell nothing of each other.
	s.Until(id, "its fall ends nothing", func(r preemptapi.Response) bool { return r.Requests == 3 && len(r.Levels) == 1 })
}

func TestAPersonIsToldThatAnEventIsOfAnotherVCenter(t *testing.T) {
	t.Parallel()
	s, other := sitetest.New(t), sitetest.New(t)
	s.Worker()
	d := s.Ask("cli", other.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	if d.Verdict != preemptapi.Rejected || !strings.Contains(d.Reason, "not of this vCenter") {
		t.Errorf("%+v", d)
	}
}

func TestAnEventThatCallsThisVCenterOtherwiseIsTaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		aliases []string
		change  func(*sitetest.Site, *preemption.WorkflowRequest)
	}{
		"by a router, while history has it": {nil, func(s *sitetest.Site, r *preemption.WorkflowRequest) {
			r.Event.SetSource("https://vcenter.corp.example/sdk")
			s.Post("cpu", "cluster-a", 0, "red", "yellow") // it no longer stands so
			s.Post("cpu", "cluster-a", 0, "yellow", "red")
			s.Post("cpu", "cluster-a", 0, "red", "yellow")
		}},
		"while the alarm stands so": {nil, func(s *sitetest.Site, r *preemption.WorkflowRequest) {
			r.Event.SetSource("https://10.161.164.224/sdk")
			s.VC.PurgeEvents()
		}},
		"by an alias": {[]string{"veba/prod"}, func(s *sitetest.Site, r *preemption.WorkflowRequest) {
			r.Event.SetSource("veba/prod")
			s.VC.PurgeEvents()
			s.Post("cpu", "cluster-a", 0, "red", "yellow")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t)
			s.Config = func(cfg *vcenter.Config) { cfg.Aliases = c.aliases }
			s.Worker()
			// An alarm that no other site has: their workers are asked too.
			req := preemption.WorkflowRequest{
				Tag: "preemptible", Criticality: preemption.CriticalityHigh,
				Event: sitetest.Routed(t, s.VC.URL(), s.Post("cpu", "cluster-a", 0, "green", "red")),
			}
			c.change(s, &req)
			s.Signal("alarm", req)
			sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundCompleted, 6)
		})
	}
}

func TestAnEventThatNobodyCouldVerifyIsVerifiedBeforeItIsActedUpon(t *testing.T) {
	t.Parallel()
	s, other := sitetest.New(t), sitetest.New(t)
	s.Worker()
	// An alarm that no other site has: their workers are asked too.
	cl := other.VC.Cluster("cluster-a")
	red, err := other.VC.PostAlarm(t.Context(), simulation.AlarmChange{Name: s.ID("cpu"), Entity: cl.Hosts[0].Ref, From: "green", To: "red", Cluster: cl.Ref})
	s.Must(err)
	req := preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: sitetest.Routed(t, other.VC.URL(), red)}
	s.VC.Stop()
	s.Signal("alarm", req)
	round := s.Started("alarm")
	s.Must(s.VC.Restart())
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	if !strings.Contains(strings.Join(r.Changes, "\n"), "not of this vCenter") {
		t.Errorf("%+v", r.Changes)
	}
}

func TestAnAcknowledgedAlarmStartsNothingUntilItStandsAnew(t *testing.T) {
	t.Parallel()
	for name, hush := range map[string]func(*sitetest.Site, bool) error{
		"acknowledged": func(s *sitetest.Site, on bool) error {
			if !on { // as a person resets it
				s.AlarmEvent("cluster-a", 0, "red", "red")
				return nil
			}
			return s.VC.AcknowledgeAlarm("cluster-cpu-above-80", s.VC.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`)
		},
		"actions are disabled": func(s *sitetest.Site, on bool) error { return s.VC.SetAlarmActions(s.VC.Cluster("cluster-a").Ref, !on) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Second) }))
			s.Worker()
			req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
			s.Must(hush(s, true))
			s.Signal("alarm", req)
			s.Until("alarm", "it is held, and says why", func(r preemptapi.Response) bool {
				return r.Round != nil && r.Round.State == preemptapi.RoundHeld && strings.Contains(r.Round.Reason, name) &&
					len(r.Deferred) == 1 && strings.Contains(r.Deferred[0].Reason, name)
			})
			if n := s.OffIn("cluster-a"); n != 0 {
				t.Errorf("%d VMs are off", n)
			}
			s.Must(hush(s, false))
			r := s.Until("alarm", "it is acted upon in the end", func(r preemptapi.Response) bool {
				return r.Round != nil && r.Round.State == preemptapi.RoundCompleted
			})
			sitetest.WantState(t, *r.Round, preemptapi.RoundCompleted, 6)
		})
	}
}

func TestAnAcknowledgementStopsRepetitionsAndNoRoundUnderWay(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 2, clock.Duration(time.Second), true
	}))
	s.VC.SetTaskDelay(2 * time.Second)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Started("alarm")
	s.Eventually("VMs are going off", func() bool { return s.Calls("PowerOffVM_Task") == 2 })
	s.Must(s.VC.AcknowledgeAlarm("cluster-cpu-above-80", s.VC.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`))
	s.Until("alarm", "the repetition is held", func(r preemptapi.Response) bool { return r.Round != nil && r.Round.State == preemptapi.RoundHeld })
	if n := s.OffIn("cluster-a"); n != 2 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestARuleMayActOnAnAcknowledgedAlarm(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Rules = []trigger.Rule{{Alarm: s.ID("cpu"), Action: trigger.Preempt{Tag: "preemptible", WhenSilenced: preemption.WhenSilencedAct}}}
	s.Worker()
	url := s.Receiver()
	red := s.Alarm("cluster-a", 0, "green", "red")
	s.Must(s.VC.AcknowledgeAlarm(s.ID("cpu"), s.VC.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`))
	s.Bring(url, sitetest.Routed(t, s.VC.URL(), red))
	sitetest.WantState(t, s.Done(s.Intake("cpu", "cluster-a")), preemptapi.RoundCompleted, 6)
}

func TestAnAlarmIsActedUponForAnEntityOnWhichNobodyAcknowledgedIt(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	s.AlarmEvent("cluster-a", 1, "green", "red")
	s.Must(s.VC.AcknowledgeAlarm("cluster-cpu-above-80", s.VC.Cluster("cluster-a").Hosts[0].Ref, `CORP\jane`))
	s.Signal("alarm", req)
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundCompleted, 6)
}

func TestAFallStampedBeforeItsRiseEndsTheAlarm(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 1, clock.Duration(time.Second), true
	}))
	s.Worker()
	url := s.Receiver()
	s.VC.SetClock(10 * time.Minute)
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	id := s.Intake("cpu", "cluster-a")
	sitetest.WantState(t, s.Done(id), preemptapi.RoundCompleted, 1)
	s.VC.SetClock(0)
	s.BringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	s.Until(id, "the fall is known", func(r preemptapi.Response) bool {
		return len(r.Levels) == 0 && len(r.Deferred) == 0 && r.State != preemptapi.IntakeRunning
	})
}

func TestTheWatchGoesOnWhenVCentersClockIsSetBack(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.VC.SetClock(10 * time.Minute)
	s.Worker()
	often := sitetest.QuickWatch
	often.Compare = time.Second // when the clock is looked at too
	s.Watch(often)
	s.Alarm("cluster-a", 0, "green", "red")
	first := s.Exists(s.Intake("cpu", "cluster-a"))
	s.Agree(s.Done(first))
	s.VC.SetClock(0)
	present := func(c watchapi.Checkpoint) bool { return c.Reached.Before(time.Now().Add(5 * time.Minute)) }
	s.Point("it reads from vCenter's present", present)
	since := time.Now()
	s.Point("what was stamped before does not lead it astray", func(c watchapi.Checkpoint) bool {
		if !present(c) {
			t.Fatal("it waits for a future that has been taken back")
		}
		return c.Compared.After(since.Add(2 * time.Second))
	})
	s.Alarm("cluster-b", 0, "green", "red")
	sitetest.WantState(t, s.Done(s.Exists(s.Intake("cpu", "cluster-b"))), preemptapi.RoundCompleted, 6)
	s.Alarm("cluster-a", 0, "red", "green")
	s.Until(first, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAnAlarmFromTheFutureIsCheckedBeforeEachRound(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 1, clock.Duration(time.Second), true
	}))
	s.Worker()
	s.VC.SetClock(10 * time.Minute)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundCompleted, 1)
	s.VC.SetClock(0)
	s.AlarmEvent("cluster-a", 0, "red", "green") // of which nobody tells
	s.Until("alarm", "vCenter says that it is over", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.AlarmOver && len(r.Levels) == 0 && len(r.Deferred) == 0
	})
	if n := s.OffIn("cluster-a"); n > 3 {
		t.Errorf("%d VMs are off", n)
	}
}

func TestAnAlarmOfAnEntityThatIsGonePreemptsNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	url := s.Receiver()
	red := s.Alarm("cluster-a", 0, "green", "red")
	s.Must(s.VC.RemoveEntity(s.VC.Cluster("cluster-a").Hosts[0].Ref))
	s.Bring(url, sitetest.Routed(t, s.VC.URL(), red))
	id := s.Intake("cpu", "cluster-a")
	r := s.Done(id)
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	if !strings.Contains(strings.Join(r.Changes, "\n"), "vCenter has no HostSystem:") {
		t.Errorf("%+v", r.Changes)
	}
	s.Until(id, "nothing stands", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAClusterThatIsRenamedWhileRedIsFollowed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 2, clock.Duration(time.Second), true
	}))
	s.Worker()
	cluster := s.VC.Cluster("cluster-a").Ref
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	first := s.Done("alarm")
	sitetest.WantState(t, first, preemptapi.RoundCompleted, 2)
	s.Must(s.VC.RenameEntity(cluster, "cluster-gold"))
	r := s.Until("alarm", "a repetition knows the new name", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.ScopeName == "cluster-gold"
	})
	sitetest.WantState(t, *r.Round, preemptapi.RoundCompleted, 2)
	if !strings.Contains(strings.Join(r.Round.Changes, "\n"), `"cluster-gold" now`) {
		t.Errorf("the new name is not told: %+v", r.Round.Changes)
	}
}

// repeating is a site whose alarm stands, with the usage of its cluster in percent after the first round.
func repeating(t *testing.T, cpu float64, prepare func(*sitetest.Site)) *sitetest.Site {
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.MaxVMs, p.Cooldown, p.RepeatWhileRed = 1, clock.Duration(time.Second), true
	}))
	prepare(s)
	s.Worker()
	s.Must(s.VC.SetClusterUsage("cluster-a", 95, 60))
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundCompleted, 1)
	s.Must(s.VC.SetClusterUsage("cluster-a", cpu, 60))
	return s
}

func TestARepetitionBelowTheAlarmsThresholdTakesNobody(t *testing.T) {
	t.Parallel()
	s := repeating(t, 50, func(s *sitetest.Site) {
		s.Must(s.VC.SetAlarmThresholds("cluster-cpu-above-80", simulation.CounterCPU, 70, 80))
	})
	before := s.OffIn("cluster-a")
	r := s.Until("alarm", "a repetition finds that nobody needs to go", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.State == preemptapi.RoundEmpty
	})
	if n := s.OffIn("cluster-a"); n > before+1 || len(r.Levels) != 1 { // one round may have begun before the usage fell
		t.Errorf("%d VMs are off: %s", n, sitetest.Pretty(r))
	}
}

func TestARepetitionAboveTheAlarmsThresholdGoesOn(t *testing.T) {
	t.Parallel()
	s := repeating(t, 95, func(s *sitetest.Site) {
		s.Must(s.VC.SetAlarmThresholds("cluster-cpu-above-80", simulation.CounterCPU, 70, 80))
	})
	s.Eventually("more VMs go", func() bool { return s.OffIn("cluster-a") >= 2 })
}

func TestARepetitionThatCannotMeasureWaits(t *testing.T) {
	t.Parallel()
	s := repeating(t, 50, func(s *sitetest.Site) { s.Settings.Timing.RepeatWait = 5 * time.Minute })
	r := s.Until("alarm", "the repetition waits", func(r preemptapi.Response) bool { return len(r.Deferred) == 1 })
	if wait := r.Deferred[0].Until.Sub(r.Round.EndedAt); wait < 4*time.Minute || s.OffIn("cluster-a") != 1 {
		t.Errorf("the repetition follows after %s; %d VMs are off", wait, s.OffIn("cluster-a"))
	}
}
