package events

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

func TestAnAlarmPostedInVCenterPreemptsAndItsFallEndsThat(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Alarm("cluster-a", 0, "green", "red")
	id := s.Exists(s.Intake("cpu", "cluster-a"))
	r := s.Done(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
	if r.Alarm != s.ID("cpu") || r.Criticality != "HIGH" {
		t.Errorf("alarm %q, criticality %s", r.Alarm, r.Criticality)
	}
	s.Alarm("cluster-a", 0, "red", "green")
	s.Until(id, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	c := s.Point("both were counted", func(c watchapi.Checkpoint) bool { return c.Sent == 2 && len(c.Levels) == 0 })
	if c.LastSent.To != "green" || c.LastSent.WorkflowID != s.ID(id) || c.Caught != 0 {
		t.Errorf("checkpoint: %+v", c)
	}
	if n := s.OffIn("cluster-b"); n != 0 {
		t.Errorf("%d VMs of another cluster are off", n)
	}
}

func TestYellowIsMediumAndTwoHostsOfOneClusterAreOnePreemption(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Alarm("cluster-a", 0, "green", "yellow")
	s.Alarm("cluster-a", 1, "green", "yellow")
	r := s.Done(s.Exists(s.Intake("cpu", "cluster-a")))
	if r.Criticality != "MEDIUM" {
		t.Errorf("criticality %s", r.Criticality)
	}
	s.Agree(r)
	if rounds := s.Rounds(); len(rounds) != 1 {
		t.Errorf("rounds: %v", rounds)
	}
}

func TestTheSameAlarmOnTwoClustersIsTwoPreemptions(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Alarm("cluster-a", 0, "green", "red")
	s.Alarm("cluster-b", 0, "green", "red")
	a, b := s.Done(s.Exists(s.Intake("cpu", "cluster-a"))), s.Done(s.Exists(s.Intake("cpu", "cluster-b")))
	s.Agree(a, b)
	if s.OffIn("cluster-a") == 0 || s.OffIn("cluster-b") == 0 {
		t.Error("one of the clusters was left alone")
	}
}

func TestAnAlarmThatNoRuleIsOnStartsNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Post("memory", "cluster-a", 0, "green", "red")
	s.Point("the event was read", func(c watchapi.Checkpoint) bool {
		return c.Events == 1 && c.Last != nil && c.Last.Alarm == s.ID("memory") && c.Sent == 0
	})
	if rounds := s.Rounds(); len(rounds) != 0 || s.OffIn("cluster-a") != 0 {
		t.Errorf("rounds: %v", rounds)
	}
}

func TestAnAlarmThatWasUpBeforeTheWatchBeganIsActedUpon(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Alarm("cluster-a", 0, "green", "red")
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Agree(s.Done(s.Exists(s.Intake("cpu", "cluster-a"))))
	s.Point("it was caught", func(c watchapi.Checkpoint) bool { return c.Caught == 1 && c.Sent == 1 })
}

func TestWhatRoseAndFellWhileNobodyWatchedStartsNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	first := s.Worker()
	s.Watch(sitetest.QuickWatch)
	first.Stop()
	s.Alarm("cluster-a", 0, "green", "red")
	s.Alarm("cluster-a", 0, "red", "green")
	s.Alarm("cluster-b", 0, "green", "red")
	s.Worker()
	s.Agree(s.Done(s.Exists(s.Intake("cpu", "cluster-b"))))
	if s.OffIn("cluster-a") != 0 {
		t.Error("an alarm that is over turned VMs off")
	}
}

func TestAFallThatNobodySawIsCaughtByComparingStates(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Alarm("cluster-a", 0, "green", "red")
	id := s.Exists(s.Intake("cpu", "cluster-a"))
	s.Done(id)
	cl := s.VC.Cluster("cluster-a")
	_, err := s.VC.PostAlarm(t.Context(), simulation.AlarmChange{
		Name: s.ID("cpu"), Entity: cl.Hosts[0].Ref, From: "red", To: "green", Cluster: cl.Ref, Silent: true,
	})
	s.Must(err)
	s.Until(id, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.Point("it was caught", func(c watchapi.Checkpoint) bool { return c.Caught == 1 && len(c.Levels) == 0 })
}

func TestAnAlarmThatTheAccountMayNoLongerSeeHasNotFallen(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Alarm("cluster-a", 0, "green", "red")
	id := s.Exists(s.Intake("cpu", "cluster-a"))
	s.Done(id)
	s.VC.HideObjects(s.VC.Alarm(s.ID("cpu")))
	hidden := time.Now()
	for range 2 {
		s.Point("states were compared since", func(c watchapi.Checkpoint) bool { return c.Compared.After(hidden) })
		hidden = time.Now()
	}
	if r := s.State(id); len(r.Levels) != 1 {
		t.Errorf("the alarm is taken for green: %s", sitetest.Pretty(r))
	}
}

func TestALateRequestWhoseAlarmHasFallenSinceStartsNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.AlarmAge = time.Nanosecond }))
	s.Worker()
	red := s.AlarmRequest("cluster-a", "HIGH")
	s.AlarmEvent("cluster-a", 0, "red", "green")
	s.Signal("late", red)
	r := s.Done("late")
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	if !r.AlarmOver || s.OffIn("cluster-a") != 0 {
		t.Errorf("alarm over: %v, off: %d", r.AlarmOver, s.OffIn("cluster-a"))
	}
	s.Until("late", "no level stands", func(r preemptapi.Response) bool { return len(r.Levels) == 0 && len(r.Deferred) == 0 })
}

func TestALateRequestIsActedUponWhileTheAlarmStandsOnAnotherHost(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.AlarmAge = time.Nanosecond }))
	s.Worker()
	red := s.AlarmRequest("cluster-a", "HIGH")
	s.AlarmEvent("cluster-a", 1, "green", "red")
	s.AlarmEvent("cluster-a", 0, "red", "green")
	s.Signal("late", red)
	sitetest.WantState(t, s.Done("late"), preemptapi.RoundCompleted, 6)
}

func TestTheWatchOutlivesVCenterAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	var said strings.Builder
	var mu sync.Mutex
	s.Log = slog.New(slog.NewTextHandler(guarded{&mu, &said}, nil))
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.VC.Stop()
	s.Point("the trouble is told", func(c watchapi.Checkpoint) bool { return c.Trouble != "" && !c.Since.IsZero() })
	time.Sleep(20 * sitetest.QuickWatch.Poll) // it tries again and again
	mu.Lock()
	if n := strings.Count(said.String(), "the watch cannot go on"); n != 1 {
		t.Errorf("it said so %d times:\n%s", n, said.String())
	}
	mu.Unlock()
	s.Must(s.VC.Restart())
	s.Follows()
	s.VC.TerminateSessions()
	s.Alarm("cluster-a", 0, "green", "red")
	s.Agree(s.Done(s.Exists(s.Intake("cpu", "cluster-a"))))
}

// guarded writes under a lock.
type guarded struct {
	mu *sync.Mutex
	w  io.Writer
}

func (g guarded) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.w.Write(b)
}

func TestAPausedWatchLooksAtNothingUntilItGoesOn(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Control(true)
	s.Must(watch.Ensure(s.T.Context(), s.Temporal, s.Queue, sitetest.QuickWatch)) // as a worker does that starts meanwhile
	s.Alarm("cluster-a", 0, "green", "red")
	time.Sleep(10 * sitetest.QuickWatch.Poll)
	if s.OffIn("cluster-a") != 0 {
		t.Error("a paused watch acted")
	}
	s.Control(false)
	s.Agree(s.Done(s.Exists(s.Intake("cpu", "cluster-a"))))
}
