package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/proto"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/restore"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// crowd is a site whose worker runs the real workflows and the real ledger on the real server, and only pretends to
// speak to vCenter: so that thousands of VMs cost no more than the workflows themselves.
type crowd struct {
	*sitetest.Site
	n     int
	clock *taskClock

	mu      sync.Mutex
	replies int // how often guests were listened to
}

// newCrowd starts the worker. Every plan that it makes chooses n VMs, or as many as are left.
func newCrowd(t testing.TB, n int, opts ...sitetest.Option) *crowd {
	t.Helper()
	c := &crowd{Site: sitetest.New(t, opts...), n: n, clock: &taskClock{longest: map[string]time.Duration{}, counts: map[string]int64{}}}
	conn, err := client.Dial(client.Options{
		HostPort: sitetest.Shared.HostPort(), Namespace: sitetest.Shared.Namespace(), Logger: sdklog.NewStructuredLogger(c.Log), MetricsHandler: meter{c.clock, nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w := worker.Poller(conn, c.Queue, 3*time.Second, nil)
	c.Preemption(conn, c.Gateway()).Register(w)
	for name, f := range map[string]any{
		"PlanRound": c.planRound, "EvictVMs": c.evict, "AwaitVMs": c.await, "GiveNotice": c.tell, "AwaitReplies": c.listen,
		"PlanRestore": c.planRestore, "PowerOnVMs": c.powerOn,
	} {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name, DisableAlreadyRegisteredCheck: true})
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return c
}

func (c *crowd) ledgerClient() ledger.Client {
	return ledger.Client{Temporal: c.Temporal, TaskQueue: c.Queue, Sweep: c.Settings.Timing.Sweep}
}

func crowdVM(i int) vsphere.Ref {
	return vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", 10001+i)}
}

func crowdHost(i int) vsphere.Ref {
	return vsphere.Ref{Type: vsphere.TypeHost, Value: fmt.Sprintf("host-%d", 101+i%64)}
}

// planRound chooses everybody that is not held, and reserves as the real one does.
func (c *crowd) planRound(ctx context.Context, in round.PlanInput) (round.PlanResult, error) {
	held := map[vsphere.Ref]bool{}
	for _, ref := range in.Held {
		held[ref] = true
	}
	out := round.PlanResult{Targets: []policy.Target{}, Spared: []policy.Spared{}, ScopeName: "cluster-a", PlannedAt: time.Now()}
	req := ledger.ReserveRequest{Owner: in.RoundID, Loads: map[string]ledger.Load{}}
	for i := range c.n {
		ref := crowdVM(i)
		req.VMs = append(req.VMs, ref.String())
		req.Loads[ref.String()] = ledger.Load{Host: crowdHost(i).String(), CPUMHz: 1200, MemoryMB: 4096}
		if held[ref] {
			continue
		}
		out.Targets = append(out.Targets, policy.Target{
			Ref: ref, Name: fmt.Sprintf("batch-worker-node-%05d", i), InstanceUUID: fmt.Sprintf("5016d3e5-6e0b-4c3f-8d5c-%012d", i), ToolsRunning: true,
			CPUMHz: 1200, MemoryMB: 4096, Host: crowdHost(i), Rank: i + 1,
			Why: "priority 100; the largest of those that cover what is missing: 1200 MHz, 4096 MB; preempted 0 times today",
		})
	}
	if _, err := c.ledgerClient().Facts(ctx, ledger.FactsRequest{Owner: in.RoundID, Scope: in.Demand.Key()}); err != nil {
		return out, err
	}
	if got, err := c.ledgerClient().Reserve(ctx, req); err != nil || !got.Granted {
		return out, fmt.Errorf("reserve: %v, %w", got, err)
	}
	return round.Compact(out), nil
}

// outcomeOf is what a target became.
func outcomeOf(t round.ActTarget, what action.Outcome) preemptapi.VMOutcome {
	return preemptapi.VMOutcome{
		Ref: t.Ref, Name: t.Name, Outcome: what, Forced: what != action.ShutDown, OffAt: time.Now().UTC(), Annotated: true,
		CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host, InstanceUUID: t.InstanceUUID, Why: t.Why,
	}
}

// number is which of the crowd a VM is.
func number(ref vsphere.Ref) (n int) {
	_, _ = fmt.Sscanf(ref.Value, "vm-%d", &n)
	return n
}

// evict turns off at once, or asks guests to shut down.
func (c *crowd) evict(_ context.Context, in round.ActInput) (out round.ActResult, err error) {
	for _, t := range in.Targets {
		switch {
		case in.OnlyLook:
			o := outcomeOf(t, action.Spared)
			o.Reason = in.StillOn
			out.Outcomes = append(out.Outcomes, o)
		case in.Action == action.ShutdownGuest:
			t.SentAt = time.Now().UTC()
			out.Pending = append(out.Pending, t)
		case !t.SentAt.IsZero():
			out.Outcomes = append(out.Outcomes, outcomeOf(t, action.Forced))
		default:
			out.Outcomes = append(out.Outcomes, outcomeOf(t, action.PoweredOff))
		}
	}
	return out, nil
}

// await looks on until it is cancelled; every third guest shuts down, of those that are late every ninth.
func (c *crowd) await(ctx context.Context, in round.AwaitInput) (out round.AwaitResult, err error) {
	untilCancelled(ctx)
	each := 3
	if in.Evidence {
		each = 9
	}
	for _, t := range in.Pending {
		if number(t.Ref)%each == 0 {
			out.Outcomes = append(out.Outcomes, outcomeOf(t, action.ShutDown))
		} else {
			out.Pending = append(out.Pending, t)
		}
	}
	return out, nil
}

func untilCancelled(ctx context.Context) {
	for ctx.Err() == nil {
		activity.RecordHeartbeat(ctx)
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *crowd) tell(context.Context, round.NoticeInput) (round.NoticeResult, error) {
	return round.NoticeResult{}, nil
}

// listen has every second guest ready at once, every fourth ask for more time, and the others say nothing.
func (c *crowd) listen(ctx context.Context, in round.RepliesInput) (replies []round.GuestReply, err error) {
	c.mu.Lock()
	c.replies++
	first := c.replies == 1
	c.mu.Unlock()
	if !first {
		untilCancelled(ctx)
		return nil, nil
	}
	for _, ref := range in.Targets {
		switch number(ref) % 4 {
		case 0, 2:
			replies = append(replies, round.GuestReply{Ref: ref, Ready: true})
		case 1:
			replies = append(replies, round.GuestReply{Ref: ref, Extend: clock.Duration(time.Second)})
		}
	}
	return replies, nil
}

// planRestore lets the crowd come back in waves of a fifth.
func (c *crowd) planRestore(ctx context.Context, in restore.PlanInput) (out restore.PlanResult, err error) {
	back := map[vsphere.Ref]bool{}
	for _, r := range in.Warming {
		back[r.Ref] = true
	}
	for _, ref := range in.Done {
		back[ref] = true
	}
	out.PlannedAt, out.ScopeName, out.Left = time.Now(), "cluster-a", []policy.Spared{}
	wave := max(1, c.n/5)
	for i := range c.n {
		if ref := crowdVM(i); !back[ref] {
			out.Returns.Returns = append(out.Returns.Returns, policy.Return{
				Ref: ref, Name: fmt.Sprintf("batch-worker-node-%05d", i), Wave: 1 + len(out.Returns.Returns)/wave, Priority: 100,
				OffSince: time.Now().UTC(), CPUMHz: 1200, MemoryMB: 4096,
			})
		}
	}
	req := ledger.ReserveRequest{Owner: in.RestoreID}
	for _, r := range out.Returns.Returns[:min(wave, len(out.Returns.Returns))] {
		req.VMs = append(req.VMs, r.Ref.String())
	}
	_, err = c.ledgerClient().Reserve(ctx, req)
	return out, err
}

func (c *crowd) powerOn(_ context.Context, in restore.PowerOnInput) (out restore.PowerOnResult, err error) {
	for _, t := range in.Targets {
		out.VMs = append(out.VMs, preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, OnAt: time.Now().UTC(), Annotated: true})
	}
	return out, nil
}

// taskClock keeps the longest workflow task of each type that its worker worked on, and what was counted.
type taskClock struct {
	mu      sync.Mutex
	longest map[string]time.Duration
	counts  map[string]int64
	failing string // the first count of this name fails the workflow task that counts
}

func (c *taskClock) task(kind string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.longest[kind]
}

func (c *taskClock) count(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[name]
}

// fail lets the workflow task fail in which something is counted first.
func (c *taskClock) fail(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = name
}

// failed is how many workflow tasks failed.
func (c *taskClock) failed() int64 { return c.count("temporal_workflow_task_execution_failed") }

// meter hands the SDK's own metrics to a taskClock.
type meter struct {
	clock *taskClock
	tags  map[string]string
}

func (m meter) WithTags(tags map[string]string) client.MetricsHandler {
	all := map[string]string{}
	for k, v := range m.tags {
		all[k] = v
	}
	for k, v := range tags {
		all[k] = v
	}
	return meter{m.clock, all}
}

type counterFunc func(int64)

func (f counterFunc) Inc(n int64) { f(n) }

type gaugeFunc func(float64)

func (f gaugeFunc) Update(v float64) { f(v) }

type timerFunc func(time.Duration)

func (f timerFunc) Record(d time.Duration) { f(d) }

func (m meter) Counter(name string) client.MetricsCounter {
	return counterFunc(func(n int64) {
		m.clock.mu.Lock()
		defer m.clock.mu.Unlock()
		m.clock.counts[name] += n
		if name == m.clock.failing {
			m.clock.failing = ""
			panic("this workflow task is to be tried again")
		}
	})
}

func (m meter) Gauge(string) client.MetricsGauge { return gaugeFunc(func(float64) {}) }

func (m meter) Timer(name string) client.MetricsTimer {
	return timerFunc(func(d time.Duration) {
		if name != "temporal_workflow_task_execution_latency" {
			return
		}
		m.clock.mu.Lock()
		defer m.clock.mu.Unlock()
		kind := m.tags["workflow_type"]
		m.clock.longest[kind] = max(m.clock.longest[kind], d)
	})
}

// weights are the sizes of a run's events in bytes: the largest of each kind, and all together.
func (c *crowd) weights(id, run string) (largest map[string]int, total int) {
	c.T.Helper()
	largest = map[string]int{}
	names := map[int64]string{}
	it := c.Temporal.GetWorkflowHistory(c.T.Context(), id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			c.T.Fatal(err)
		}
		size := proto.Size(e)
		total += size
		largest[label(e, names)] = max(largest[label(e, names)], size)
	}
	return largest, total
}

// label names an event by what it carries.
func label(e *history.HistoryEvent, names map[int64]string) string {
	kind := e.GetEventType().String()
	if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
		names[e.GetEventId()] = a.GetActivityType().GetName()
		return names[e.GetEventId()] + " input"
	}
	if a := e.GetActivityTaskCompletedEventAttributes(); a != nil {
		return names[a.GetScheduledEventId()] + " result"
	}
	if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
		return "signal " + a.GetSignalName()
	}
	if a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes(); a != nil {
		return "update " + a.GetAcceptedRequest().GetInput().GetName()
	}
	return kind
}
