package preempt

import (
	"encoding/json"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// errRejected is the type of the error for a request that is not valid.
const errRejected = "RequestRejected"

// planOutage is how long a plan waits for vCenter: somebody sits before it.
const planOutage = time.Minute

// Plan is the workflow behind a dry run: it takes a WorkflowRequest as JSON and answers a RoundResult in
// state "planned", having reserved and touched nothing.
func Plan(ctx workflow.Context, raw json.RawMessage) (preemptapi.RoundResult, error) {
	var a *Activities
	var out Decode
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second})
	if err := workflow.ExecuteLocalActivity(local, a.DecodeMessages, []Message{{JSON: raw}}).Get(local, &out); err != nil {
		return preemptapi.RoundResult{}, err
	}
	if reason := out.Decoded[0].Rejected; reason != "" {
		return preemptapi.RoundResult{}, temporal.NewNonRetryableApplicationError(reason, errRejected, nil)
	}
	in := RoundInput{Demand: *out.Decoded[0].Demand, Timing: out.Timing, Attrs: out.Attrs}
	in.Demand.DryRun = true
	in.Timing.Outage = min(in.Timing.Outage, planOutage)
	r := newRound(ctx, in)
	if err := r.carryOut(); err != nil {
		return r.fail(err)
	}
	r.result.EndedAt = workflow.Now(ctx).UTC()
	r.show()
	return r.result, nil
}
