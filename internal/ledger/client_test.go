package ledger

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
)

// crowded is a Temporal that counts the updates in progress, and answers when it is told to.
type crowded struct {
	client.Client
	client.WorkflowUpdateHandle
	mu        sync.Mutex
	now, most int
	answer    chan struct{}
}

func (c *crowded) UpdateWorkflow(ctx context.Context, _ client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	c.count(1)
	defer c.count(-1)
	select {
	case <-c.answer:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *crowded) Get(context.Context, any) error { return nil }

func (c *crowded) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.most = max(c.most, c.now)
}

func TestAWorkerAsksTheLedgerNoMoreAtOnceThanTemporalAdmits(t *testing.T) {
	temporal := &crowded{answer: make(chan struct{})}
	c := NewClient(temporal, "queue", time.Hour)
	var asked sync.WaitGroup
	for range 30 {
		asked.Go(func() {
			if err := c.Complete(t.Context(), CompleteRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 30 {
		temporal.answer <- struct{}{}
	}
	asked.Wait()
	if temporal.most > atOnce {
		t.Errorf("%d updates were in progress, want at most %d", temporal.most, atOnce)
	}
}

func TestAWorkerWhoseTurnDoesNotComeSaysWhatItWaitsFor(t *testing.T) {
	temporal := &crowded{answer: make(chan struct{})}
	c := NewClient(temporal, "queue", time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	var asked sync.WaitGroup
	for range atOnce {
		asked.Go(func() { _ = c.Complete(ctx, CompleteRequest{}) })
	}
	for {
		temporal.mu.Lock()
		all := temporal.now == atOnce
		temporal.mu.Unlock()
		if all {
			break
		}
		time.Sleep(time.Millisecond)
	}
	soon, over := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer over()
	err := c.Complete(soon, CompleteRequest{})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "earlier questions") {
		t.Error(err)
	}
	cancel()
	asked.Wait()
}
