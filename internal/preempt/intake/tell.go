package intake

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// toldAtMost is how often people are told that an intake takes nothing: whoever may signal could send a thousand.
const toldAtMost = 10 * time.Minute

// tellRejected tells people of the last rejection, and returns true if time has passed meanwhile. It is called where the
// loop looks again at all that has arrived.
func (it *intake) tellRejected() (waited bool) {
	reason := it.untold
	it.untold = ""
	if reason == "" || !it.state.Timing.Tell || !it.toldAt.IsZero() && it.now().Sub(it.toldAt) < toldAtMost {
		return false
	}
	it.toldAt = it.now()
	m := tell.Message{
		Event: tell.Rejected, What: "a request was not taken", Why: reason,
		Look: tell.Command(it.info.Namespace, it.info.TaskQueueName, "workflow", "status", "--workflow-id", it.info.WorkflowExecution.ID),
	}
	if d := it.state.LastDemand; d != nil {
		m.Alarm, m.Cluster, m.ClusterRef = d.Alarm(), d.ScopeName, d.Scope.String()
	}
	it.out.Send(it.ctx, true, m)
	return it.out.Close(it.ctx)
}
