package round

import (
	"context"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// asking sends the guest shutdown to guests whose tools were starting, until each has taken it.
type asking struct {
	end  context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex
	asked map[vsphere.Ref]bool
}

// longestAskPause is between two attempts at asking a guest.
const longestAskPause = 5 * time.Second

// askLater begins to ask those of the pending guests that could not be asked, if that is wanted.
func (a *Activities) askLater(ctx context.Context, in AwaitInput) *asking {
	ctx, end := context.WithCancel(ctx)
	k := &asking{end: end, asked: map[vsphere.Ref]bool{}}
	var due []ActTarget
	for _, t := range in.Pending {
		if in.Ask && t.Unasked {
			due = append(due, t)
		}
	}
	k.done.Go(func() {
		for pause := a.Settings.Timing.Retry; len(due) > 0 && clock.Sleep(ctx, pause); pause = min(2*pause, longestAskPause) {
			due = a.ask(ctx, k, due)
		}
	})
	return k
}

// ask sends the guest shutdown to each, and returns those that cannot be asked yet.
func (a *Activities) ask(ctx context.Context, k *asking, due []ActTarget) (left []ActTarget) {
	for _, t := range due {
		if ctx.Err() != nil {
			return append(left, t)
		}
		// What was begun is ended: its answer reports whether we have asked.
		err := a.VCenter.ShutdownGuest(context.WithoutCancel(ctx), t.Ref)
		if kind := vcenter.KindOf(err); kind == vcenter.ToolsUnavailable || kind.Retryable() {
			left = append(left, t)
		}
		if err == nil {
			k.mu.Lock()
			k.asked[t.Ref] = true
			k.mu.Unlock()
		}
		a.Logger(ctx).Info("asked a guest whose tools were starting", "vm", t.Name, "moref", t.Ref.Value, "reason", err)
	}
	return left
}

// updated is the target with what was sent to it meanwhile.
func (k *asking) updated(t ActTarget) ActTarget {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.Unasked = t.Unasked && !k.asked[t.Ref]
	return t
}

// stop ends it.
func (k *asking) stop() {
	k.end()
	k.done.Wait()
}
