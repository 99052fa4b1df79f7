package intake

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// Bounds of what the intake does in one workflow task, and carries from run to run.
const (
	// maxTaskBytes is about how much may come of decoding in one workflow task. Its answer to Temporal repeats that, and
	// may have 4 MB.
	maxTaskBytes = 2 << 20
	// maxDemandBytes is about what a demand has besides its event: the policy that is pinned with it, above all.
	maxDemandBytes = 3 << 10
	// maxDecodedBytes is about what a change has, or the reason of a rejection.
	maxDecodedBytes = 512
	// maxCarriedEvents is up to where causing events are carried to the next run as they are.
	maxCarriedEvents = 512 << 10
)

// endLargeTask counts what was decoded in this workflow task, and ends the task where that is enough: what follows comes in
// the next one.
func (it *intake) endLargeTask(out Decode) {
	for _, d := range out.Decoded {
		it.decodedBytes += maxDecodedBytes
		if d.Demand != nil {
			it.decodedBytes += len(d.Demand.Event) + maxDemandBytes
		}
	}
	if it.decodedBytes < maxTaskBytes || !it.endsLargeTasks() {
		return
	}
	it.decodedBytes = 0
	_ = workflow.Sleep(it.ctx, time.Millisecond) // never cancelled
}

// endsLargeTasks reports whether the run ends such tasks. Where an earlier version went on instead, and could, that is
// remembered for this occasion alone: the next may be the one that is too much.
func (it *intake) endsLargeTasks() bool {
	if !it.endsLarge {
		it.occasions++
		it.endsLarge = it.hasVersion(fmt.Sprintf("%s-%d", versionPaced, it.occasions))
	}
	return it.endsLarge
}

// trimEvents bounds what is carried to the next run. If the events of all scopes are too large together, each is cut
// down to what names its alarm.
func (s *State) trimEvents() {
	total := 0
	visit := func(f func(*preemptapi.Demand)) {
		for _, scope := range scopes(s.StillActive) {
			d := s.StillActive[scope]
			f(&d)
			s.StillActive[scope] = d
		}
		for i := range s.Deferred {
			f(&s.Deferred[i].Demand)
		}
		if s.LastDemand != nil {
			last := *s.LastDemand
			f(&last)
			s.LastDemand = &last
		}
	}
	visit(func(d *preemptapi.Demand) { total += len(d.Event) })
	if total > maxCarriedEvents {
		// Pure, and of recorded input alone.
		visit(func(d *preemptapi.Demand) { d.Event = alarm.Shorten(d.Event) }) //workflowcheck:ignore
	}
}
