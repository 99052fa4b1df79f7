package restore

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// wave plans and powers on one wave; it returns whether there is more to do.
func (r *restore) wave() (goOn bool, err error) {
	r.setState(preemptapi.RestoreRestoring)
	r.holdReason = ""
	plan, err := r.plan()
	if err != nil || r.stopReason != "" {
		return err == nil, err
	}
	switch {
	case r.holdReason != "":
		return r.waitHeld(r.holdReason), nil
	case r.in.DryRun:
		return false, r.endWithPlan(plan, preemptapi.RestorePlanned)
	case r.setup.Policy.Mode == policy.ModeObserve:
		return false, r.endWithPlan(plan, preemptapi.RestoreObserved)
	case len(plan.ActiveRounds) > 0, len(plan.ActiveAlarms) > 0 && !r.in.Person:
		return r.waitForOthers(plan), nil
	case !r.settleTimeOver:
		r.waitSettleTime()
		return true, nil
	}
	return r.carryOut(plan), nil
}

// carryOut powers on the first wave of a plan; it returns whether there is more to do.
func (r *restore) carryOut(plan PlanResult) (goOn bool) {
	r.result.Reason = ""
	if len(plan.ActiveAlarms) > 0 {
		r.note("although " + plan.ActiveAlarms[0])
	}
	if len(plan.Adopt) > 0 {
		r.powerOn(plan.Adopt, plan.PlannedAt, true) // records that they are on
	}
	limited, open := r.liftLimits(plan)
	switch {
	case r.holdReason != "":
		return r.waitHeld(r.holdReason)
	case plan.MoreLimits:
		return true
	}
	wave := firstWave(plan, limited)
	if len(wave) == 0 {
		return r.nobodyComesBack(plan, open)
	}
	r.result.Waves++
	brought, undecided := r.powerOn(wave, plan.PlannedAt, false)
	open += undecided
	r.release()
	if brought > 0 {
		r.idle = 0
	}
	if r.holdReason != "" {
		return r.waitHeld(r.holdReason)
	}
	if open == 0 && plan.Beyond == 0 && len(wave)+len(limited) >= len(plan.Returns.Returns) && (!plan.Later || r.in.Person) {
		r.finish("", "")
		return false
	}
	r.wait()
	return true
}

// firstWave lists the VMs that are powered on next, without those that still have a limit of ours.
func firstWave(plan PlanResult, limited map[vsphere.Ref]bool) (wave []policy.Return) {
	for _, t := range plan.Returns.Returns {
		if t.Wave == 1 && !limited[t.Ref] {
			wave = append(wave, t)
		}
	}
	return wave
}

// nobodyComesBack ends a restore that has no VM left to power on. If VMs may come back later, it waits, unless a person
// asked; so it does while limits are to be tried again.
func (r *restore) nobodyComesBack(plan PlanResult, limits int) (goOn bool) {
	if limits > 0 {
		r.wait()
		return true
	}
	if plan.Later && !r.in.Person {
		r.result.Reason = "nobody can come back now"
		r.wait()
		return true
	}
	r.finish("", "")
	return false
}

// maxIdle bounds the waits between plans that power nothing on: they grow from 30 s to about five minutes.
const maxIdle = 10

// wait lets vCenter's statistics catch up. It waits longer each time that no VM came back.
func (r *restore) wait() {
	r.idle = min(r.idle+1, maxIdle)
	r.pause(preemptapi.RestoreWaiting, time.Duration(r.idle)*r.setup.Timing.Remeasure)
}

// pause waits for d, or until it is stopped.
func (r *restore) pause(state preemptapi.RestoreState, d time.Duration) {
	r.result.Until = workflow.Now(r.ctx).Add(d).UTC()
	r.setState(state)
	// Its error is that of a context which is never cancelled.
	_, _ = workflow.AwaitWithTimeout(r.ctx, d, func() bool { return r.stopReason != "" })
	r.result.Until = time.Time{}
}

// plan has the next waves chosen, and the first reserved.
func (r *restore) plan() (plan PlanResult, err error) {
	in := PlanInput{
		RestoreID: r.result.RestoreID, Scope: r.in.Scope, ScopeName: r.in.ScopeName, Tag: r.in.Tag, Policy: r.setup.Policy,
		VMs: r.in.VMs, Person: r.in.Person, Named: r.named, Done: r.decided, Warming: r.warming(),
		Reserve: !r.in.DryRun && r.setup.Policy.Mode != policy.ModeObserve && r.settleTimeOver,
	}
	ctx, cancel := workflow.WithCancel(r.ctx)
	defer cancel()
	r.interrupt = cancel
	var a *Activities
	err = workflow.ExecuteActivity(r.setup.Timing.WithOptions(ctx, 10*time.Minute, "choose whom to power on again"), a.PlanRestore, in).Get(ctx, &plan)
	r.interrupt = nil
	if err != nil {
		if (r.stopReason != "" || r.holdReason != "") && preempt.EndedByCancel(r.ctx, err) {
			err = nil
		}
		return plan, err
	}
	r.named = plan.Named
	r.result.Left = append(plan.Left, r.leftForGood...)
	if plan.ScopeName != "" {
		r.result.ScopeName = plan.ScopeName
	}
	if r.result.Before == nil {
		r.result.Before = plan.Usage
	}
	r.result.After = plan.Usage
	return plan, nil
}

// warmUp is how long a VM that came back may take to use what it used before.
const warmUp = 5 * time.Minute

func (r *restore) warming() (list []policy.Return) {
	for _, vm := range r.result.VMs {
		if vm.Outcome == preemptapi.OutcomeRestored && workflow.Now(r.ctx).Sub(vm.OnAt) < warmUp {
			list = append(list, vm.Return)
		}
	}
	return list
}

// powerOn powers a wave on, or records one that is on, and returns how many came back and how many are to be
// tried again. Where the step ended
// without an answer, as when a stop met it between two attempts, what it had done by then is looked up.
func (r *restore) powerOn(wave []policy.Return, plannedAt time.Time, settle bool) (brought, open int) {
	in := PowerOnInput{
		RestoreID: r.result.RestoreID, By: r.in.By, Tag: r.in.Tag, Targets: wave, Timeout: r.setup.Policy.PowerOffTimeout,
		PlannedAt: plannedAt, OnlyLook: settle,
	}
	var a *Activities
	var res PowerOnResult
	ctx, cancel := workflow.WithCancel(r.ctx)
	defer cancel()
	r.interrupt = cancel
	if r.stopReason != "" {
		cancel()
	}
	opts := r.setup.Timing.WithOptions(ctx, r.setup.Timing.Outage+in.Timeout.D(), fmt.Sprintf("power on: %d VMs", len(wave)))
	err := workflow.ExecuteActivity(opts, a.PowerOnVMs, in).Get(ctx, &res)
	r.interrupt = nil
	if err != nil {
		workflow.GetLogger(r.ctx).Warn("powering on ended without an answer; what it did is looked up", "error", err)
		in.OnlyLook = true
		opts = r.setup.Timing.WithOptions(r.ctx, r.setup.Timing.Outage+in.Timeout.D(), "look what was done before the step ended")
		err = workflow.ExecuteActivity(opts, a.PowerOnVMs, in).Get(r.ctx, &res)
		if err != nil {
			res = PowerOnResult{}
			for _, t := range wave {
				res.VMs = append(res.VMs, preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeNotRestored, Reason: policy.InWords("powering it on failed, look at the VM: " + preempt.Cause(err))})
			}
		}
	}
	for i := range res.VMs {
		res.VMs[i].Wave = r.result.Waves
		tally.Add(r.ctx, "preemption_restored_vms", map[string]string{"outcome": string(res.VMs[i].Outcome)})
		if res.VMs[i].Outcome == preemptapi.OutcomeRestored {
			brought++
		}
	}
	open = len(wave) - r.add(res.VMs)
	r.show()
	return brought, open
}

// mostFailures is in how many waves a VM may fail for a reason that may pass: the waits between them grow from 30 s.
const mostFailures = 4

// triesAgain reports whether a VM whose power-on failed is in a later wave again. A person is told instead.
func (r *restore) triesAgain(vm preemptapi.RestoredVM) bool {
	if !vm.Again || r.in.Person || workflow.GetVersion(r.ctx, "restore-again", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return false
	}
	r.failures[vm.Ref]++
	return r.failures[vm.Ref] < mostFailures
}

// add records what became of VMs; it replaces what was known of them before. It returns of how many that is decided:
// one that no host could take is to be tried again, where no person waits.
func (r *restore) add(vms []preemptapi.RestoredVM) (decided int) {
	told, changed := make(map[vsphere.Ref]bool, len(vms)), make(map[vsphere.Ref]bool, len(vms))
	for _, vm := range vms {
		told[vm.Ref] = true
		changed[vm.Ref] = vm.Outcome != preemptapi.OutcomeLeft
	}
	r.result.Left = slices.DeleteFunc(r.result.Left, func(s policy.Spared) bool { return told[s.Ref] })
	r.result.VMs = slices.DeleteFunc(r.result.VMs, func(vm preemptapi.RestoredVM) bool { return changed[vm.Ref] })
	for _, vm := range vms {
		again := r.triesAgain(vm)
		if r.in.Person || vm.Reason.Reason != policy.NoHost && !again {
			decided++
		}
		if vm.Outcome == preemptapi.OutcomeLeft {
			spared := policy.Spared{Ref: vm.Ref, Name: vm.Name, Reason: policy.Reason(vm.Reason.String())}
			if r.result.Left = append(r.result.Left, spared); r.in.Person {
				r.leftForGood = append(r.leftForGood, spared)
			}
		} else {
			r.result.VMs = append(r.result.VMs, vm)
		}
		// Who came back is known by its attribute, and may be preempted and restored again.
		if vm.Outcome == preemptapi.OutcomeNotRestored && !again || vm.Outcome == preemptapi.OutcomeRestored && !vm.Annotated || r.in.Person {
			r.decided = append(r.decided, vm.Ref)
		}
	}
	return decided
}
