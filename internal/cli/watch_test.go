package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// follow stands for the activity that follows vCenter's events.
type follow func(context.Context, watch.FollowInput) (watchapi.Checkpoint, error)

// Follow has the name by which the workflow calls the activity.
func (f follow) Follow(ctx context.Context, in watch.FollowInput) (watchapi.Checkpoint, error) {
	return f(ctx, in)
}

// following tells the checkpoint until it is cancelled, as the activity does.
func following(c watchapi.Checkpoint) follow {
	return func(ctx context.Context, in watch.FollowInput) (watchapi.Checkpoint, error) {
		c := c
		c.Events = max(c.Events, in.Checkpoint.Events) + 1 // each activity reads one
		for {
			activity.RecordHeartbeat(ctx, c)
			select {
			case <-ctx.Done():
				return c, nil
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// newWatchSite is a site whose worker has the watch, with that activity.
func newWatchSite(t *testing.T, f follow) *site {
	t.Helper()
	s := newUnwatchedSite(t)
	w := worker.New(s.client, s.queue, worker.Options{WorkerStopTimeout: time.Millisecond, MaxHeartbeatThrottleInterval: 20 * time.Millisecond})
	watch.RegisterWorkflow(w)
	w.RegisterActivityWithOptions(f.Follow, activity.RegisterOptions{Name: watchapi.ActivityType})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	s.awaitPoller()
	return s
}

// newUnwatchedSite is a site without a worker. Its watch, if any, ends with the test.
func newUnwatchedSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t, false)
	t.Cleanup(func() {
		_ = s.client.TerminateWorkflow(context.Background(), watchapi.WorkflowID(s.queue), "", "the test is over")
	})
	return s
}

// watchResult is what the commands print as JSON.
type watchResult struct {
	State, Why, Execution, Lag, PausedReason, Failure, Done, Effect string
	DryRun, WorkerPolling                                           bool
	Attempt                                                         int
	Checkpoint                                                      watchapi.Checkpoint
}

// becomes waits until the watch is in a state, and returns what status says then.
func (s *site) becomes(t *testing.T, state string) outcome {
	t.Helper()
	eventually(t, "the watch is "+state, func() bool { return s.watchStatus(t).State == state })
	return s.run("watch", "status")
}

func (s *site) watchStatus(t *testing.T) watchResult {
	t.Helper()
	return decode[watchResult](t, s.run("watch", "status", "-o", "json").stdout)
}

// checkpoint is that of a watch that has seen something. Its last look is never long ago, however slow the test.
func checkpoint() watchapi.Checkpoint {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sent := watchapi.Note{
		Time: at, At: at.Add(time.Second), Class: "AlarmStatusChangedEvent", Alarm: "cpu", Entity: "HostSystem:host-21", To: "red",
		Rule: "cpu*", WorkflowID: "cpu@domain-c7", What: "HIGH preemption",
	}
	ignored := watchapi.Note{Time: at.Add(time.Minute), Class: "AlarmStatusChangedEvent", Alarm: "evil\x1b[31m", To: "green", Reason: "no rule is on it"}
	refused := watchapi.Note{
		Time: at.Add(2 * time.Minute), Class: "AlarmStatusChangedEvent", Alarm: "memory", To: "red",
		Reason: "criticality HIGH is above limits.maxCriticality MEDIUM",
	}
	return watchapi.Checkpoint{
		VCenter: "https://vc/sdk", Worker: "7@here", LookedAt: time.Now().Add(time.Hour), Reached: at, Compared: at, Events: 41, Sent: 3, Caught: 2, Refused: 1,
		Seen: []watchapi.Mark{{Key: 1, Time: at}}, Last: &ignored, LastSent: &sent, LastRefused: &refused,
		Levels: []watchapi.Level{{
			Alarm: watchapi.Object{Type: "Alarm", Value: "alarm-2", Name: "cpu"}, Entity: watchapi.Object{Type: "HostSystem", Value: "host-21", Name: "esx-1"},
			Scope: watchapi.Object{Type: "ClusterComputeResource", Value: "domain-c7"}, Colour: "red", Time: at,
		}},
	}
}

func TestWatchStatusShowsWhoFollowsAndWhatBecameOfTheEvents(t *testing.T) {
	s := newWatchSite(t, following(checkpoint()))
	s.run("watch", "start").want(t, 0, "stdout", "vcenter-watch@"+s.queue, "started", "watch status")
	got := s.becomes(t, "following")
	got.want(
		t, 0, "stdout", "vcenter-watch@"+s.queue+" (following)", "https://vc/sdk", "7@here", "2026-01-02 03:04:05Z",
		"42 read, 3 handed on, 2 caught by comparing states, 1 refused",
		`2026-01-02 03:05:05Z evil\x1b[31m to green: no rule is on it`,
		"2026-01-02 03:04:06Z cpu@domain-c7: HIGH preemption",
		"last refused", "2026-01-02 03:06:05Z memory to red: criticality HIGH is above limits.maxCriticality MEDIUM",
		"IN ALARM", "esx-1 (host-21)", "cpu (alarm-2)", "ClusterComputeResource:domain-c7",
	)
	if strings.Contains(got.stdout+got.stderr, "\x1b") {
		t.Error("control characters reach the terminal")
	}
	st := s.watchStatus(t)
	if st.State != "following" || st.Execution != "running" || st.Lag == "" || !st.WorkerPolling || st.Attempt != 1 || st.Checkpoint.Sent != 3 || len(st.Checkpoint.Seen) != 0 {
		t.Errorf("%+v", st)
	}
	s.run("watch", "status", "-o", "yaml").want(t, 0, "stdout", "state: following", "worker: 7@here")
	s.run("watch", "status", "--json").want(t, 0, "stdout", `"msg":"retrieved watch status"`, `"state":"following"`)
}

func TestWatchStatusFailsWhereNobodyFollows(t *testing.T) {
	noRules := func(context.Context, watch.FollowInput) (watchapi.Checkpoint, error) {
		return watchapi.Checkpoint{}, sdktemporal.NewApplicationErrorWithOptions("this worker's configuration has no rules", "NoRules",
			sdktemporal.ApplicationErrorOptions{NextRetryDelay: time.Minute})
	}
	troubled, behind := checkpoint(), checkpoint()
	troubled.Trouble, troubled.Since = "vCenter is on fire", troubled.Reached
	behind.LookedAt = time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		follow follow
		state  string
		says   string
	}{
		"in trouble":        {following(troubled), "in trouble", "vCenter is on fire (since 2026-01-02 03:04:05Z"},
		"long without look": {following(behind), "behind", "vCenter last answered at"},
		"never looked":      {following(watchapi.Checkpoint{}), "starting", "it reads vCenter for the first time"},
		"no rules":          {noRules, "failing", "this worker's configuration has no rules"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newWatchSite(t, c.follow)
			s.run("watch", "start").want(t, 0, "stdout")
			got := s.becomes(t, c.state)
			got.want(t, 1, "stdout", "vcenter-watch@"+s.queue+" ("+c.state+")", c.says)
			got.want(t, 1, "stderr", "Error: vCenter's events are not followed for task queue "+s.queue+": ", c.says)
		})
	}
}

func TestWatchStatusFailsWhereTheWorkerWasNotHeardOfForLong(t *testing.T) {
	s := newWatchSite(t, following(checkpoint()))
	s.run("watch", "start").want(t, 0, "stdout")
	s.becomes(t, "following").want(t, 0, "stdout", "following")
	later := optionsAt(time.Now().Add(time.Hour)) // and so a clock that is wrong about the worker's polls
	preemptctl(t, later, "watch", "status", "-s", s.address, "-q", s.queue).want(t, 1, "stderr", "worker 7@here was last heard of at")
}

func TestAWatchThatIsNotThereIsNotFound(t *testing.T) {
	s := newSite(t, false)
	for _, verb := range []string{"status", "stop"} {
		s.run("watch", verb).want(t, 3, "stderr", "no watch of vCenter's events for task queue "+s.queue, "a worker whose file has rules starts it",
			"preemptctl watch start --server "+s.address)
	}
}

func TestAWatchWithoutAWorker(t *testing.T) {
	s := newUnwatchedSite(t)
	got := s.run("watch", "start")
	got.want(t, 0, "stderr", "Warning: no worker polls task queue "+s.queue)
	got.want(t, 0, "stdout", "started")
	s.run("watch", "status").want(t, 1, "stderr", "no worker polls task queue "+s.queue)
	s.run("watch", "stop").want(t, 1, "stderr", "the pause stays queued until one starts")
	s.run("watch", "start").want(t, 0, "stdout", "resumed")
}

func TestAPauseOutlivesTheActivityUntilTheWatchIsStartedAgain(t *testing.T) {
	s := newWatchSite(t, following(checkpoint()))
	s.run("watch", "start").want(t, 0, "stdout", "started")
	s.run("watch", "start").want(t, 0, "stdout", "unchanged", "it runs, and is not paused")
	s.becomes(t, "following").want(t, 0, "stdout", "following")

	dry := decode[watchResult](t, s.run("watch", "stop", "--dry-run", "-o", "json").stdout)
	if dry.Done != "paused" || !dry.DryRun {
		t.Errorf("%+v", dry)
	}
	s.becomes(t, "following").want(t, 0, "stdout", "following")

	got := s.run("watch", "stop", "--reason", "evil \x1b[31mred")
	got.want(t, 0, "stdout", "paused", "until the watch is started again", "preemptctl watch start")
	got.want(t, 0, "stderr", "waiting until worker 7@here")
	d, err := s.client.DescribeWorkflowExecution(t.Context(), watchapi.WorkflowID(s.queue), "")
	if err != nil || len(d.GetPendingActivities()) != 0 {
		t.Errorf("somebody still follows: %v, %v", d.GetPendingActivities(), err)
	}
	s.run("watch", "status").want(t, 0, "stdout", "(paused)", `evil \x1b[31mred`, "to continue", "42 read")
	s.run("watch", "stop").want(t, 0, "stdout", "unchanged", "it is paused already, since 20", `evil \x1b[31mred`)

	s.run("watch", "start", "--dry-run").want(t, 0, "stdout", "would be resumed")
	s.run("watch", "status").want(t, 0, "stdout", "(paused)")
	s.run("watch", "start").want(t, 0, "stdout", "resumed", "where it stopped")
	s.becomes(t, "following").want(t, 0, "stdout", "(following)", "43 read")
}

func TestAWatchThatEndedIsStartedAnew(t *testing.T) {
	s := newWatchSite(t, following(checkpoint()))
	id := watchapi.WorkflowID(s.queue)
	s.run("watch", "start").want(t, 0, "stdout")
	s.becomes(t, "following").want(t, 0, "stdout", "following")
	if err := s.client.TerminateWorkflow(t.Context(), id, "", "a test"); err != nil {
		t.Fatal(err)
	}
	s.run("watch", "status").want(t, 1, "stderr", "the watch is terminated; start it: preemptctl watch start")
	s.run("watch", "stop").want(t, 3, "stderr", "nothing to pause: the watch "+id+" is terminated")
	s.run("watch", "start").want(t, 0, "stdout", "started")
	s.becomes(t, "following").want(t, 0, "stdout", "following")
	if err := s.client.CancelWorkflow(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch has ended", func() bool { return s.watchStatus(t).Execution == "completed" })
	s.run("watch", "status").want(t, 1, "stdout", "(ended)", "42 read")
}

func TestAPauseThatIsNotWaitedForStands(t *testing.T) {
	release := make(chan struct{})
	s := newWatchSite(t, func(ctx context.Context, _ watch.FollowInput) (watchapi.Checkpoint, error) {
		c := checkpoint()
		for {
			activity.RecordHeartbeat(ctx, c)
			select {
			case <-release:
				return c, nil
			case <-time.After(20 * time.Millisecond): // deaf to its cancellation
			}
		}
	})
	s.run("watch", "start").want(t, 0, "stdout")
	s.becomes(t, "following").want(t, 0, "stdout", "following")
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan outcome, 1)
	go func() { stopped <- s.runCtx(ctx, "watch", "stop") }()
	s.becomes(t, "paused")
	cancel()
	(<-stopped).want(t, 130, "stderr", "interrupted: the watch stays paused; look: preemptctl watch status")
	close(release)
	eventually(t, "nobody follows", func() bool {
		d, err := s.client.DescribeWorkflowExecution(t.Context(), watchapi.WorkflowID(s.queue), "")
		return err == nil && len(d.GetPendingActivities()) == 0
	})
}

func TestAnotherWorkflowUnderTheWatchsIDIsLeftAlone(t *testing.T) {
	s := newSite(t, false)
	opts := client.StartWorkflowOptions{ID: watchapi.WorkflowID(s.queue), TaskQueue: s.queue}
	if _, err := s.client.ExecuteWorkflow(t.Context(), opts, "Other"); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"status", "start", "stop"} {
		s.run("watch", verb).want(t, 1, "stderr", "is a Other, not the watch of vCenter's events")
	}
}

func TestTheReasonOfAPauseIsBounded(t *testing.T) {
	got := preemptctl(t, cli.Options{}, "watch", "stop", "--reason", strings.Repeat("x", 501))
	got.want(t, 2, "stderr", "--reason is 501 bytes long: at most 500 are taken")
}
