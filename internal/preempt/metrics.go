package preempt

import (
	"context"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// increment counts what a workflow did, once.
func increment(ctx workflow.Context, name string, tags map[string]string) { tally.Add(ctx, name, tags) }

// count counts an outcome. What would have been done moves nothing.
func (r *round) count(o preemptapi.VMOutcome) {
	if _, ok := o.Outcome.Would(); ok {
		return
	}
	increment(r.ctx, "preemption_evictions", map[string]string{"action": string(r.treatment().Action), "outcome": string(o.Outcome)})
}

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
		"preemption_plan_candidates":             float64(len(p.snap.VMs) + len(p.snap.Others)),
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

// reclaimed records a VM that is off and annotated.
func (a *Activities) reclaimed(ctx context.Context, o preemptapi.VMOutcome, asked time.Time) {
	a.preempted.changed.Store(true)
	if !asked.IsZero() {
		activity.GetMetricsHandler(ctx).WithTags(map[string]string{"outcome": string(o.Outcome)}).Timer("preemption_reclaim").Record(time.Since(asked))
	}
}

// preempted is what is known of the VMs that are off by us.
type preempted struct {
	changed atomic.Bool // since they were counted
}

// How often the preempted VMs are counted: one call over all VMs each.
const (
	countEvery = 5 * time.Minute
	countSoon  = 30 * time.Second // after a change
	countLook  = 2 * time.Second
)

// CountPreempted tells how many VMs are off and ours, now and then, until ctx ends. It counts all VMs of this vCenter
// whose attribute says so, whichever worker turned them off.
func (a *Activities) CountPreempted(ctx context.Context, tell func(n int)) {
	var last time.Time
	for {
		if since := time.Since(last); since >= countEvery || since >= countSoon && a.preempted.changed.Swap(false) {
			last = time.Now()
			if owned, err := a.VCenter.Owned(ctx, preemption.AttributeKey); err == nil {
				n := 0
				for _, o := range owned {
					if record, ours := recordOf(o.Value); record != nil && ours && o.PowerState != vsphere.PoweredOn {
						n++
					}
				}
				tell(n)
			} else {
				a.preempted.changed.Store(true)
			}
		}
		if !clock.Sleep(ctx, countLook) {
			return
		}
	}
}
