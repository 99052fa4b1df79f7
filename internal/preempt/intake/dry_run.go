package intake

import (
	"encoding/json"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// Plan is the workflow behind a dry run: it takes a WorkflowRequest as JSON and answers a RoundResult in
// state "planned", having reserved and touched nothing.
func Plan(ctx workflow.Context, raw json.RawMessage) (preemptapi.RoundResult, error) {
	var a *Activities
	var out Decode
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second})
	if err := workflow.ExecuteLocalActivity(local, a.DecodeMessages, []Message{{JSON: raw, Plan: true}}).Get(local, &out); err != nil {
		return preemptapi.RoundResult{}, err
	}
	if reason := out.Decoded[0].Rejected; reason != "" {
		return preemptapi.RoundResult{}, temporal.NewNonRetryableApplicationError(reason, preempt.RequestRejected, nil)
	}
	in := round.Input{Demand: *out.Decoded[0].Demand, Timing: out.Timing, Attrs: out.Attrs}
	in.Timing.Outage = min(in.Timing.Outage, preempt.PersonWaits)
	return round.DryRun(ctx, in)
}
