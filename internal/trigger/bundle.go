package trigger

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// bundles sends the orders of a workflow one signal after the other, in their order. What comes while a signal is
// under way goes together in the next one, as an array: a signal and the workflow task that it causes cost Temporal
// as much for one change as for many. An order whose time is over before its turn fails, and those behind it go on.
type bundles struct {
	mu   sync.Mutex
	last map[string]*bundle // by workflow id: the newest, until it is sent
}

// bundle is one signal. Whoever makes it sends it, once the one before has been sent.
type bundle struct {
	payloads []json.RawMessage
	bytes    int
	sealed   bool          // it is being sent: nothing more goes in
	sent     chan struct{} // closed when err is final
	err      error
}

// send returns once Temporal has the order, or cannot be told within sendTimeout and the caller's deadline. signal
// sends one payload.
func (bs *bundles) send(ctx context.Context, o Order, signal func(context.Context, any) error) error {
	text, err := json.Marshal(o.Payload)
	if err != nil {
		return err
	}
	limit := time.Now().Add(sendTimeout)
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(limit) {
		limit = earlier
	}
	// Nobody's order may be lost because the one who sends it has lost its client.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), limit)
	defer cancel()
	b, before := bs.enter(o.WorkflowID, text)
	if b != before {
		bs.deliver(ctx, o, b, before, signal)
		return b.err
	}
	select {
	case <-b.sent:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter puts the text into the workflow's open bundle, which it returns twice, or into a new one behind the one
// before, if any.
func (bs *bundles) enter(workflowID string, text []byte) (b, before *bundle) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	before = bs.last[workflowID]
	b = before
	if b == nil || b.sealed || b.bytes+len(text) > preemption.MaxRequestBytes-len("[]") {
		b = &bundle{sent: make(chan struct{})}
		if bs.last == nil {
			bs.last = map[string]*bundle{}
		}
		bs.last[workflowID] = b
	}
	b.payloads, b.bytes = append(b.payloads, text), b.bytes+len(text)+len(",")
	return b, before
}

// deliver sends the bundle after the one before, and tells all who are in it.
func (bs *bundles) deliver(ctx context.Context, o Order, b, before *bundle, signal func(context.Context, any) error) {
	if before != nil {
		select {
		case <-before.sent:
		case <-ctx.Done():
		}
	}
	bs.mu.Lock()
	b.sealed = true
	bs.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		b.err = ctx.Err()
	case len(b.payloads) == 1:
		b.err = signal(ctx, o.Payload)
	default:
		b.err = signal(ctx, b.payloads)
	}
	close(b.sent)
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.last[o.WorkflowID] == b {
		delete(bs.last, o.WorkflowID)
	}
}
