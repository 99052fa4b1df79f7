package intake

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
)

// start asks the ledger and starts the round.
func (it *intake) start(d preemptapi.Demand, sequence int) preemptapi.Decision {
	var a *Activities
	var got ledger.Admission
	scope := d.Key()
	in := StartInput{Sequence: sequence, Round: round.Input{
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
	if it.hasVersion(versionActiveScopes) {
		it.noteActiveScope(d)
	}
	switch got.Verdict {
	case ledger.Granted:
		it.noteStarted(d, sequence, got.Owner)
		return preemptapi.Decision{Verdict: preemptapi.Started, RoundID: got.Owner}
	case ledger.Duplicate:
		if isRound(got.Owner, it.info.WorkflowExecution.ID, d.RequestID, sequence) && it.adoptLostRound(d, sequence, got.Owner) {
			return preemptapi.Decision{Verdict: preemptapi.Started, RoundID: got.Owner}
		}
		return preemptapi.Decision{Verdict: preemptapi.Duplicate, RoundID: got.Owner, Reason: "this request was acted on before"}
	case ledger.Busy:
		if d.Person || d.Criticality.Rank() > got.Rank {
			decision := it.join(d, got.Owner, got.Rank)
			it.keepAfterJoined(d, sequence, decision)
			return decision
		}
		return it.postponeOrRefuse(d, sequence, it.now().Add(busyRetry), "another round is under way in this scope: "+got.Owner)
	case ledger.Paused:
		return it.postponeOrRefuse(d, sequence, it.pausedUntil(got.Until), got.Reason)
	default:
		reason := "the scope was preempted a short time ago by " + got.Owner
		it.state.Cooling[scope] = Cooling{Until: got.Until, Rank: got.Rank, Reason: reason}
		return it.postponeOrRefuse(d, sequence, got.Until, reason)
	}
}

func (it *intake) noteStarted(d preemptapi.Demand, sequence int, round string) {
	scope := d.Key()
	it.state.dropDeferral(scope)
	it.state.LastDemand = &d
	it.state.Active[scope] = ActiveRound{RoundID: round, Rank: d.Criticality.Rank(), Since: it.now(), Sequence: sequence}
}

// adoptLostRound takes up a round that this intake started in a task that was lost with its worker; false for one that it knew
// before, or that an earlier intake started.
func (it *intake) adoptLostRound(d preemptapi.Demand, sequence int, round string) bool {
	last := it.state.Last
	if last != nil && last.RoundID == round || !it.hasVersion(versionAdopt) {
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
	it.noteStarted(d, sequence, round)
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

// keepAfterJoined keeps the request of an alarm that joined another intake's round: that ends when the other's alarm
// falls, and this one may still stand then.
func (it *intake) keepAfterJoined(d preemptapi.Demand, sequence int, joined preemptapi.Decision) {
	if d.Person || joined.Verdict != preemptapi.Joined || !it.hasVersion(versionOutlast) {
		return
	}
	it.state.postpone(preemptapi.Deferral{
		Scope: d.Scope.String(), Until: it.now().Add(busyRetry), Reason: joined.Reason + ": " + joined.RoundID, Demand: d, Sequence: sequence,
	})
}

// pausedRetry is how long an alarm waits before it asks again whether a pause has been ended before its time.
const pausedRetry = 15 * time.Second

// pausedUntil is when to ask again after a pause that ends then; zero: nobody knows.
func (it *intake) pausedUntil(end time.Time) time.Time {
	again := it.now().Add(pausedRetry)
	if !end.IsZero() && end.Before(again) {
		return end
	}
	return again
}

// busyRetry is how long to wait before asking again where another intake's round is under way.
const busyRetry = 5 * time.Second

// postponeOrRefuse defers an alarm's request and refuses a person's.
func (it *intake) postponeOrRefuse(d preemptapi.Demand, sequence int, until time.Time, reason string) preemptapi.Decision {
	if d.Person {
		return preemptapi.Decision{Verdict: preemptapi.Refused, Until: until, Reason: reason}
	}
	it.state.postpone(preemptapi.Deferral{Scope: d.Key(), Until: until, Reason: reason, Demand: d, Sequence: sequence})
	return preemptapi.Decision{Verdict: preemptapi.Deferred, Until: until, Reason: reason}
}

// startDue starts what has waited long enough, and lets fall what was unknown for too long.
func (it *intake) startDue() {
	now := it.now()
	for _, scope := range it.state.Levels.ExpireGray(now, it.state.grayTimeout()) {
		it.fall(scope, "the alarm's state was unknown for too long")
		it.startRestore(scope)
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

// roundDone takes a round's result, and plans its repetition while the alarm is active.
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
	d, stands := it.state.StillActive[scope]
	// The fall that withdrew the round took back all that stood; what the round found over is what it was for. The rest
	// rose since. A round that a person cancelled is followed by none.
	other := !isRound(r.RoundID, it.info.WorkflowExecution.ID, d.RequestID, active.Sequence)
	rose := stands && r.State == preemptapi.RoundWithdrawn && (active.Withdrawn || r.AlarmOver && other) && it.hasVersion(versionAgain)
	switch {
	case rose:
		it.state.postpone(preemptapi.Deferral{Scope: scope, Until: it.now(), Reason: "the alarm rose while the round before ended", Demand: d})
	case r.AlarmOver:
		it.state.Levels.ClearScope(scope)
		delete(it.state.StillActive, scope)
		it.state.dropDeferral(scope)
		it.startRestore(scope)
	case it.headroomStands(r, active.Sequence):
		it.startRestore(scope)
	case stands:
		it.goOn(scope, r, d, max(active.Sequence, 1)+1)
	}
	it.show()
}

// goOn plans what follows a round whose alarm stands: what a person has paused has its turn later, and the rest is repeated.
func (it *intake) goOn(scope string, r preemptapi.RoundResult, d preemptapi.Demand, sequence int) {
	switch {
	case r.Paused:
		it.state.postpone(preemptapi.Deferral{
			Scope: scope, Until: it.pausedUntil(time.Time{}), Reason: "a person has paused preemption", Demand: d, Sequence: sequence,
		})
	case repeats(d, r) && it.state.deferral(scope) == nil:
		it.repeat(scope, r, d, sequence)
	}
}

// headroomStands reports whether a round for headroom found that it is there.
func (it *intake) headroomStands(r preemptapi.RoundResult, sequence int) bool {
	d := it.state.LastDemand
	return d != nil && d.Headroom && isRound(r.RoundID, it.info.WorkflowExecution.ID, d.RequestID, sequence) && r.State != preemptapi.RoundWithdrawn && len(r.Targets) == 0 &&
		len(r.Usage) > 0 && r.Shortfall == policy.Resources{}
}

// repeats reports whether another round follows while the alarm is active.
func repeats(d preemptapi.Demand, r preemptapi.RoundResult) bool {
	return (d.Policy.RepeatWhileRed || r.Silenced != "") && r.State != preemptapi.RoundWithdrawn
}

// repeat plans another round after a pause, as the alarm is still active: a longer pause where earlier rounds found nobody, and
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

// checkRounds finds rounds that have ended without telling the intake.
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
