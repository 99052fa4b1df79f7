package record

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// readLedger asks the ledger.
func (r *Reader) readLedger(ctx context.Context) error {
	var s ledger.State
	switch err := r.query(ctx, ledger.WorkflowID(r.TaskQueue), "", ledger.QueryState, &s); {
	case gone(err):
		r.parts.last.Ledger = ledgerNow(s, r.now(), false) // nothing has needed it yet
		return nil
	case err != nil:
		return err
	}
	r.parts.last.Ledger = ledgerNow(s, r.now(), true)
	return nil
}

func ledgerNow(s ledger.State, now time.Time, running bool) Ledger {
	out := Ledger{At: now, Running: running, Alarms: []ledger.ActiveAlarm{}, Reserved: map[string]int{}, Scopes: []LedgerScope{}}
	for owner, alarms := range s.Demands {
		for _, alarm := range alarms {
			alarm.Owner = cmp.Or(alarm.Owner, owner)
			out.Alarms = append(out.Alarms, alarm)
		}
	}
	slices.SortFunc(out.Alarms, func(a, b ledger.ActiveAlarm) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Alarm, b.Alarm), strings.Compare(a.Scope, b.Scope))
	})
	for _, owner := range s.Reserved {
		out.Reserved[owner]++
	}
	for key, scope := range s.Scopes {
		if scope.Active != "" || scope.Until.After(now) {
			out.Scopes = append(out.Scopes, LedgerScope{Scope: key, Active: scope.Active, Since: scope.ActiveSince, Until: scope.Until})
		}
	}
	held := ledger.HeldUp{Pauses: s.Pauses, Spares: s.Spares}.Now(now)
	out.Pauses, out.Spares = append([]ledger.Pause{}, held.Pauses...), append([]ledger.Spare{}, held.Spares...)
	slices.SortFunc(out.Scopes, func(a, b LedgerScope) int { return strings.Compare(a.Scope, b.Scope) })
	return out
}

// readWatch asks the watch.
func (r *Reader) readWatch(ctx context.Context) error {
	var s watchapi.State
	switch err := r.query(ctx, watchapi.WorkflowID(r.TaskQueue), "", watchapi.StateQuery, &s); {
	case gone(err):
		r.parts.last.Watch = Watch{At: r.now()}
		return nil
	case err != nil:
		return err
	}
	if c, ok := r.heartbeat(ctx); ok {
		s.Checkpoint = c
	}
	s.Checkpoint.Seen = nil // of no use to a reader
	r.parts.last.Watch = Watch{At: r.now(), Running: true, State: &s}
	return nil
}

// heartbeat returns how far the watch says that it has come: fresher than what its workflow knows.
func (r *Reader) heartbeat(ctx context.Context) (c watchapi.Checkpoint, ok bool) {
	d, err := r.Client.DescribeWorkflowExecution(ctx, watchapi.WorkflowID(r.TaskQueue), "")
	if err != nil {
		return c, false // what the workflow knows is shown, with its age
	}
	for _, a := range d.GetPendingActivities() {
		if a.GetActivityType().GetName() == watchapi.ActivityType && a.GetHeartbeatDetails() != nil {
			return c, converter.GetDefaultDataConverter().FromPayloads(a.GetHeartbeatDetails(), &c) == nil
		}
	}
	return c, false
}
