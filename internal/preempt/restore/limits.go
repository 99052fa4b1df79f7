package restore

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// versionLimits marks the restores that take CPU limits back.
const versionLimits = "restore-limits"

// liftLimits takes the CPU limits of the plan back, all at once. It returns which VMs that are off still have one, as they are not
// powered on before, and how many limits are to be tried again.
func (r *restore) liftLimits(plan PlanResult) (limited map[vsphere.Ref]bool, open int) {
	limited = map[vsphere.Ref]bool{}
	if len(plan.Limits) == 0 || workflow.GetVersion(r.ctx, versionLimits, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return limited, 0
	}
	for _, t := range plan.Limits {
		if t.StaysOff {
			limited[t.Ref] = true
		}
	}
	var mine []preemptapi.RestoredVM
	answers := r.lift(plan.Limits)
	for _, vm := range answers {
		if vm.StaysOff && vm.Outcome != preemptapi.OutcomeNotRestored {
			delete(limited, vm.Ref) // whether it comes back is decided by its wave
			continue
		}
		mine = append(mine, vm)
		tally.Add(r.ctx, "preemption_restored_vms", map[string]string{"outcome": string(vm.Outcome)})
	}
	open = len(plan.Limits) - len(answers) + len(mine) - r.add(mine)
	r.show()
	return limited, open
}

// lift runs LiftLimits. Where the step ended without an answer, as when a stop met it between two attempts, what it had done by then
// is looked up; the others keep an open record, and a later plan names them again.
func (r *restore) lift(list []policy.Return) []preemptapi.RestoredVM {
	in := PowerOnInput{RestoreID: r.result.RestoreID, By: r.in.By, Tag: r.in.Tag, Targets: list, Timeout: r.setup.Policy.PowerOffTimeout}
	ctx, cancel := workflow.WithCancel(r.ctx)
	defer cancel()
	r.interrupt = cancel
	if r.stopReason != "" {
		cancel()
	}
	limit := r.setup.Timing.Outage + in.Timeout.D()
	var a *Activities
	var res PowerOnResult
	summary := fmt.Sprintf("take the CPU limits of %d VMs back", len(list))
	err := workflow.ExecuteActivity(r.setup.Timing.WithOptions(ctx, limit, summary), a.LiftLimits, in).Get(ctx, &res)
	r.interrupt = nil
	if err == nil {
		return res.VMs
	}
	workflow.GetLogger(r.ctx).Warn("taking limits back ended without an answer; what it did is looked up", "error", err)
	in.OnlyLook = true
	summary = "look which limits were taken back before the step ended"
	err = workflow.ExecuteActivity(r.setup.Timing.WithOptions(r.ctx, limit, summary), a.LiftLimits, in).Get(r.ctx, &res)
	if err == nil {
		return res.VMs
	}
	failed := make([]preemptapi.RestoredVM, 0, len(list))
	for _, t := range list {
		failed = append(failed, preemptapi.RestoredVM{
			Return: t, Outcome: preemptapi.OutcomeNotRestored, Again: true,
			Reason: policy.InWords("taking its CPU limit back failed, look at the VM: " + preempt.Cause(err)),
		})
	}
	return failed
}
