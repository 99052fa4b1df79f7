package round

import (
	"context"

	"go.temporal.io/sdk/activity"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// measure records a plan that is to be carried out.
func (p *planning) measure(ctx context.Context, plan policy.Plan) {
	if p.in.Demand.DryRun {
		return
	}
	result := "full"
	switch {
	case plan.Partial || !covers(plan.Covered, plan.Shortfall):
		result = "short"
	case len(plan.Targets) == 0:
		result = "nobody"
	}
	h := activity.GetMetricsHandler(ctx).WithTags(map[string]string{"policy": p.in.Demand.PolicyName, "result": result})
	h.Counter("preemption_plans").Inc(1)
	for name, value := range map[string]float64{
		"preemption_plan_candidates":             float64(len(p.snap.VMs) + len(p.snap.Others) + len(p.snap.Elsewhere)),
		"preemption_plan_targets":                float64(len(plan.Targets)),
		"preemption_plan_shortfall_cpu_hertz":    1e6 * float64(plan.Shortfall.CPUMHz),
		"preemption_plan_shortfall_memory_bytes": 1 << 20 * float64(plan.Shortfall.MemoryMB),
		"preemption_plan_uncovered_cpu_hertz":    1e6 * float64(max(0, plan.Shortfall.CPUMHz-plan.Covered.CPUMHz)),
		"preemption_plan_uncovered_memory_bytes": 1 << 20 * float64(max(0, plan.Shortfall.MemoryMB-plan.Covered.MemoryMB)),
	} {
		h.Gauge(name).Update(value)
	}
	for _, s := range plan.Spared {
		h.WithTags(map[string]string{"reason": string(s.Reason)}).Counter("preemption_spared").Inc(1)
	}
}

func covers(covered, shortfall policy.Resources) bool {
	return covered.CPUMHz >= shortfall.CPUMHz && covered.MemoryMB >= shortfall.MemoryMB
}
