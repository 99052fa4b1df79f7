package intake

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// StartRestore starts the restore of a scope, or signals the one under way that the pressure has ended again.
func (a *Activities) StartRestore(ctx context.Context, in preemptapi.RestoreInput) (string, error) {
	why := "alarm " + in.By + " has fallen"
	if in.By == byHeadroom {
		why = "the headroom is there"
	}
	return a.Env.StartRestore(ctx, in, why)
}

// byHeadroom is what a restore is by that no alarm is behind.
const byHeadroom = "headroom"

// noteRestore remembers what to restore when the pressure of the demand's scope has ended, and stops a restore that
// is under way: it waits until Temporal has taken the word, so that the restore knows before the round begins.
func (it *intake) noteRestore(d preemptapi.Demand) {
	if !d.Policy.Restore.Enabled || d.DryRun || d.NoticeOnly {
		return
	}
	if d.Headroom {
		it.noteHeadroom(d)
		return
	}
	if d.Change != nil && !d.Person && d.VM == "" {
		p := d.Policy
		it.noteReturns(d.Change.Scope, preemptapi.RestoreInput{
			Scope: d.Scope, ScopeName: d.ScopeName, Tag: d.Tag, Policy: &p, PolicyName: d.PolicyName, PolicyHash: d.PolicyHash,
			By: d.Alarm(), ReplyTo: d.ReplyTo,
		})
	}
	change := preemptapi.RestoreChange{Stop: true, Reason: "preemption was asked for by " + d.RequestID}
	if name := d.Alarm(); name != "" {
		change.Reason = fmt.Sprintf("alarm %s rose to %s", name, d.Change.To)
	}
	scopes := []vsphere.Ref{d.Scope}
	if !d.Scope.Zero() {
		scopes = append(scopes, vsphere.Ref{})
	}
	var told []workflow.Future
	for _, scope := range scopes {
		id := preemptapi.RestoreID(it.info.TaskQueueName, scope)
		told = append(told, workflow.SignalExternalWorkflow(it.ctx, id, "", preemptapi.RestoreSignal, change))
	}
	for _, f := range told {
		if err := f.Get(it.ctx, nil); err != nil {
			workflow.GetLogger(it.ctx).Debug("no restore was under way", "reason", err)
		}
	}
}

// noteHeadroom remembers what to restore when the headroom is there. A restore that is under way goes on: it heeds the same
// headroom. Those who come back leave a margin of it, so that they do not have to go again at once.
func (it *intake) noteHeadroom(d preemptapi.Demand) {
	p := d.Policy
	p.Target.Margin = policy.DefaultGoal().Margin
	it.noteReturns(d.Scope.String(), preemptapi.RestoreInput{
		Scope: d.Scope, ScopeName: d.ScopeName, Tag: d.Tag, Policy: &p, PolicyName: d.PolicyName, PolicyHash: d.PolicyHash,
		By: byHeadroom, ReplyTo: d.ReplyTo,
	})
}

// noteReturns remembers the restore of a scope.
func (it *intake) noteReturns(scope string, in preemptapi.RestoreInput) {
	if it.state.Restores == nil {
		it.state.Restores = map[string]preemptapi.RestoreInput{}
	}
	it.state.Restores[scope] = in
}

// startRestore starts the restore of a scope in which no alarm is active any more, if the policy has one.
func (it *intake) startRestore(scope string) {
	in, ok := it.state.Restores[scope]
	if !ok || it.state.Levels.Highest(scope) > 0 {
		return
	}
	it.tellActiveScopes()
	var a *Activities
	var id string
	ctx := it.local(5 * time.Minute)
	if err := workflow.ExecuteLocalActivity(ctx, a.StartRestore, in).Get(ctx, &id); err != nil {
		workflow.GetLogger(it.ctx).Error("the restore could not be started; preemptctl restore does it by hand", "cluster", scope, "error", err)
		return
	}
	delete(it.state.Restores, scope)
	workflow.GetLogger(it.ctx).Info("the pressure has ended: restoring after the settle time", "cluster", scope, "restore", id)
}
