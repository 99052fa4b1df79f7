package preempt

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// decide takes one decoded message.
func (it *intake) decide(d Decoded) preemptapi.Decision {
	switch {
	case d.Rejected != "":
		kind, by := refused, "alarm"
		if d.Elsewhere {
			kind = anotherVCenter
		}
		if d.Person {
			by = "person"
		}
		it.rejectOf(by, kind, d.Rejected)
		return preemptapi.Decision{Verdict: preemptapi.Rejected, Reason: d.Rejected}
	case d.Change == nil:
		it.state.Requests++
		return it.demand(it.named(*d.Demand), 0)
	}
	it.state.Requests++
	rank := colourCriticality(d.Change.To).Rank()
	if d.Change.Criticality != "" {
		rank = d.Change.Criticality.Rank()
	}
	if d.Demand != nil {
		rank = d.Demand.Criticality.Rank()
	}
	scope := d.Change.Scope
	switch it.apply(*d.Change, d.From, rank) {
	case ShiftRise:
		if d.Demand == nil {
			return preemptapi.Decision{Verdict: preemptapi.Rejected, Reason: "the alarm rose, and nobody said what to do"}
		}
		demand := it.named(*d.Demand)
		it.state.Standing[scope] = demand
		delete(it.state.Fruitless, scope)
		return it.demand(demand, 0)
	case ShiftFall:
		if d.Change.Soften && d.Demand != nil {
			return it.soften(it.named(*d.Demand), scope)
		}
		defer it.ended(scope)
		return it.fall(scope, fmt.Sprintf("alarm %s fell to %s on %s", d.Change.Alarm, d.Change.To, d.Change.Entity))
	case ShiftGray:
		return preemptapi.Decision{Verdict: preemptapi.Deferred, Reason: "the alarm's state is unknown: everything holds"}
	}
	return preemptapi.Decision{Verdict: preemptapi.Duplicate, Reason: "nothing new: a repeated or late event, or another entity stands as high"}
}

// apply records a change of an alarm. Which of two is newer, their keys and times may tell differently.
func (it *intake) apply(c preemptapi.Change, from string, rank int) Shift {
	levels, now := &it.state.Levels, it.now()
	if levels.Disputed(now, c) && it.knows(versionClock) {
		return levels.ApplyAt(now, c, from, rank)
	}
	return levels.Apply(c, from, rank)
}

// named gives a demand without an id or event one of its own, so that what follows can refer to it.
func (it *intake) named(d preemptapi.Demand) preemptapi.Demand {
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
	it.rise(d)
	scope, rank := d.Key(), d.Criticality.Rank()
	if it.state.LastDemand == nil {
		it.state.LastDemand = &d
	}
	if active, ok := it.state.Active[scope]; ok {
		if active.Withdrawn && it.knows(versionAgain) {
			return it.follow(d, sequence, active.RoundID)
		}
		return it.join(d, active.RoundID, active.Rank)
	}
	if waiting := it.state.deferral(scope); waiting != nil && !d.Person && rank <= waiting.Demand.Criticality.Rank() {
		return preemptapi.Decision{Verdict: preemptapi.Deferred, Until: waiting.Until, Reason: waiting.Reason}
	}
	if cool, ok := it.state.Cooling[scope]; ok && rank <= cool.Rank && it.now().Before(cool.Until) {
		return it.later(d, sequence, cool.Until, cool.Reason)
	}
	return it.start(d, sequence)
}

// follow puts a request behind a withdrawn round that has not ended.
func (it *intake) follow(d preemptapi.Demand, sequence int, round string) preemptapi.Decision {
	decision := it.later(d, sequence, it.now().Add(busyRetry), "round "+round+" was withdrawn and is ending")
	decision.RoundID = round
	return decision
}

// join tells the round under way of a higher criticality. What asks for no more than it does is served by
// it already.
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

func (it *intake) raise(d preemptapi.Demand, round string) {
	change := RoundChange{Criticality: d.Criticality, Reason: "asked for by " + d.RequestID}
	it.signal(round, change)
	for _, scope := range scopes(it.state.Active) {
		if active := it.state.Active[scope]; active.RoundID == round {
			active.Rank = d.Criticality.Rank()
			it.state.Active[scope] = active
		}
	}
	var a *Activities
	ctx := it.local(time.Minute)
	req := ledger.RaiseRequest{Owner: round, Rank: d.Criticality.Rank()}
	if err := workflow.ExecuteLocalActivity(ctx, a.RaiseRound, req).Get(ctx, nil); err != nil {
		workflow.GetLogger(it.ctx).Warn("the ledger was not told of the raise", "round", round, "error", err)
	}
}

func (it *intake) signal(round string, change RoundChange) {
	if err := workflow.SignalExternalWorkflow(it.ctx, round, "", RoundSignal, change).Get(it.ctx, nil); err != nil {
		workflow.GetLogger(it.ctx).Info("the round has ended already", "round", round, "error", err)
	}
}

// fall withdraws what is under way or waits in a scope.
func (it *intake) fall(scope, reason string) preemptapi.Decision {
	delete(it.state.Standing, scope)
	delete(it.state.Fruitless, scope)
	if w := it.state.deferral(scope); w != nil && !w.Demand.Person {
		it.state.dropDeferral(scope)
	}
	active, ok := it.state.Active[scope]
	if !ok {
		return preemptapi.Decision{Verdict: preemptapi.Duplicate, Reason: reason + ": nothing was under way"}
	}
	if active.Withdrawn && it.knows(versionAgain) {
		return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: active.RoundID, Reason: reason + ": the round under way was withdrawn before"}
	}
	it.signal(active.RoundID, RoundChange{Withdraw: true, Reason: reason})
	active.Withdrawn = true
	it.state.Active[scope] = active
	return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: active.RoundID, Reason: reason + ": the round under way was withdrawn"}
}

// soften goes on at the lower criticality of the demand: what waits, what stands, and what the round under
// way has not yet acted upon.
func (it *intake) soften(d preemptapi.Demand, scope string) preemptapi.Decision {
	if _, ok := it.state.Standing[scope]; ok {
		it.state.Standing[scope] = d
	}
	reason := fmt.Sprintf("alarm %s fell to %s: going on at %s", d.Change.Alarm, d.Change.To, d.Criticality)
	if w := it.state.deferral(scope); w != nil && !w.Demand.Person {
		w.Demand.Criticality = d.Criticality
	}
	active, ok := it.state.Active[scope]
	if !ok {
		return preemptapi.Decision{Verdict: preemptapi.Duplicate, Reason: reason + "; nothing was under way"}
	}
	it.signal(active.RoundID, RoundChange{Soften: true, Criticality: d.Criticality, Reason: reason})
	active.Rank = min(active.Rank, d.Criticality.Rank())
	it.state.Active[scope] = active
	return preemptapi.Decision{Verdict: preemptapi.Joined, RoundID: active.RoundID, Reason: reason}
}

// start asks the ledger and starts the round.
func (it *intake) start(d preemptapi.Demand, sequence int) preemptapi.Decision {
	var a *Activities
	var got ledger.Admission
	scope := d.Key()
	in := StartInput{Sequence: sequence, Round: RoundInput{
		Demand: d, IntakeID: it.info.WorkflowExecution.ID, IntakeRun: it.state.Started,
		Timing: it.state.Timing, Sequence: sequence, Attrs: it.state.Attrs,
	}}
	ctx := it.local(time.Minute)
	if err := workflow.ExecuteLocalActivity(ctx, a.StartRound, in).Get(ctx, &got); err != nil {
		if !d.Person {
			it.state.postpone(preemptapi.Deferral{Scope: scope, Until: it.now().Add(10 * time.Second), Reason: "the round could not be started", Demand: d, Sequence: sequence})
		}
		return preemptapi.Decision{Verdict: preemptapi.Failed, Reason: "the round could not be started: " + err.Error()}
	}
	if it.knows(versionStanding) {
		it.stood(d)
	}
	switch got.Verdict {
	case ledger.Granted:
		it.began(d, sequence, got.Owner)
		return preemptapi.Decision{Verdict: preemptapi.Started, RoundID: got.Owner}
	case ledger.Duplicate:
		if isRound(got.Owner, it.info.WorkflowExecution.ID, d.RequestID, sequence) && it.adopt(d, sequence, got.Owner) {
			return preemptapi.Decision{Verdict: preemptapi.Started, RoundID: got.Owner}
		}
		return preemptapi.Decision{Verdict: preemptapi.Duplicate, RoundID: got.Owner, Reason: "this request was acted on before"}
	case ledger.Busy:
		if d.Person || d.Criticality.Rank() > got.Rank {
			decision := it.join(d, got.Owner, got.Rank)
			it.outlast(d, sequence, decision)
			return decision
		}
		return it.later(d, sequence, it.now().Add(busyRetry), "another round is under way in this scope: "+got.Owner)
	default:
		reason := "the scope was preempted a short time ago by " + got.Owner
		it.state.Cooling[scope] = Cooling{Until: got.Until, Rank: got.Rank, Reason: reason}
		return it.later(d, sequence, got.Until, reason)
	}
}

func (it *intake) began(d preemptapi.Demand, sequence int, round string) {
	scope := d.Key()
	it.state.dropDeferral(scope)
	it.state.LastDemand = &d
	it.state.Active[scope] = ActiveRound{RoundID: round, Rank: d.Criticality.Rank(), Since: it.now(), Sequence: sequence}
}

// adopt takes up a round that this intake started in a task that was lost with its worker; false for one that it knew
// before, or that an earlier intake started.
func (it *intake) adopt(d preemptapi.Demand, sequence int, round string) bool {
	last := it.state.Last
	if last != nil && last.RoundID == round || !it.knows(versionAdopt) {
		return false
	}
	got, err := it.lookAt(round)
	began := got.Result.StartedAt
	switch {
	case err != nil:
		workflow.GetLogger(it.ctx).Error("it is unknown what became of the round", "round", round, "error", err)
		return false
	case !got.Open && (began.Before(it.state.Started) || last != nil && !began.After(last.StartedAt)):
		return false
	}
	it.began(d, sequence, round)
	if !got.Open {
		it.roundDone(got.Result)
	}
	return true
}

func (it *intake) lookAt(round string) (got RoundStatus, err error) {
	var a *Activities
	ctx := it.local(time.Minute)
	err = workflow.ExecuteLocalActivity(ctx, a.LookAtRound, round).Get(ctx, &got)
	return got, err
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
	versionAdopt    = "adopt-a-round-of-a-lost-task"   // a round whose start was forgotten is its own all the same
)

// knows tells whether the run decides as the version says: not where its history decided otherwise.
func (it *intake) knows(version string) bool {
	return workflow.GetVersion(it.ctx, version, workflow.DefaultVersion, 1) != workflow.DefaultVersion
}

// outlast keeps the request of an alarm that joined another intake's round: that ends when the other's alarm
// falls, and this one may still stand then.
func (it *intake) outlast(d preemptapi.Demand, sequence int, joined preemptapi.Decision) {
	if d.Person || joined.Verdict != preemptapi.Joined || !it.knows(versionOutlast) {
		return
	}
	it.state.postpone(preemptapi.Deferral{
		Scope: d.Scope.String(), Until: it.now().Add(busyRetry), Reason: joined.Reason + ": " + joined.RoundID, Demand: d, Sequence: sequence,
	})
}

// busyRetry is how long to wait before asking again where another intake's round is under way.
const busyRetry = 5 * time.Second

// later defers an alarm's request and refuses a person's.
func (it *intake) later(d preemptapi.Demand, sequence int, until time.Time, reason string) preemptapi.Decision {
	if d.Person {
		return preemptapi.Decision{Verdict: preemptapi.Refused, Until: until, Reason: reason}
	}
	it.state.postpone(preemptapi.Deferral{Scope: d.Key(), Until: until, Reason: reason, Demand: d, Sequence: sequence})
	return preemptapi.Decision{Verdict: preemptapi.Deferred, Until: until, Reason: reason}
}

// due starts what has waited long enough, and lets fall what was unknown for too long.
func (it *intake) due() {
	now := it.now()
	for _, scope := range it.state.Levels.ExpireGray(now, it.state.grayTimeout()) {
		it.fall(scope, "the alarm's state was unknown for too long")
		it.ended(scope)
	}
	for _, d := range it.state.Deferred {
		if d.Until.After(now) {
			continue
		}
		if it.state.Levels.AllGray(d.Scope) {
			later := d
			later.Until = now.Add(it.state.grayTimeout())
			it.state.postpone(later)
			continue
		}
		it.state.dropDeferral(d.Scope)
		decision := it.start(d.Demand, d.Sequence)
		it.state.LastDecision = &decision
		it.show()
		return // Deferred has changed: the loop comes back for the others
	}
}

// roundDone takes a round's result, and plans its repetition while the alarm stands.
func (it *intake) roundDone(r preemptapi.RoundResult) {
	scope, ok := it.state.scopeOf(r.RoundID)
	if !ok {
		if it.state.Last != nil && it.state.Last.RoundID == r.RoundID {
			it.state.finished(r)
		}
		return
	}
	active := it.state.Active[scope]
	delete(it.state.Active, scope)
	it.state.finished(r)
	d, stands := it.state.Standing[scope]
	// The fall that withdrew the round took back all that stood; what the round found over is what it was for. The rest
	// rose since. A round that a person cancelled is followed by none.
	other := !isRound(r.RoundID, it.info.WorkflowExecution.ID, d.RequestID, active.Sequence)
	rose := stands && r.State == preemptapi.RoundWithdrawn && (active.Withdrawn || r.AlarmOver && other) && it.knows(versionAgain)
	if r.AlarmOver && !rose {
		it.state.Levels.ClearScope(scope)
		delete(it.state.Standing, scope)
		it.state.dropDeferral(scope)
		it.ended(scope)
		stands = false
	}
	if rose {
		it.state.postpone(preemptapi.Deferral{Scope: scope, Until: it.now(), Reason: "the alarm rose while the round before ended", Demand: d})
	}
	if stands && (d.Policy.RepeatWhileRed || r.Silenced != "") && r.State != preemptapi.RoundWithdrawn && it.state.deferral(scope) == nil {
		it.repeat(scope, r, d, max(active.Sequence, 1)+1)
	}
	it.show()
}

// repeat has the alarm looked at again after a pause, as it still stands: longer where earlier rounds found nobody, and
// where nothing says which usage is too high, as vSphere's alarms lag behind by minutes.
func (it *intake) repeat(scope string, r preemptapi.RoundResult, d preemptapi.Demand, sequence int) {
	reason := "the alarm still stands"
	pause := max(d.Policy.Cooldown.D(), time.Second)
	if len(r.Preempted()) == 0 {
		it.state.Fruitless[scope]++
		pause <<= min(it.state.Fruitless[scope]-1, 4)
	} else {
		delete(it.state.Fruitless, scope)
	}
	if r.Unmeasured {
		pause = max(pause, it.state.Timing.RepeatWait)
	}
	if r.Silenced != "" {
		reason += ", and is held: " + r.Silenced
	}
	it.state.postpone(preemptapi.Deferral{Scope: scope, Until: it.now().Add(pause), Reason: reason, Demand: d, Sequence: sequence})
}

// checkRounds looks at rounds that have run for a while, in case one ended without a word.
func (it *intake) checkRounds() {
	for _, scope := range scopes(it.state.Active) {
		active := it.state.Active[scope]
		if it.now().Sub(active.Since) < it.state.Timing.Sweep {
			continue
		}
		got, err := it.lookAt(active.RoundID)
		if err != nil || got.Open {
			continue
		}
		workflow.GetLogger(it.ctx).Warn("the round ended without telling its intake", "round", active.RoundID, "state", got.Result.State)
		it.roundDone(got.Result)
	}
}

// cancel withdraws everything, waits a bounded time for the rounds to say what they did, and completes;
// unless requests came after the cancellation, for which it goes on in a new run.
func (it *intake) cancel(ctx workflow.Context) (preemptapi.Response, error) {
	it.state.Levels.Clear()
	it.state.Deferred = nil
	clear(it.state.Standing)
	for _, scope := range scopes(it.state.Active) {
		it.signal(it.state.Active[scope].RoundID, RoundChange{Withdraw: true, Reason: "the preemption was cancelled"})
	}
	_, err := workflow.AwaitWithTimeout(it.ctx, it.state.Timing.CancelWait, func() bool {
		for {
			var r preemptapi.RoundResult
			if !it.rounds.ReceiveAsync(&r) {
				return len(it.state.Active) == 0
			}
			it.roundDone(r)
		}
	})
	if err != nil {
		return preemptapi.Response{}, err
	}
	it.drain()
	if len(it.inbox) > 0 {
		var a *Activities
		var after int
		local := it.local(time.Minute)
		if err := workflow.ExecuteLocalActivity(local, a.SignalsAfterCancel, it.info.WorkflowExecution).Get(local, &after); err != nil {
			workflow.GetLogger(it.ctx).Error("it is unknown which requests came after the cancellation: none goes on", "error", err)
		}
		it.keepLast(after)
	}
	if len(it.inbox) > 0 {
		return preemptapi.Response{}, it.roll(ctx)
	}
	return it.complete()
}

// keepLast keeps the newest n signals of the inbox: those that came after the cancellation. The older ones
// are what was cancelled.
func (it *intake) keepLast(n int) {
	drop := -n
	for _, i := range it.inbox {
		if i.done == nil {
			drop += 1 + i.Again
		}
	}
	var kept []item
	for _, i := range it.inbox {
		if count := 1 + i.Again; i.done == nil && drop >= count {
			drop -= count
			continue
		}
		kept = append(kept, i)
	}
	it.inbox = kept
}
