package trigger

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
)

// Bounds of what may wait at one workflow. Temporal takes 10,000 signals, 51,200 events and 50 MiB per run, and ends a
// run that passes them. A workflow that is worked on continues as new at some 4,096 events or 4 MiB.
const (
	maxWaitingEvents = 8_000
	maxWaitingBytes  = 16 << 20
)

// When to measure a workflow again: after so much was sent to it, or so long after it was found to be behind.
const (
	measureEachOrders = 64
	measureEachBytes  = 1 << 20
	measureAgain      = 2 * time.Second
	measureTimeout    = 2 * time.Second
	maxWatched        = 10_000 // workflows that are remembered
)

// describer is what a Temporal client besides offers, by which to see what waits at a workflow.
type describer interface {
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
}

// backlogs watches how much waits at each workflow, measured at its first order and then in intervals.
type backlogs struct {
	mu  sync.Mutex
	all map[string]*waiting
}

type waiting struct {
	orders, bytes int
	measured      time.Time
	behind        *BacklogError
}

// check returns a BacklogError where too much waits at the workflow for another order of that size.
func (bs *backlogs) check(ctx context.Context, t Temporal, id, queue string, size int) error {
	d, ok := t.(describer)
	if !ok {
		return nil
	}
	bs.mu.Lock()
	w := bs.all[id]
	if w == nil {
		if bs.all == nil || len(bs.all) >= maxWatched {
			bs.all = map[string]*waiting{}
		}
		w = &waiting{}
		bs.all[id] = w
	}
	w.orders, w.bytes = w.orders+1, w.bytes+size
	due := w.measured.IsZero() || w.orders >= measureEachOrders || w.bytes >= measureEachBytes
	if w.behind != nil {
		due = time.Since(w.measured) >= measureAgain
	}
	if !due {
		defer bs.mu.Unlock()
		return w.answer()
	}
	w.orders, w.bytes, w.measured = 0, 0, time.Now() // others need not measure meanwhile
	bs.mu.Unlock()
	behind := backlogOf(ctx, d, id, queue)
	bs.mu.Lock()
	defer bs.mu.Unlock()
	w.behind = behind
	return w.answer()
}

func (w *waiting) answer() error {
	if w.behind == nil {
		return nil
	}
	return w.behind
}

// backlogOf returns nil where the workflow is not behind. What cannot be seen is not held against it: the order itself
// shows whether Temporal is there.
func backlogOf(ctx context.Context, d describer, id, queue string) *BacklogError {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	got, err := d.DescribeWorkflowExecution(ctx, id, "")
	if err != nil || got.GetPendingWorkflowTask() == nil {
		return nil
	}
	info := got.GetWorkflowExecutionInfo()
	if info.GetHistoryLength() < maxWaitingEvents && info.GetHistorySizeBytes() < maxWaitingBytes {
		return nil
	}
	return &BacklogError{
		WorkflowID: id, TaskQueue: queue, Events: info.GetHistoryLength(), Bytes: info.GetHistorySizeBytes(),
		Attempts: got.GetPendingWorkflowTask().GetAttempt(),
	}
}
