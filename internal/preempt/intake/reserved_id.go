package intake

import (
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// reservedID says why an intake of that id takes nothing: the id belongs to a workflow of another kind, which a client's
// request must not stand in for. It is "" for every id of an intake.
func (it *intake) reservedID() string {
	id := it.info.WorkflowExecution.ID
	what, ok := workflowid.Reserved(id)
	if !ok || !it.hasVersion(versionReserved) {
		return ""
	}
	return fmt.Sprintf("the workflow id %q is reserved for %s: ask under another id", id, what)
}

// refuseAll rejects all that reached an intake under a reserved id, and completes it.
func (it *intake) refuseAll() (preemptapi.Response, error) {
	it.drain()
	for len(it.inbox) > 0 {
		for _, i := range it.inbox {
			it.reject(refused, it.refused)
			if i.done != nil {
				*i.decided, *i.done = preemptapi.Decision{Verdict: preemptapi.Rejected, Reason: it.refused, IntakeID: it.info.WorkflowExecution.ID}, true
			}
		}
		it.inbox = nil
		it.drain()
	}
	return it.complete()
}
