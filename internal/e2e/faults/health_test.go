package faults

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
	ours "github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// redWithin is what is promised: a fault shows within two minutes.
const redWithin = 2 * time.Minute

// ward is a task queue with workers that are broken on purpose, and a monitor as a worker has it.
type ward struct {
	t       *testing.T
	c       client.Client
	queue   string
	monitor *health.Monitor
	metrics *telemetry.Metrics
}

func newWard(t *testing.T) *ward {
	t.Helper()
	s := &sitetest.Site{T: t, Server: sitetest.Shared, Log: slog.New(slog.DiscardHandler)}
	return &ward{t: t, c: s.Dial(), queue: fmt.Sprintf("ward%d", sitetest.NextID.Add(1)), metrics: telemetry.NewMetrics(telemetry.Build{}, telemetry.Worker)}
}

// worker starts a worker that can at least do the probe.
func (w *ward) worker(register func(worker.Registry)) worker.Worker {
	w.t.Helper()
	k := worker.New(w.c, w.queue, worker.Options{WorkerStopTimeout: time.Second})
	health.Register(k)
	register(k)
	if err := k.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(k.Stop)
	return k
}

// watched starts the monitor, and checks that it is green.
func (w *ward) watched(every time.Duration) {
	w.t.Helper()
	w.monitor = &health.Monitor{
		Namespace: sitetest.Shared.Namespace(), TaskQueue: w.queue, Every: every, Metrics: w.metrics.ForTemporal(), Log: sitetest.TestLog(w.t),
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.monitor.Run(ctx, w.c) }()
	w.t.Cleanup(func() { cancel(); <-done })
	for deadline := time.Now().Add(time.Minute); w.monitor.Report().At.IsZero(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("there is no report")
		}
	}
	if err := w.monitor.Ready(w.t.Context()); err != nil {
		w.t.Fatalf("it is red before there is a fault: %v", err)
	}
}

// start starts a workflow.
func (w *ward) start(id, kind string, args ...any) {
	w.t.Helper()
	if _, err := w.c.ExecuteWorkflow(w.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: w.queue}, kind, args...); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = w.c.TerminateWorkflow(context.Background(), id, "", "end of the test") })
}

// red waits until the monitor names the workflow, and returns how long that took.
func (w *ward) red(id string) (health.Stall, time.Duration) {
	w.t.Helper()
	began := time.Now()
	for time.Since(began) < redWithin {
		if s, ok := w.monitor.Report().Of(id); ok {
			return s, time.Since(began)
		}
		time.Sleep(200 * time.Millisecond)
	}
	w.t.Fatalf("%s is not red within %s", id, redWithin)
	return health.Stall{}, 0
}

// fault is one of the faults that once stopped everything in silence.
type fault struct {
	name, kind string // the type of the workflow that is red
	want       health.Kind
	cause      []string
	put        func(w *ward) (id string)
}

func panics(workflow.Context) error {
	panic("index out of range [3] with https://admin:s3cret@vc.example/sdk")
}

func deadlocks(workflow.Context) error {
	time.Sleep(3 * time.Second) // longer than a workflow task may compute
	return nil
}

// swells answers a task with more than Temporal takes in one message.
func swells(ctx workflow.Context) error {
	for range 5 {
		workflow.SideEffect(ctx, func(workflow.Context) any { return strings.Repeat("x", 1<<20) })
	}
	return workflow.Sleep(ctx, time.Hour)
}

func named(f any, name string) func(worker.Registry) {
	return func(r worker.Registry) { r.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name}) }
}

// faults are those of issue 10, A1 to A5, by their symptoms, so that they stay faults when their causes are gone.
func faults() []fault {
	return []fault{
		{"1 a ledger that continued as the watch", ledger.WorkflowType, health.WrongType, []string{watchapi.WorkflowType}, func(w *ward) string {
			w.worker(named(waits, watchapi.WorkflowType))
			w.watched(0)
			w.start(ledger.WorkflowID(w.queue), watchapi.WorkflowType)
			return ledger.WorkflowID(w.queue)
		}},
		{"2 a round of a deadlock", preemptapi.RoundType, health.TaskFails, []string{"deadlock"}, func(w *ward) string {
			w.worker(named(deadlocks, preemptapi.RoundType))
			w.watched(0)
			w.start("preemption-round-"+w.queue, preemptapi.RoundType)
			return "preemption-round-" + w.queue
		}},
		{"3 a watch that cannot hand over", watchapi.WorkflowType, health.Trouble, []string{"not ASCII"}, func(w *ward) string {
			w.worker(func(r worker.Registry) {
				watch.RegisterWorkflow(r)
				r.RegisterActivityWithOptions(troubled, activity.RegisterOptions{Name: watchapi.ActivityType})
			})
			w.watched(0)
			w.start(watchapi.WorkflowID(w.queue), watchapi.WorkflowType, watch.Input{Timing: watch.DefaultTiming()})
			return watchapi.WorkflowID(w.queue)
		}},
		{"4 an intake whose task fails", preemption.WorkflowName, health.TaskFails, []string{"index out of range", "xxxxx@vc.example"}, func(w *ward) string {
			w.worker(named(panics, preemption.WorkflowName))
			w.watched(0)
			w.start("alarm-"+w.queue, preemption.WorkflowName)
			return "alarm-" + w.queue
		}},
		{"4 an intake that Temporal itself ended", preemption.WorkflowName, health.Ended, []string{"Temporal ended it", "GrpcMessageTooLarge"}, func(w *ward) string {
			w.worker(named(swells, preemption.WorkflowName))
			w.watched(0)
			w.start("swollen-"+w.queue, preemption.WorkflowName)
			return "swollen-" + w.queue
		}},
		{"5 the run of a prototype", preemption.WorkflowName, health.TaskFails, []string{"NonDeterministicError", "TMPRL1100"}, func(w *ward) string {
			return w.prototype()
		}},
	}
}

func waits(ctx workflow.Context) error { return workflow.Sleep(ctx, time.Hour) }

// troubled is a watch that can never hand over.
func troubled(ctx context.Context, _ watch.FollowInput) (c watchapi.Checkpoint, err error) {
	c.Trouble, c.Since = "hand over alarm Größe: the header is not ASCII", time.Now()
	for ctx.Err() == nil {
		activity.RecordHeartbeat(ctx, c)
		time.Sleep(200 * time.Millisecond)
	}
	return c, ctx.Err()
}

// prototype leaves a run that another program began, and has our worker take it over.
func (w *ward) prototype() string {
	w.watched(0)
	for n := range 5 {
		id := fmt.Sprintf("preempctl-run-%d-%s", n, w.queue)
		w.prototypeSleeps(id)
		k := w.worker(func(r worker.Registry) { ours.RegisterRooms(r) })
		w.must(w.c.SignalWorkflow(w.t.Context(), id, "", preemption.SignalChannel, map[string]string{"tag": "preemptible"}))
		if w.taskFailed(id) {
			return id
		}
		k.Stop()
		w.must(w.c.TerminateWorkflow(w.t.Context(), id, "", "its task went to the worker that had stopped"))
	}
	w.t.Fatal("no task of a prototype's run ever reached our worker")
	return ""
}

// prototypeSleeps has the prototype's program begin a run that waits for an hour, and stops the program.
func (w *ward) prototypeSleeps(id string) {
	w.t.Helper()
	theirs := w.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
			if err := workflow.ExecuteActivity(ctx, "GetPreemptibleVMs").Get(ctx, nil); err != nil {
				return err
			}
			return workflow.Sleep(ctx, time.Hour)
		}, workflow.RegisterOptions{Name: preemption.WorkflowName})
		r.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "GetPreemptibleVMs"})
	})
	w.start(id, preemption.WorkflowName)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		d, err := w.c.DescribeWorkflowExecution(w.t.Context(), id, "")
		if err == nil && d.GetWorkflowExecutionInfo().GetHistoryLength() >= 11 {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the prototype's run never slept")
		}
	}
	theirs.Stop()
}

// taskFailed waits for what becomes of a run's next task, and is false where it ended by its time. A server that has not
// yet heard that a worker stopped gives it the task, and of a row of failures only the first is recorded.
func (w *ward) taskFailed(id string) bool {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		for it := w.c.GetWorkflowHistory(w.t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			e, err := it.Next()
			w.must(err)
			switch e.GetEventType() {
			case enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED:
				return true
			case enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
				if e.GetWorkflowTaskTimedOutEventAttributes().GetTimeoutType() == enumspb.TIMEOUT_TYPE_START_TO_CLOSE {
					return false
				}
			}
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the next task of %s neither fails nor ends by its time", id)
		}
	}
}

func TestEachFaultThatOnceStoppedEverythingTurnsHealthRedWithinTwoMinutes(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t)
			id := f.put(w)
			s, took := w.red(id)
			t.Logf("RED after %5.1f s  %-45s %s: %s", took.Seconds(), f.name, s.Kind, s.Cause)
			if s.Type != f.kind || s.Kind != f.want {
				t.Errorf("it is a %s of %s, want %s of %s", s.Kind, s.Type, f.want, f.kind)
			}
			if !sitetest.ContainsAll(s.Cause, f.cause...) || strings.Contains(s.Cause, "s3cret") {
				t.Errorf("the cause is %q, want %q in it", s.Cause, f.cause)
			}
			err := w.monitor.Ready(t.Context())
			if err == nil || !sitetest.ContainsAll(err.Error(), id, f.kind, s.Cause, s.Remedy) || s.Remedy == "" {
				t.Errorf("/readyz says %v, which does not name the workflow, its cause and the remedy", err)
			}
			if got := scraped(w.metrics, "preemption_stalled_workflows", f.kind); got != "1" {
				t.Errorf("preemption_stalled_workflows of %s is %q", f.kind, got)
			}
			one, err := (&health.Looker{Client: w.c, Namespace: sitetest.Shared.Namespace(), TaskQueue: w.queue}).Look(t.Context())
			if _, ok := one.Of(id); err != nil || !ok {
				t.Errorf("a single look, as preemptctl takes it, does not find it: %+v %v", one, err)
			}
			w.free(s)
			w.green()
		})
	}
}

// free ends what is stalled, or deletes what has been ended.
func (w *ward) free(s health.Stall) {
	w.t.Helper()
	if s.Kind != health.Ended {
		w.must(w.c.TerminateWorkflow(w.t.Context(), s.WorkflowID, "", "freed"))
		return
	}
	_, err := w.c.WorkflowService().DeleteWorkflowExecution(w.t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
		Namespace: sitetest.Shared.Namespace(), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: s.WorkflowID, RunId: s.RunID},
	})
	w.must(err)
}

func (w *ward) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// green waits until nothing is stalled any more.
func (w *ward) green() {
	w.t.Helper()
	for deadline := time.Now().Add(redWithin); ; time.Sleep(200 * time.Millisecond) {
		err := w.monitor.Ready(w.t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("it stays red: %v", err)
		}
	}
}

// scraped is the value of a figure of one workflow type, as /metrics has it.
func scraped(m *telemetry.Metrics, name, kind string) string {
	rec := httptest.NewRecorder()
	m.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	_, rest, _ := strings.Cut(rec.Body.String(), "\n"+name+`{type="`+kind+`"} `)
	value, _, _ := strings.Cut(rest, "\n")
	return value
}
