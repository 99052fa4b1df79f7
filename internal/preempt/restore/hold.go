package restore

import (
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// listenHold receives the demands of others: nothing more is powered on until a new plan finds none active.
func (r *restore) listenHold(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, preemptapi.RestoreHoldSignal)
	for {
		var c preemptapi.RestoreChange
		if !ch.Receive(ctx, &c) {
			return
		}
		r.hold(c.Reason)
	}
}

func (r *restore) hold(reason string) {
	if r.stopReason != "" || r.holdReason != "" {
		return
	}
	r.holdReason = reason
	if r.interrupt != nil {
		r.note("held: " + reason)
		r.interrupt()
	}
}

// waitHeld waits while somebody demands something in the scope; the settle time begins again when that has ended. A
// person does not wait.
func (r *restore) waitHeld(reason string) (goOn bool) {
	if r.in.Person {
		r.stop(reason)
		return true
	}
	r.result.Reason, r.settleTimeOver = reason, false
	r.wait()
	return true
}

// waitForOthers handles a plan for a scope in which others demand something: a person is refused, and an alarm's
// restore waits.
func (r *restore) waitForOthers(plan PlanResult) (goOn bool) {
	if len(plan.ActiveRounds) == 0 {
		return r.waitHeld(plan.ActiveAlarms[0])
	}
	reason := "round " + plan.ActiveRounds[0] + " is under way in this scope"
	if r.in.Person {
		r.finish(preemptapi.RestoreRefused, reason)
		return false
	}
	r.result.Reason = reason
	r.settleTimeOver = r.settleTimeOver && len(plan.ActiveAlarms) == 0
	r.wait()
	return true
}

// waitSettleTime lets the settle time pass, where it has not.
func (r *restore) waitSettleTime() {
	if d := r.setup.Policy.Restore.Settle.D(); !r.in.Person && !r.settleTimeOver && d > 0 {
		r.pause(preemptapi.RestoreSettling, d)
	}
	r.settleTimeOver = true
}

// clipList keeps the first of many.
func clipList(list []string) []string { return list[:min(len(list), 20)] }
