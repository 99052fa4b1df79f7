package preempt

import (
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// AdmissionID is the id under which the ledger is asked whether the round of a request may start.
func AdmissionID(requestID string, sequence int) string {
	return fmt.Sprintf("%s#%d", requestID, sequence)
}

// Completion is what a round that has ended would have told the ledger, for one that could not be told.
func Completion(in RoundInput, res preemptapi.RoundResult) ledger.CompleteRequest {
	return ledger.CompleteRequest{
		Owner: res.RoundID, Scope: in.Demand.Key(), Preempted: len(res.Preempted()),
		Rank: res.Criticality.Rank(), Cooldown: in.Demand.Policy.Cooldown.D(), Evicted: evictedOf(res.Targets),
	}
}

// evictedOf lists what was turned off, for the ledger. What others powered on again at once went all the same, and frees
// nothing.
func evictedOf(targets []preemptapi.VMOutcome) (all []ledger.Evicted) {
	for _, t := range targets {
		switch {
		case t.Outcome.Ours():
			all = append(all, ledger.Evicted{VM: t.Ref.String(), Host: t.Host.String(), CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Time: t.OffAt})
		case t.Outcome == action.OnAgain:
			all = append(all, ledger.Evicted{VM: t.Ref.String(), Host: t.Host.String()})
		}
	}
	return all
}
