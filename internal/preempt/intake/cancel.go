package intake

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// cancel withdraws everything, waits a bounded time for the rounds to say what they did, and completes;
// unless requests came after the cancellation, for which it goes on in a new run.
func (it *intake) cancel(ctx workflow.Context) (preemptapi.Response, error) {
	it.state.Levels.Clear()
	it.state.Deferred = nil
	clear(it.state.StillActive)
	for _, scope := range scopes(it.state.Active) {
		it.signal(it.state.Active[scope].RoundID, round.Change{Withdraw: true, Reason: "the preemption was cancelled"})
	}
	_, err := workflow.AwaitWithTimeout(it.ctx, it.state.Timing.CancelWait, func() bool {
		for {
			var r preemptapi.RoundResult
			if !it.rounds.ReceiveAsync(&r) {
				return len(it.state.Active) == 0
			}
			it.roundDone(r)
		}
	})
	if err != nil {
		return preemptapi.Response{}, err
	}
	it.drain()
	if len(it.inbox) > 0 {
		var a *Activities
		var after int
		local := it.local(time.Minute)
		if err := workflow.ExecuteLocalActivity(local, a.SignalsAfterCancel, it.info.WorkflowExecution).Get(local, &after); err != nil {
			workflow.GetLogger(it.ctx).Error("it is unknown which requests came after the cancellation: none goes on", "error", err)
		}
		it.keepLast(after)
	}
	if len(it.inbox) > 0 {
		return preemptapi.Response{}, it.roll(ctx)
	}
	return it.complete()
}

// keepLast keeps the newest n signals of the inbox: those that came after the cancellation. The older ones
// are what was cancelled.
func (it *intake) keepLast(n int) {
	drop := -n
	for _, i := range it.inbox {
		if i.done == nil {
			drop += 1 + i.Again
		}
	}
	var kept []item
	for _, i := range it.inbox {
		if count := 1 + i.Again; i.done == nil && drop >= count {
			drop -= count
			continue
		}
		kept = append(kept, i)
	}
	it.inbox = kept
}
