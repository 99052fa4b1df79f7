package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// rulesOn makes of each name, glob or MoRef a rule that preempts.
func rulesOn(alarms ...string) (rules []trigger.Rule) {
	for _, name := range alarms {
		rules = append(rules, trigger.Rule{Alarm: name, Action: trigger.Preempt{Tag: "preemptible"}})
	}
	return rules
}

func alarmsOf(rules []trigger.Rule) (alarms []string) {
	for _, r := range rules {
		alarms = append(alarms, r.Alarm)
	}
	return alarms
}

func vcenterHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}

// quickWatch looks more often than the watch does in production.
var quickWatch = watch.Timing{Poll: 50 * time.Millisecond, Compare: 2 * time.Second, Heartbeat: 2 * time.Second, Lease: time.Minute}

// watched is a site whose worker watches for the alarm "cpu", known by the site's own name for it.
func watched(t testing.TB, opts ...siteOption) *site {
	t.Helper()
	s := newSite(t, opts...)
	s.rules = rulesOn(s.id("cpu"))
	return s
}

// watch starts the watch and waits until it follows.
func (s *site) watch(timing watch.Timing) {
	s.t.Helper()
	s.must(watch.Ensure(s.t.Context(), s.c, s.queue, timing))
	s.follows()
}

// follows waits until the watch has looked at vCenter.
func (s *site) follows() watchapi.Checkpoint {
	s.t.Helper()
	return s.point("the watch follows", func(c watchapi.Checkpoint) bool { return !c.Compared.IsZero() && c.Trouble == "" })
}

// point polls the watch's checkpoint, from the heartbeat of its activity, until ok says so.
func (s *site) point(what string, ok func(watchapi.Checkpoint) bool) (c watchapi.Checkpoint) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		d, err := s.c.DescribeWorkflowExecution(s.t.Context(), watchapi.WorkflowID(s.queue), "")
		if err != nil {
			s.t.Fatal(err)
		}
		if len(d.PendingActivities) == 0 || d.PendingActivities[0].HeartbeatDetails == nil {
			continue
		}
		c = watchapi.Checkpoint{}
		if err := converter.GetDefaultDataConverter().FromPayloads(d.PendingActivities[0].HeartbeatDetails, &c); err != nil {
			s.t.Fatal(err)
		}
		if ok(c) {
			return c
		}
	}
	b, _ := json.MarshalIndent(c, "", " ")
	s.t.Fatalf("never: %s; last checkpoint:\n%s", what, b)
	return c
}

// alarm posts a change of the site's alarm on a host of a cluster.
func (s *site) alarm(cluster string, host int, from, to string) types.AlarmStatusChangedEvent {
	s.t.Helper()
	return s.post("cpu", cluster, host, from, to)
}

func (s *site) post(name, cluster string, host int, from, to string) types.AlarmStatusChangedEvent {
	s.t.Helper()
	cl := s.vc.Cluster(cluster)
	ev, err := s.vc.PostAlarm(s.t.Context(), simulation.AlarmChange{
		Name: s.id(name), Entity: cl.Hosts[host].Ref, From: from, To: to, Cluster: cl.Ref,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return ev
}

// intake is the id, without the site's own part, of the intake of an alarm on a cluster.
func (s *site) intake(name, cluster string) string {
	return name + "@" + s.vc.Cluster(cluster).Ref.Value + "@" + s.queue
}

// exists waits until a workflow of the id is there.
func (s *site) exists(id string) string {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		_, err := s.c.DescribeWorkflowExecution(s.t.Context(), s.id(id), "")
		var missing *serviceerror.NotFound
		if err == nil {
			return id
		}
		if !errors.As(err, &missing) {
			s.t.Fatal(err)
		}
	}
	s.t.Fatalf("there is no workflow %s", s.id(id))
	return id
}

func TestAnAlarmPostedInVCenterPreemptsAndItsFallEndsThat(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.alarm("cluster-a", 0, "green", "red")
	id := s.exists(s.intake("cpu", "cluster-a"))
	r := s.done(id)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
	if r.Alarm != s.id("cpu") || r.Criticality != "HIGH" {
		t.Errorf("alarm %q, criticality %s", r.Alarm, r.Criticality)
	}
	s.alarm("cluster-a", 0, "red", "green")
	s.until(id, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	c := s.point("both were counted", func(c watchapi.Checkpoint) bool { return c.Sent == 2 && len(c.Levels) == 0 })
	if c.LastSent.To != "green" || c.LastSent.WorkflowID != s.id(id) || c.Caught != 0 {
		t.Errorf("checkpoint: %+v", c)
	}
	if n := s.off("cluster-b"); n != 0 {
		t.Errorf("%d VMs of another cluster are off", n)
	}
}

func TestYellowIsMediumAndTwoHostsOfOneClusterAreOnePreemption(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.alarm("cluster-a", 0, "green", "yellow")
	s.alarm("cluster-a", 1, "green", "yellow")
	r := s.done(s.exists(s.intake("cpu", "cluster-a")))
	if r.Criticality != "MEDIUM" {
		t.Errorf("criticality %s", r.Criticality)
	}
	s.agree(r)
	if rounds := s.rounds(); len(rounds) != 1 {
		t.Errorf("rounds: %v", rounds)
	}
}

func TestTheSameAlarmOnTwoClustersIsTwoPreemptions(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.alarm("cluster-a", 0, "green", "red")
	s.alarm("cluster-b", 0, "green", "red")
	a, b := s.done(s.exists(s.intake("cpu", "cluster-a"))), s.done(s.exists(s.intake("cpu", "cluster-b")))
	s.agree(a, b)
	if s.off("cluster-a") == 0 || s.off("cluster-b") == 0 {
		t.Error("one of the clusters was left alone")
	}
}

func TestAnAlarmThatNoRuleIsOnStartsNothing(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.post("memory", "cluster-a", 0, "green", "red")
	s.point("the event was read", func(c watchapi.Checkpoint) bool {
		return c.Events == 1 && c.Last != nil && c.Last.Alarm == s.id("memory") && c.Sent == 0
	})
	if rounds := s.rounds(); len(rounds) != 0 || s.off("cluster-a") != 0 {
		t.Errorf("rounds: %v", rounds)
	}
}

func TestAnAlarmThatWasUpBeforeTheWatchBeganIsActedUpon(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.alarm("cluster-a", 0, "green", "red")
	s.worker()
	s.watch(quickWatch)
	s.agree(s.done(s.exists(s.intake("cpu", "cluster-a"))))
	s.point("it was caught", func(c watchapi.Checkpoint) bool { return c.Caught == 1 && c.Sent == 1 })
}

func TestWhatRoseAndFellWhileNobodyWatchedStartsNothing(t *testing.T) {
	t.Parallel()
	s := watched(t)
	first := s.worker()
	s.watch(quickWatch)
	first.stop()
	s.alarm("cluster-a", 0, "green", "red")
	s.alarm("cluster-a", 0, "red", "green")
	s.alarm("cluster-b", 0, "green", "red")
	s.worker()
	s.agree(s.done(s.exists(s.intake("cpu", "cluster-b"))))
	if s.off("cluster-a") != 0 {
		t.Error("an alarm that is over turned VMs off")
	}
}

func TestAFallThatNobodySawIsCaughtByComparingStates(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.alarm("cluster-a", 0, "green", "red")
	id := s.exists(s.intake("cpu", "cluster-a"))
	s.done(id)
	cl := s.vc.Cluster("cluster-a")
	_, err := s.vc.PostAlarm(t.Context(), simulation.AlarmChange{
		Name: s.id("cpu"), Entity: cl.Hosts[0].Ref, From: "red", To: "green", Cluster: cl.Ref, Silent: true,
	})
	s.must(err)
	s.until(id, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.point("it was caught", func(c watchapi.Checkpoint) bool { return c.Caught == 1 && len(c.Levels) == 0 })
}

func TestAnAlarmThatTheAccountMayNoLongerSeeHasNotFallen(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.alarm("cluster-a", 0, "green", "red")
	id := s.exists(s.intake("cpu", "cluster-a"))
	s.done(id)
	s.vc.HideObjects(s.vc.Alarm(s.id("cpu")))
	hidden := time.Now()
	for range 2 {
		s.point("states were compared since", func(c watchapi.Checkpoint) bool { return c.Compared.After(hidden) })
		hidden = time.Now()
	}
	if r := s.state(id); len(r.Levels) != 1 {
		t.Errorf("the alarm is taken for green: %s", pretty(r))
	}
}

func TestALateRequestWhoseAlarmHasFallenSinceStartsNothing(t *testing.T) {
	t.Parallel()
	s := watched(t, withSettings(func(set *preempt.Settings) { set.Timing.AlarmAge = time.Nanosecond }))
	s.worker()
	red := s.alarmRequest("cluster-a", "HIGH")
	s.alarmEvent("cluster-a", 0, "red", "green")
	s.signal("late", red)
	r := s.done("late")
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	if !r.AlarmOver || s.off("cluster-a") != 0 {
		t.Errorf("alarm over: %v, off: %d", r.AlarmOver, s.off("cluster-a"))
	}
	s.until("late", "no level stands", func(r preemptapi.Response) bool { return len(r.Levels) == 0 && len(r.Deferred) == 0 })
}

func TestALateRequestIsActedUponWhileTheAlarmStandsOnAnotherHost(t *testing.T) {
	t.Parallel()
	s := watched(t, withSettings(func(set *preempt.Settings) { set.Timing.AlarmAge = time.Nanosecond }))
	s.worker()
	red := s.alarmRequest("cluster-a", "HIGH")
	s.alarmEvent("cluster-a", 1, "green", "red")
	s.alarmEvent("cluster-a", 0, "red", "green")
	s.signal("late", red)
	wantState(t, s.done("late"), preemptapi.RoundCompleted, 6)
}

func TestTheWatchOutlivesVCenterAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	s := watched(t)
	var said strings.Builder
	var mu sync.Mutex
	s.log = slog.New(slog.NewTextHandler(guarded{&mu, &said}, nil))
	s.worker()
	s.watch(quickWatch)
	s.vc.Stop()
	s.point("the trouble is told", func(c watchapi.Checkpoint) bool { return c.Trouble != "" && !c.Since.IsZero() })
	time.Sleep(20 * quickWatch.Poll) // it tries again and again
	mu.Lock()
	if n := strings.Count(said.String(), "the watch cannot go on"); n != 1 {
		t.Errorf("it said so %d times:\n%s", n, said.String())
	}
	mu.Unlock()
	s.must(s.vc.Restart())
	s.follows()
	s.vc.TerminateSessions()
	s.alarm("cluster-a", 0, "green", "red")
	s.agree(s.done(s.exists(s.intake("cpu", "cluster-a"))))
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
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	s.control(true)
	s.must(watch.Ensure(s.t.Context(), s.c, s.queue, quickWatch)) // as a worker does that starts meanwhile
	s.alarm("cluster-a", 0, "green", "red")
	time.Sleep(10 * quickWatch.Poll)
	if s.off("cluster-a") != 0 {
		t.Error("a paused watch acted")
	}
	s.control(false)
	s.agree(s.done(s.exists(s.intake("cpu", "cluster-a"))))
}

// control pauses the watch or lets it go on, and waits until it does.
func (s *site) control(paused bool) {
	s.t.Helper()
	id := watchapi.WorkflowID(s.queue)
	s.must(s.c.SignalWorkflow(s.t.Context(), id, "", watchapi.ControlSignal, watchapi.Control{Paused: paused, Reason: "a test"}))
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		d, err := s.c.DescribeWorkflowExecution(s.t.Context(), id, "")
		if err != nil {
			s.t.Fatal(err)
		}
		if (len(d.PendingActivities) == 0) == paused {
			return
		}
	}
	s.t.Fatalf("the watch did not become paused=%v", paused)
}

// rounds lists the ids of the site's rounds.
func (s *site) rounds() (ids []string) {
	s.t.Helper()
	list, err := s.c.ListWorkflow(s.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = %q AND TaskQueue = %q", preemptapi.RoundType, s.queue), PageSize: 1000,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range list.GetExecutions() {
		ids = append(ids, e.GetExecution().GetWorkflowId())
	}
	return ids
}
