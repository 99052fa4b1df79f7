package round

import (
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// DryRun plans as a round does, and acts on nothing.
func DryRun(ctx workflow.Context, in Input) (preemptapi.RoundResult, error) {
	in.Demand.DryRun = true
	r := newRound(ctx, in)
	if err := r.carryOut(); err != nil {
		return r.fail(err)
	}
	r.result.EndedAt = workflow.Now(ctx).UTC()
	r.show()
	return r.result, nil
}
