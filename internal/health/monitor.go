package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// How often a worker checks, and how long a report counts.
const (
	lookEvery  = 20 * time.Second
	probeEvery = time.Minute
	lookTime   = 30 * time.Second // for one check
	reportOld  = 90 * time.Second // a report that is older proves nothing
	silences   = 2                // probes in a row that must fail: one may meet a worker that was killed
)

// Monitor checks regularly, and keeps the latest report for the readiness check.
type Monitor struct {
	Namespace string
	TaskQueue string
	Limits    Limits                // zero: the default
	Every     time.Duration         // between checks; zero: the default
	Watched   bool                  // there are rules, and so a watch should run
	Metrics   client.MetricsHandler // nil: none
	Log       *slog.Logger

	mu      sync.Mutex
	running bool
	last    Report
	since   time.Time // of the last report, or of the start
	begun   time.Time
	err     error // why the last check failed

	failed int // probes in a row
	probed time.Time
	proof  []Stall // what the last probe found
	shown  map[string]bool
}

// Run checks until ctx ends.
func (m *Monitor) Run(ctx context.Context, c client.Client) {
	every := m.Every
	if every <= 0 {
		every = lookEvery
	}
	l := &Looker{Client: c, Namespace: m.Namespace, TaskQueue: m.TaskQueue, Limits: m.Limits}
	m.begin(true)
	defer m.begin(false)
	for {
		m.look(ctx, l, every)
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

func (m *Monitor) begin(running bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running, m.since, m.begun, m.err = running, time.Now(), time.Now(), nil
}

// look checks once, and probes if that is due. After a failed probe, the next check probes again.
func (m *Monitor) look(ctx context.Context, l *Looker, every time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	r, err := l.Look(ctx)
	if err == nil && m.Watched {
		err = m.watched(ctx, l, &r)
	}
	if err == nil && (m.failed > 0 || time.Since(m.probed) >= max(probeEvery-every/2, every)) {
		r.Probe, m.proof = l.Probe(ctx)
		m.probed = time.Now()
		if m.failed++; len(m.proof) == 0 {
			m.failed = 0
		}
		m.handler().Timer("preemption_probe").Record(r.Probe)
	}
	if m.failed >= silences {
		for _, s := range m.proof {
			if _, known := r.Of(s.WorkflowID); !known {
				r.Stalled = append(r.Stalled, s)
			}
		}
		r.Stalled = sorted(r.Stalled)
	}
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	m.keep(r, err)
	m.tellHeldUp(ctx, l)
}

// tellHeldUp sets the metrics of what persons hold up. A ledger that a worker of an earlier version runs does not tell.
func (m *Monitor) tellHeldUp(ctx context.Context, l *Looker) {
	h, err := ledger.Client{Temporal: l.Client, TaskQueue: l.TaskQueue}.HeldUp(ctx, l.now())
	if err != nil {
		m.Log.Debug("it is not known what is paused", "queue", l.TaskQueue, "reason", err)
		return
	}
	m.handler().Gauge("preemption_paused").Update(float64(len(h.Pauses)))
	m.handler().Gauge("preemption_spared_vms").Update(float64(len(h.Spares)))
}

// watched adds a stall if the watch does not run.
func (m *Monitor) watched(ctx context.Context, l *Looker, r *Report) error {
	id := watchapi.WorkflowID(l.TaskQueue)
	d, err := l.Client.DescribeWorkflowExecution(ctx, id, "")
	var missing *serviceerror.NotFound
	if err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("look at the watch %s: %w", id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return nil
	}
	s := Stall{
		WorkflowID: id, Type: watchapi.WorkflowType, Kind: Missing, Cause: "nobody follows vCenter's events, though there are rules", Remedy: remedyFor(Missing, id),
	}
	if closed := info.GetCloseTime(); closed != nil {
		s.Since = closed.AsTime()
	}
	if time.Since(m.begun) > l.Limits.TaskAge { // a worker that has just started needs time to start it
		r.Stalled = append(r.Stalled, s)
	}
	return nil
}

// keep stores a report, logs what is new in it, and sets the metrics.
func (m *Monitor) keep(r Report, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err = err; err != nil {
		m.Log.Warn("it could not be looked whether workflows make progress", "queue", m.TaskQueue, "reason", err)
		return
	}
	m.last, m.since = r, time.Now()
	now := map[string]bool{}
	counts := map[string]int{}
	for _, s := range r.Stalled {
		counts[s.Type]++
		now[s.WorkflowID] = true
		if !m.shown[s.WorkflowID] {
			m.Log.Error("a workflow makes no progress", "workflow_id", s.WorkflowID, "run_id", s.RunID, "type", s.Type, "kind", string(s.Kind),
				"since", s.Since, "attempt", s.Attempts, "reason", s.Cause, "remedy", s.Remedy)
		}
	}
	for id := range m.shown {
		if !now[id] {
			m.Log.Info("a workflow makes progress again, or has ended", "workflow_id", id)
		}
	}
	m.shown = now
	for _, kind := range Types() {
		m.handler().WithTags(map[string]string{"type": kind}).Gauge("preemption_stalled_workflows").Update(float64(counts[kind]))
	}
}

func (m *Monitor) handler() client.MetricsHandler {
	if m.Metrics == nil {
		return client.MetricsNopHandler
	}
	return m.Metrics
}

// Report returns the latest report.
func (m *Monitor) Report() Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// Ready returns why no work gets done, nil if it does. Before the first report, and while nothing is polled,
// other checks report it.
func (m *Monitor) Ready(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.running:
		return nil
	case time.Since(m.since) > reportOld && m.err != nil:
		return fmt.Errorf("it is unknown for %s whether work gets done: %w", time.Since(m.since).Round(time.Second), m.err)
	case time.Since(m.since) > reportOld:
		return fmt.Errorf("it is unknown for %s whether work gets done", time.Since(m.since).Round(time.Second))
	case !m.last.Healthy():
		return errors.New(m.last.Words())
	}
	return nil
}
