package intake

import (
	"context"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// versionActiveScopes marks intakes that tell the ledger in which scopes their alarm is active, so that no restore, whoever
// started it, brings VMs back there.
const versionActiveScopes = "tell-the-ledger-what-stands"

// tellActiveScopes tells the ledger in which scopes the alarm is active, where that has changed. It is off the way of a
// round: its start tells the same.
func (it *intake) tellActiveScopes() {
	now := it.state.Levels.ActiveScopes()
	it.tellFailed = false
	if slices.Equal(now, it.state.Told) || !it.hasVersion(versionActiveScopes) {
		return
	}
	in := ledger.ActiveRequest{Owner: it.info.WorkflowExecution.ID, Scopes: now}
	if d := it.state.LastDemand; d != nil {
		in.Alarm = d.Alarm()
	}
	var a *Activities
	ctx := it.local(10 * time.Second)
	if err := workflow.ExecuteLocalActivity(ctx, a.TellStanding, in).Get(ctx, nil); err != nil {
		workflow.GetLogger(it.ctx).Error("the ledger was not told where the alarm is active; it is told again soon", "error", err)
		it.tellFailed = true
		return
	}
	it.state.Told = now
}

// tellAgain is how soon the ledger is told again what it could not be told.
const tellAgain = 10 * time.Second

// noteActiveScope notes that the ledger knows of the scope, by the admission of a round.
func (it *intake) noteActiveScope(d preemptapi.Demand) {
	if !outlivesRound(d) {
		return
	}
	if scope := d.Key(); !slices.Contains(it.state.Told, scope) {
		it.state.Told = append(slices.Clone(it.state.Told), scope)
		slices.Sort(it.state.Told)
	}
}

// outlivesRound reports whether a demand goes on after its round: an alarm's does.
func outlivesRound(d preemptapi.Demand) bool {
	return d.Change != nil && !d.Person && !d.DryRun && !d.NoticeOnly && d.VM == ""
}

// ActiveScopes returns the scopes in which a level asks to act, in order.
func (l *Levels) ActiveScopes() (list []string) {
	l.index()
	for _, scope := range scopes(l.ranks) {
		if l.Highest(scope) > 0 {
			list = append(list, scope)
		}
	}
	return list
}

// TellStanding tells the ledger in which scopes an intake's alarm is active, and holds the restores there.
func (a *Activities) TellStanding(ctx context.Context, in ledger.ActiveRequest) error {
	in.Within = a.withinAll(ctx, in.Scopes)
	got, err := a.Ledger.SetActive(ctx, in)
	if err != nil {
		return err
	}
	return a.HoldRestores(ctx, got.Restores, "alarm "+in.Alarm+" rose")
}
