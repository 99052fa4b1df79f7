package intake

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// decide takes one decoded message.
func (it *intake) decide(d Decoded) preemptapi.Decision {
	switch {
	case d.Rejected != "":
		return it.rejected(d)
	case d.Change == nil:
		it.state.Requests++
		return it.demand(it.withID(*d.Demand), 0)
	}
	it.state.Requests++
	scope := d.Change.Scope
	shift := it.apply(*d.Change, d.From, rankAsked(d))
	switch shift {
	case ShiftRise:
		if d.Demand == nil {
			return preemptapi.Decision{Verdict: preemptapi.Rejected, Reason: "the alarm rose, and nobody said what to do"}
		}
		demand := it.withID(*d.Demand)
		it.state.StillActive[scope] = demand
		delete(it.state.Fruitless, scope)
		return it.demand(demand, 0)
	case ShiftFall:
		if d.Change.Soften && d.Demand != nil {
			return it.soften(it.withID(*d.Demand), scope)
		}
		defer it.startRestore(scope)
		return it.fall(scope, fmt.Sprintf("alarm %s fell to %s on %s", d.Change.Alarm, d.Change.To, d.Change.Entity))
	case ShiftGray:
		return preemptapi.Decision{Verdict: preemptapi.Deferred, Reason: "the alarm's state is unknown: everything holds"}
	}
	return preemptapi.Decision{Verdict: preemptapi.Duplicate, Reason: "nothing new: a repeated or late event, or another entity stands as high"}
}

// rejected rejects a message.
func (it *intake) rejected(d Decoded) preemptapi.Decision {
	kind, by := refused, "alarm"
	if d.AnotherVCenter {
		kind = anotherVCenter
	}
	if d.Person {
		by = "person"
	}
	it.rejectOf(by, kind, d.Rejected)
	return preemptapi.Decision{Verdict: preemptapi.Rejected, Reason: d.Rejected}
}

// rankAsked is how hard a change of an alarm asks to act.
func rankAsked(d Decoded) int {
	switch {
	case d.Demand != nil:
		return d.Demand.Criticality.Rank()
	case d.Change.Criticality != "":
		return d.Change.Criticality.Rank()
	}
	return colourCriticality(d.Change.To).Rank()
}

// apply records a change of an alarm. Which of two is newer, their keys and times may tell differently.
func (it *intake) apply(c preemptapi.Change, from string, rank int) Shift {
	levels, now := &it.state.Levels, it.now()
	if levels.Disputed(now, c) && it.hasVersion(versionClock) {
		return levels.ApplyAt(now, c, from, rank)
	}
	return levels.Apply(c, from, rank)
}

// withID gives a demand without an id or event one of its own, so that what follows can refer to it.
func (it *intake) withID(d preemptapi.Demand) preemptapi.Demand {
	if d.RequestID == "" {
		d.RequestID = fmt.Sprintf("%s#%d", it.info.WorkflowExecution.RunID, it.state.Requests)
	}
	if len(d.Event) == 0 || string(d.Event) == "null" {
		d.EventID = d.RequestID
		d.Event = json.RawMessage(fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"preemption","type":%q}`,
			d.EventID, preemption.RunEventType))
	}
	return d
}

// demand decides about one demand: joins the round under way, waits, or starts a round.
func (it *intake) demand(d preemptapi.Demand, sequence int) preemptapi.Decision {
	it.noteRestore(d)
	scope, rank := d.Key(), d.Criticality.Rank()
	if it.state.LastDemand == nil {
		it.state.LastDemand = &d
	}
	if active, ok := it.state.Active[scope]; ok {
		if active.Withdrawn && it.hasVersion(versionAgain) {
			return it.queueBehind(d, sequence, active.RoundID)
		}
		return it.join(d, active.RoundID, active.Rank)
	}
	if waiting := it.state.deferral(scope); waiting != nil && !d.Person && rank <= waiting.Demand.Criticality.Rank() {
		return preemptapi.Decision{Verdict: preemptapi.Deferred, Until: waiting.Until, Reason: waiting.Reason}
	}
	if cool, ok := it.state.Cooling[scope]; ok && rank <= cool.Rank && it.now().Before(cool.Until) {
		return it.postponeOrRefuse(d, sequence, cool.Until, cool.Reason)
	}
	return it.start(d, sequence)
}

// queueBehind puts a request behind a withdrawn round that has not ended.
func (it *intake) queueBehind(d preemptapi.Demand, sequence int, round string) preemptapi.Decision {
	decision := it.postponeOrRefuse(d, sequence, it.now().Add(busyRetry), "round "+round+" was withdrawn and is ending")
	decision.RoundID = round
	return decision
}

// join raises the round under way to a higher criticality. A request that asks for no more is served by it already.
func (it *intake) join(d preemptapi.Demand, round string, rank int) preemptapi.Decision {
	switch {
	case d.Criticality.Rank() > rank:
		it.raise(d, round)
		return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: round, Reason: "the round under way was raised to " + string(d.Criticality)}
	case d.Person:
		return preemptapi.Decision{Verdict: preemptapi.Refused, RoundID: round, Reason: "round " + round + " is under way in this scope: wait for it, or ask for a higher criticality"}
	}
	return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: round, Reason: "a round of at least that criticality is under way"}
}

func (it *intake) raise(d preemptapi.Demand, id string) {
	change := round.Change{Criticality: d.Criticality, Reason: "asked for by " + d.RequestID}
	it.signal(id, change)
	for _, scope := range scopes(it.state.Active) {
		if active := it.state.Active[scope]; active.RoundID == id {
			active.Rank = d.Criticality.Rank()
			it.state.Active[scope] = active
		}
	}
	var a *Activities
	ctx := it.local(time.Minute)
	req := ledger.RaiseRequest{Owner: id, Rank: d.Criticality.Rank()}
	if err := workflow.ExecuteLocalActivity(ctx, a.RaiseRound, req).Get(ctx, nil); err != nil {
		workflow.GetLogger(it.ctx).Warn("the ledger was not told of the raise", "round", id, "error", err)
	}
}

func (it *intake) signal(id string, change round.Change) {
	if err := workflow.SignalExternalWorkflow(it.ctx, id, "", round.ChangeSignal, change).Get(it.ctx, nil); err != nil {
		workflow.GetLogger(it.ctx).Info("the round has ended already", "round", id, "error", err)
	}
}

// fall withdraws what is under way or waits in a scope.
func (it *intake) fall(scope, reason string) preemptapi.Decision {
	delete(it.state.StillActive, scope)
	delete(it.state.Fruitless, scope)
	if w := it.state.deferral(scope); w != nil && !w.Demand.Person {
		it.state.dropDeferral(scope)
	}
	active, ok := it.state.Active[scope]
	if !ok {
		return preemptapi.Decision{Verdict: preemptapi.Duplicate, Reason: reason + ": nothing was under way"}
	}
	if active.Withdrawn && it.hasVersion(versionAgain) {
		return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: active.RoundID, Reason: reason + ": the round under way was withdrawn before"}
	}
	it.signal(active.RoundID, round.Change{Withdraw: true, Reason: reason})
	active.Withdrawn = true
	it.state.Active[scope] = active
	return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: active.RoundID, Reason: reason + ": the round under way was withdrawn"}
}

// soften lowers the criticality of what waits, of what is repeated while the alarm is active, and of what the round under
// way has not yet acted upon.
func (it *intake) soften(d preemptapi.Demand, scope string) preemptapi.Decision {
	if _, ok := it.state.StillActive[scope]; ok {
		it.state.StillActive[scope] = d
	}
	reason := fmt.Sprintf("alarm %s fell to %s: going on at %s", d.Change.Alarm, d.Change.To, d.Criticality)
	if w := it.state.deferral(scope); w != nil && !w.Demand.Person {
		w.Demand.Criticality = d.Criticality
	}
	active, ok := it.state.Active[scope]
	if !ok {
		return preemptapi.Decision{Verdict: preemptapi.Duplicate, Reason: reason + "; nothing was under way"}
	}
	it.signal(active.RoundID, round.Change{Soften: true, Criticality: d.Criticality, Reason: reason})
	active.Rank = min(active.Rank, d.Criticality.Rank())
	it.state.Active[scope] = active
	return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: active.RoundID, Reason: reason}
}

// Versions of the intake: what a run under way has not decided yet, it decides the new way.
const (
	versionBundle   = "bundled-alarm-changes"          // many alarm changes in one signal
	versionOutlast  = "outlast-a-joined-round"         // a request outlives the round of another's that it joined
	versionAgain    = "again-after-the-withdrawn"      // a rise behind a withdrawn round has a round of its own
	versionPaced    = "end-a-task-that-decoded-enough" // a backlog is taken in many tasks
	versionReserved = "refuse-a-reserved-id"           // an intake under an id of another kind takes nothing
	versionExpire   = "complete-with-work-left"        // an intake never meets its client's execution timeout
	versionClock    = "keys-before-times"              // of two changes of an alarm the one with the higher key is newer
	versionNamed    = "named-when-complete"            // the list of workflows says of one that has completed which alarm it was for
	versionAdopt    = "adopt-a-round-of-a-lost-task"   // a round whose start was forgotten is its own all the same
)

// hasVersion reports whether the run decides as the version says: not where its history decided otherwise.
func (it *intake) hasVersion(version string) bool {
	return workflow.GetVersion(it.ctx, version, workflow.DefaultVersion, 1) != workflow.DefaultVersion
}
